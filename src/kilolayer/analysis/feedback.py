"""How much information the learning signal carries: contrastive loss against a sparse reward.

Contrastive: forward InfoNCE with loss L on a batch of B gives the lower bound log B - L on the
mutual information of a state-action pair and its goal. The bound never exceeds log B (arXiv
1807.03748, section 2.3). Reward: a transition within the success radius with probability p carries
at most the entropy H(p) <= log 2. Both are counted for every transition of every update. A
transition that is sampled again counts again: the sum measures the signal, not distinct facts.
"""

from dataclasses import dataclass

import numpy as np

NATS_PER_BIT = np.log(2.0)


@dataclass(frozen=True)
class Feedback:
    """Cumulative bits at each round, `[rounds]`. bound: the upper limit, log B per pair.

    updates `[rounds]`: cumulative number of updates.
    """

    updates: np.ndarray
    contrastive: np.ndarray
    bound: np.ndarray
    reward: np.ndarray


def feedback(
    updates: np.ndarray, loss: np.ndarray, success: np.ndarray, batch_size: int
) -> Feedback:
    """Compute bits from the mean InfoNCE loss in nats and the success rate per step, `[rounds]`.

    updates `[rounds]`: cumulative. A loss above log B, worse than chance, counts as no information.
    """
    pairs = np.diff(updates, prepend=0) * batch_size
    information = np.clip(np.log(batch_size) - loss, 0, None) / NATS_PER_BIT
    return Feedback(
        updates=np.asarray(updates),
        contrastive=np.cumsum(pairs * information),
        bound=np.cumsum(pairs * np.log2(batch_size)),
        reward=np.cumsum(pairs * bernoulli_entropy(success)),
    )


def bernoulli_entropy(p: np.ndarray) -> np.ndarray:
    """Entropy in bits of a binary event with probability `p`, elementwise."""
    p = np.clip(np.asarray(p, np.float64), 1e-12, 1 - 1e-12)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
