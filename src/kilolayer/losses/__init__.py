"""Losses as functions of arrays: `(scalar, metrics)`. Knows no network and no agent."""
