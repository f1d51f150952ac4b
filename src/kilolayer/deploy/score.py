"""What a policy is worth on its task: the evaluation of training, on whole episodes of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from kilolayer.analysis.statistics import Estimate, mean_interval
from kilolayer.config import RunConfig
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import (
    HEADLINE,
    Episodes,
    Evaluator,
    episode_metrics,
    episode_scores,
    evaluation_key,
    evaluation_start,
)

FRESH = 2**30  # the number of an evaluation that no run comes to


@dataclass(frozen=True)
class Paired:
    """Two policies on the same episodes. change: of the time at goal, in control steps, episode by
    episode, from the baseline; its `seeds` are the episodes."""

    scores: dict[str, float]
    baseline: dict[str, float]
    change: Estimate


def paired(task: Task, episodes: Episodes, baseline: Episodes) -> Paired:
    """Raises UserError for a single episode."""
    ours, theirs = (episode_scores(task, each)[HEADLINE] for each in (episodes, baseline))
    longest = float(task.episode_length)
    return Paired(
        episode_metrics(task, episodes),
        episode_metrics(task, baseline),
        mean_interval(ours - theirs, (-longest, longest)),
    )


@dataclass(frozen=True)
class Scorer:
    """Plays the same starts and goals for every policy that it is given.

    config: of the run that the policies stem from, for its physics. episodes: of the task's
    evaluation goals. Two policies scored with one seed differ by what they do alone. index: of the
    evaluation with that seed; `FRESH` for starts and goals that no run and no choice has seen.
    """

    task: Task
    config: RunConfig
    episodes: int = 128
    seed: int = 0
    index: int = 0

    def scores(self, agent: Any, state: Any) -> dict[str, float]:
        """`episode_metrics` of an agent, an object with `act`, in this state."""
        return episode_metrics(self.task, self.play(agent, state))

    def play(self, agent: Any, state: Any) -> Episodes:
        return self._run(agent)(state, self.key, self.start)

    def time_at_goal(self, agent: Any, state: Any) -> float:
        """Mean control steps within the success radius: the score that deployment keeps."""
        return self.scores(agent, state)["time_at_goal"]

    def _run(self, agent: Any) -> Callable[..., Episodes]:
        evaluator = Evaluator(self.task, self.physics, agent, self.task.episode_length)
        return jax.jit(evaluator.run)

    @cached_property
    def physics(self) -> Any:
        config = self.config
        return build_physics(self.task.world, self.episodes, config.physics)

    @cached_property
    def key(self) -> jax.Array:
        return evaluation_key(self.seed, self.index)

    @cached_property
    def start(self) -> Any:
        return evaluation_start(self.task, self.key, self.episodes, "evaluation")
