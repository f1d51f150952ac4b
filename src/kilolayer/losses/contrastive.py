"""Contrastive critic losses on a matrix of energies (arXiv 2206.07568; 2408.11052, table 1)."""

from typing import Literal

import jax
import jax.numpy as jnp

from kilolayer.types import Array, Metrics

ContrastiveLoss = Literal["forward", "backward", "symmetric", "binary"]


def contrastive_loss(
    kind: ContrastiveLoss, logits: Array, logsumexp_penalty: float
) -> tuple[Array, Metrics]:
    """The critic's loss, and what to log.

    logits: energies `[batch, batch]`; row i is a state-action pair, column j a goal, and the
    diagonal holds the positive pairs.
    forward: InfoNCE over the goals of each row; backward: InfoNCE over the rows of each goal;
    symmetric: the mean of both; binary: every entry is classified alone (noise-contrastive
    estimation with all off-diagonal entries as negatives; positives and negatives have the same
    weight).
    The penalty is `logsumexp_penalty * mean_i (logsumexp_j f_ij)^2`, over rows.
    accuracy: share of the rows whose own goal has the highest energy. A row in which k goals share
    the highest energy counts 1/k, so that a constant critic scores at chance level, 1/batch.
    """
    positive = jnp.diagonal(logits)
    log_partition = jax.nn.logsumexp(logits, axis=1)
    forward = jnp.mean(log_partition - positive)
    if kind == "forward":
        loss = forward
    elif kind == "binary":
        loss = _binary(logits)
    else:
        backward = jnp.mean(jax.nn.logsumexp(logits, axis=0) - positive)
        loss = backward if kind == "backward" else 0.5 * (forward + backward)
    penalty = logsumexp_penalty * jnp.mean(jnp.square(log_partition))
    highest = logits == logits.max(axis=1, keepdims=True)
    batch = logits.shape[0]
    negative_mean = (logits.sum() - positive.sum()) / (batch * (batch - 1))
    return loss + penalty, {
        "loss": loss + penalty,
        "contrastive_loss": loss,
        "logsumexp": jnp.mean(log_partition),
        "accuracy": jnp.mean(highest.diagonal() / highest.sum(axis=1)),
        "positive_energy": jnp.mean(positive),
        "negative_energy": negative_mean,
    }


def _binary(logits: Array) -> Array:
    batch = logits.shape[0]
    positive = jnp.mean(jax.nn.softplus(-jnp.diagonal(logits)))
    all_as_negative = jax.nn.softplus(logits)
    off_diagonal = all_as_negative.sum() - jnp.diagonal(all_as_negative).sum()
    return positive + off_diagonal / (batch * (batch - 1))
