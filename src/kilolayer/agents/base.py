"""The protocol of an agent: init, act, update, and how it rates what it would do.

What an agent may say beside these: which steps it learns from (`sampling`), that it learns from the
newest unroll alone (`OnPolicy`), and what its deep networks are (`HasNetworks`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from kilolayer.networks.encoders import Encoder
from kilolayer.replay.buffer import Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array, Metrics

# (achieved goal [..., goal], goal [..., goal]) -> what being there is worth, [...]
Reward = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class TaskSpec:
    """The sizes that an agent's networks need."""

    observation_dim: int
    action_dim: int
    goal_dim: int


@dataclass(frozen=True)
class Sampling:
    """Which steps an agent's batches hold; it says so by an attribute `sampling` of its class.

    horizon: how far ahead hindsight goals lie, `geometric` with the config's discount or `uniform`
    over the rest of the episode. terminal_steps: whether steps at which an episode terminated are
    drawn too, though nothing follows them.
    """

    horizon: Literal["geometric", "uniform"] = "geometric"
    terminal_steps: bool = False


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

    def update(self, state: Any, batch: Any, key: Array) -> tuple[Any, Metrics]:
        """One gradient update; metrics are scalars named `part/quantity`.

        batch: a `Batch` from the replay buffer, but for agents that are `OnPolicy`.
        """
        ...

    def energy(self, state: Any, observation: Array, action: Array, goal: Array) -> Array:
        """How highly the critic rates each row, `[...]`: used to choose among several actions."""
        ...


@runtime_checkable
class OnPolicy(Protocol):
    """An agent that learns from what it has just done: the newest unroll, and never again."""

    def prepare(self, state: Any, unroll: Transition) -> Any:
        """What the updates of one round draw their batches from, leaves `[steps, ...]`.

        unroll: leaves `[time, worlds, ...]` in order of time, collected by this very `state`. Each
        `update` then takes `batch_size` of the steps; all are passed once before any is again.
        """
        ...


class DeepNetwork(NamedTuple):
    """A network, inputs `[batch, input]` to it, and the gradient of its own loss there."""

    encoder: Encoder
    inputs: Array
    gradient: Encoder


@runtime_checkable
class HasNetworks(Protocol):
    """An agent whose deep networks the report can look into."""

    def networks(self, state: Any, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """Each deep network by its name, on a batch from the replay buffer."""
        ...


@runtime_checkable
class Explorer(Protocol):
    """An agent whose buffer is filled by another policy than the one that it evaluates."""

    def explore(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        """What to do while collecting, in place of `act`."""
        ...
