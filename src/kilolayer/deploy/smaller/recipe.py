"""The settings of a distillation: options of `kilolayer distil`. Loads nothing heavy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from kilolayer.settings import Count, Positive, Settings, Share

if TYPE_CHECKING:
    from kilolayer.agents.base import Agent
    from kilolayer.config import RunConfig

ENVS = 128
UNROLL_LENGTH = 25  # control steps
MAX_BUFFER_STEPS = 10_000  # steps of each environment in the buffer
MAX_UPDATES_PER_STEP = 1000.0  # far above what is useful


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Settings of a distillation."""

    steps: Count = 500_000
    """Environment steps of each student, over all environments. Raise it if the score is below the
    teacher's."""
    critic_weighted: bool = False
    """Give more weight to rows where the student's action is worse according to the teacher's
    critic. Needs a run with a critic."""
    hindsight_share: Share = 0.5
    """Share of the rows with a hindsight goal, in 0 to 1."""
    teacher_acts: Share = 0.1
    """Share of the steps during which the teacher acts in some environments; the share of these
    environments falls from all to none."""
    batch_size: Count = 256
    """Rows per update."""
    updates_per_step: Annotated[float, Interval(gt=0, le=MAX_UPDATES_PER_STEP)] = 1 / 20
    """Updates of the student per environment step."""
    learning_rate: Positive = 1e-3
    """Initial step size of Adam; it falls to zero along a cosine. Lower it if the student
    diverges."""

    def config(self, teacher: "RunConfig", agent: "Agent", seed: int) -> "RunConfig":
        """The config for training the student with `agent` in the teacher's environments."""
        # Enough for the first batch: each environment's newest step has no hindsight goal yet.
        first = 1 + -(-self.batch_size // ENVS)
        return teacher.having(
            seed=seed,
            total_steps=self.steps,
            num_envs=ENVS,
            unroll_length=UNROLL_LENGTH,
            dataset=None,
            agent=agent,
            update_to_data=self.updates_per_step,
            min_replay_steps_per_env=first,
            # DAgger keeps all steps.
            replay_steps_per_env=min(max(first, self.steps // ENVS + 1), MAX_BUFFER_STEPS),
            num_evaluations=1,
        )
