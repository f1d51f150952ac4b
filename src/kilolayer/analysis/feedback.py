"""How much information the learning signal carries: contrastive loss against a sparse reward.

Contrastive: forward InfoNCE with loss L on a batch of B gives the lower bound log B - L on the
information of a pair about its goal. The bound never exceeds log B (arXiv 1807.03748, section 2.3).
Reward: a transition within the success radius with probability p carries at most the entropy
H(p) <= log 2. Both are counted for every transition of every update. A transition that is sampled
again counts again: the sum measures the signal given, not distinct facts.
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
    done = np.diff(updates, prepend=0)
    pairs = done * batch_size
    information = np.clip(np.log(batch_size) - loss, 0, None) / NATS_PER_BIT
    return Feedback(
        updates=np.asarray(updates),
        contrastive=np.cumsum(pairs * information),
        bound=np.cumsum(pairs * np.log2(batch_size)),
        reward=np.cumsum(pairs * entropy(success)),
    )


def entropy(chance: np.ndarray) -> np.ndarray:
    """Entropy in bits of a binary event with each probability `chance`."""
    chance = np.clip(np.asarray(chance, np.float64), 1e-12, 1 - 1e-12)
    return -(chance * np.log2(chance) + (1 - chance) * np.log2(1 - chance))
