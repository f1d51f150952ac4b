"""Losses as functions of arrays. This package uses no network, no agent and no files.

Offers `contrastive.contrastive_loss` over the energies of `energies`, the losses of actor and
temperature, temporal-difference targets and losses, and the divergence for distillation. Losses
with metrics return `(scalar, metrics)`; the caller prefixes the names of the metrics.
"""
