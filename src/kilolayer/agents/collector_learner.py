"""Two agents on one buffer: one collects, the other is evaluated, and both learn from it alike.

It tells what depth does for exploration from what it does for learning: the learner meets only what
a collector of another depth has reached (the question of arXiv 2503.14858, section 4.4).
"""

from dataclasses import dataclass

import equinox as eqx
import jax

from kilolayer.agents.base import DeepNetwork
from kilolayer.agents.crl import CRL, CRLState, Parameters
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array, Metrics


class CollectorLearnerState(eqx.Module):
    learner: CRLState
    collector: CRLState

    @property
    def parameters(self) -> Parameters:
        """The learner's."""
        return self.learner.parameters


@dataclass(frozen=True)
class CollectorLearner:
    """Acts and rates as the learner does; only what fills the buffer comes from the collector.

    The two start from weights of their own, also where they are equally deep.
    """

    learner: CRL
    collector: CRL

    def init(self, key: Array) -> CollectorLearnerState:
        learner_key, collector_key = jax.random.split(key)
        return CollectorLearnerState(
            self.learner.init(learner_key), self.collector.init(collector_key)
        )

    def explore(
        self,
        state: CollectorLearnerState,
        observation: Array,
        goal: Array,
        key: Array,
        deterministic: bool,
    ) -> Array:
        return self.collector.act(state.collector, observation, goal, key, deterministic)

    def act(
        self,
        state: CollectorLearnerState,
        observation: Array,
        goal: Array,
        key: Array,
        deterministic: bool,
    ) -> Array:
        return self.learner.act(state.learner, observation, goal, key, deterministic)

    def energy(
        self, state: CollectorLearnerState, observation: Array, action: Array, goal: Array
    ) -> Array:
        return self.learner.energy(state.learner, observation, action, goal)

    def update(
        self, state: CollectorLearnerState, batch: Batch, key: Array
    ) -> tuple[CollectorLearnerState, Metrics]:
        """Both on the same batch; the learner's metrics, and the collector's by `collector_`."""
        learner_key, collector_key = jax.random.split(key)
        learner, metrics = self.learner.update(state.learner, batch, learner_key)
        collector, others = self.collector.update(state.collector, batch, collector_key)
        metrics |= {f"collector_{name}": value for name, value in others.items()}
        return CollectorLearnerState(learner, collector), metrics

    def networks(
        self, state: CollectorLearnerState, batch: Batch, key: Array
    ) -> dict[str, DeepNetwork]:
        return self.learner.networks(state.learner, batch, key)
