"""Losses as functions of arrays: `(scalar, metrics)`. This package uses no network and no agent."""
