"""Two agents with one replay buffer: the collector fills it, both learn, the learner is evaluated.

This separates the effect of depth on exploration from its effect on learning: the learner is
trained only on data from a collector of another depth (arXiv 2503.14858, section 4.4).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax

from kilolayer.agents.base import DeepNetwork
from kilolayer.agents.crl import CRL, CRLState, Parameters
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import values_of
from kilolayer.types import Array, Metrics


class CollectorLearnerState(eqx.Module):
    learner: CRLState
    collector: CRLState

    @property
    def parameters(self) -> Parameters:
        """The parameters of the learner."""
        return self.learner.parameters


@dataclass(frozen=True, kw_only=True)
class CollectorLearner(CRL):
    """Contrastive reinforcement learning from data that an agent of another depth collects.

    Learner and collector have separate initial weights, even at equal depth.
    """

    collector_depth: int = 4
    """Depth of a separate data-collecting agent (ablation)."""

    @property
    def own_depths(self) -> tuple[int, ...]:
        return (self.collector_depth, self.collector_depth)

    @property
    def learner(self) -> CRL:
        """The agent that is evaluated."""
        values = values_of(self)
        del values["collector_depth"]
        return CRL(**values, problem=self.problem)

    @property
    def collector(self) -> CRL:
        """The agent that fills the buffer."""
        actor, critic = self.bound.own_torsos
        problem = dataclasses.replace(self.bound, actor_torso=actor, critic_torso=critic)
        return self.learner.on(problem)

    def init(self, key: Array) -> Any:
        learner_key, collector_key = jax.random.split(key)
        return CollectorLearnerState(
            self.learner.init(learner_key), self.collector.init(collector_key)
        )

    def distribution(self, state: Any, observation: Array, goal: Array) -> tuple[Array, Array]:
        return self.learner.distribution(state.learner, observation, goal)

    def explore(self, state: Any, observation: Array, goal: Array, key: Array) -> Array:
        return self.collector.explore(state.collector, observation, goal, key)

    def rate(self, state: Any, observation: Array, action: Array, goal: Array) -> Array:
        return self.learner.rate(state.learner, observation, action, goal)

    def update(self, state: Any, batch: Batch, key: Array) -> tuple[Any, Metrics]:
        """Update both agents on the same batch; metrics of the collector have the prefix
        `collector_`."""
        learner_key, collector_key = jax.random.split(key)
        learner, metrics = self.learner.update(state.learner, batch, learner_key)
        collector, collector_metrics = self.collector.update(state.collector, batch, collector_key)
        metrics |= {f"collector_{name}": value for name, value in collector_metrics.items()}
        return CollectorLearnerState(learner, collector), metrics

    def networks(self, state: Any, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        return self.learner.networks(state.learner, batch, key)
