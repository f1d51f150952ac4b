"""The protocol of an agent: init, act, update, and how it rates what it would do."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array, Metrics


@dataclass(frozen=True)
class TaskSpec:
    """The sizes that an agent's networks need."""

    observation_dim: int
    action_dim: int
    goal_dim: int


class Agent(Protocol):
    """Pure functions on an agent state, a pytree of the agent's own making."""

    def init(self, key: Array) -> Any:
        """Draw parameters and optimiser state."""
        ...

    def act(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        """Actions `[batch, action]` in [-1, 1] for `[batch, observation]` and `[batch, goal]`."""
        ...

    def update(self, state: Any, batch: Batch, key: Array) -> tuple[Any, Metrics]:
        """One gradient update; metrics are scalars named `part/quantity`."""
        ...

    def energy(self, state: Any, observation: Array, action: Array, goal: Array) -> Array:
        """How highly the critic rates each row, `[...]`: used to choose among several actions."""
        ...


@runtime_checkable
class Explorer(Protocol):
    """An agent whose buffer is filled by another policy than the one that it evaluates."""

    def explore(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        """What to do while collecting, in place of `act`."""
        ...
