"""The settings of the replay buffer."""

from dataclasses import dataclass

from kilolayer.settings import Count, Settings


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(Settings):
    """Size of the replay buffer. On-policy agents (ppo) have none, and refuse these options."""

    replay_steps_per_env: Count = 10_000
    """Newest steps of each environment that the replay buffer keeps, rounded up to whole unrolls.
    Lower it to save memory or to train on newer data."""
    min_replay_steps_per_env: Count = 1_000
    """Steps that each environment takes before the first update, rounded up to whole unrolls. Raise
    it for more varied first batches."""
