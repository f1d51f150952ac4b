"""How much a run's learning signal can tell its networks: contrastive beside a sparse reward.

Contrastive: forward InfoNCE with loss L on a batch of B bounds the information of a pair about its
goal from below by log B - L, and can never show more than log B (arXiv 1807.03748, section 2.3).
Reward: a transition that is within the success radius with chance p tells at most the entropy of
that, H(p) <= log 2. Both are counted once for every transition of every update, so a transition
drawn again counts again: an account of the signal given, not of distinct facts.
"""

from dataclasses import dataclass

import numpy as np

NATS_PER_BIT = np.log(2.0)


@dataclass(frozen=True)
class Feedback:
    """Bits accumulated by each round, `[rounds]`; bound: what B alone would allow, log B per pair.

    updates `[rounds]`: done by then.
    """

    updates: np.ndarray
    contrastive: np.ndarray
    bound: np.ndarray
    reward: np.ndarray


def feedback(
    updates: np.ndarray, loss: np.ndarray, success: np.ndarray, batch_size: int
) -> Feedback:
    """From the mean InfoNCE loss in nats and the chance of success per step, both `[rounds]`.

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
    """Bits of an event with these chances."""
    chance = np.clip(np.asarray(chance, np.float64), 1e-12, 1 - 1e-12)
    return -(chance * np.log2(chance) + (1 - chance) * np.log2(1 - chance))
