"""What an agent is: its hyperparameters, which are its fields, and pure functions on its state.

An agent is a frozen dataclass. Its fields are the settings of its algorithm, options of `kilolayer
train` among them; nothing is copied out of a config. `on` gives the copy that can be run: it knows
its `Problem`, the sizes and networks of one run.
"""

import abc
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, Self

import jax.numpy as jnp
import optax
from annotated_types import Interval
from tyro.conf import Suppress

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.networks.actor import sample_action
from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.replay.buffer import Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import MOST, NOT_A_SETTING, Decay, NonNegative, Positive, Settings, Share
from kilolayer.types import Array, Metrics, bad_field

# (achieved goal [..., goal], goal [..., goal]) -> what being there is worth, [...]
Reward = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class TaskSpec:
    """The sizes that an agent's networks need."""

    observation_dim: int
    action_dim: int
    goal_dim: int


@dataclass(frozen=True)
class Problem:
    """What an agent learns in, and with which networks.

    reward: 1 within the goal's success radius, else 0. episode_length, goal_interval: control steps
    of a training episode, and after which its goal changes, None for never. updates: how many the
    run consists of, over which learning rates fall. own_torsos: those
    of the agent's `own_depths`.
    """

    task: TaskSpec
    actor_torso: TorsoSpec
    critic_torso: TorsoSpec
    reward: Reward = lambda achieved, goal: jnp.zeros(goal.shape[:-1])
    episode_length: int = 1000
    goal_interval: int | None = None
    updates: int = 1
    own_torsos: tuple[TorsoSpec, ...] = ()


class Player(Protocol):
    """What acts in an evaluation: every agent does, and so does a policy without its critic."""

    def act(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array: ...

    def rate(self, state: Any, observation: Array, action: Array, goal: Array) -> Array: ...


@dataclass(frozen=True)
class Sampling:
    """Which steps an agent's batches hold.

    horizon: how far ahead hindsight goals lie, `geometric` with the agent's discount or `uniform`
    over the rest of the episode. terminal_steps: whether steps at which an episode terminated are
    drawn too, though nothing follows them. absorbing: whether an environment that terminated counts
    as staying there. goal_noise: standard deviation of noise on hindsight goals, in success radii.
    """

    horizon: Literal["geometric", "uniform"] = "geometric"
    terminal_steps: bool = False
    absorbing: bool = False
    goal_noise: float = 0.0


class DeepNetwork(NamedTuple):
    """A network, inputs `[batch, input]` to it, and the gradient of its own loss there."""

    encoder: Encoder
    inputs: Array
    gradient: Encoder


@dataclass(frozen=True, kw_only=True)
class Agent(Settings, abc.ABC):
    """The base of every agent, which states all that the training loop calls."""

    # What it can learn from: steps of its own, a dataset, or both.
    learns_from: ClassVar[tuple[Literal["steps", "dataset"], ...]] = ("steps",)

    batch_size: Annotated[int, Interval(ge=2, le=MOST)] = 256
    """Transitions per update. A larger batch gives less noisy gradients and costs more time."""
    actor_learning_rate: Positive = 3e-4
    """Adam's step size for the actor. Lower it if scores fluctuate."""
    final_learning_rate_share: Share = 1.0
    """Share of the networks' learning rates that is left at the end of the run; they fall linearly.
    1 keeps them constant. Lower it if late scores fluctuate."""
    constant_share: Share = 0.0
    """Share of the run before the learning rates, and a target entropy that falls, begin to
    fall."""
    average_decay: Decay = 0.0
    """Decay per update of the running average of the actor's weights. The average is evaluated and
    saved. 0 uses the newest weights. Set 0.999 if scores fluctuate."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of the networks (AdamW), times their learning rate per update."""
    problem: Suppress[Problem | None] = dataclasses.field(default=None, metadata=NOT_A_SETTING)

    def on(self, problem: Problem) -> Self:
        """The agent that learns this problem; raises UserError if it cannot."""
        return dataclasses.replace(self, problem=problem)

    @property
    def bound(self) -> Problem:
        """The problem that it learns."""
        assert self.problem is not None, "an agent learns a problem: agent.on(problem)"
        return self.problem

    @abc.abstractmethod
    def init(self, key: Array) -> Any:
        """Draw parameters and optimiser state, a pytree of the agent's own making."""

    @abc.abstractmethod
    def update(self, state: Any, batch: Any, key: Array) -> tuple[Any, Metrics]:
        """One gradient update; metrics are scalars named `part/quantity`.

        batch: a `Batch` from the replay buffer; of an `OnPolicyAgent`, `batch_size` of the steps
        that `prepare` returned.
        """

    def distribution(self, state: Any, observation: Array, goal: Array) -> tuple[Array, Array]:
        """Mean and log standard deviation before the tanh, `[batch, action]` each."""
        return state.parameters.actor(observation, goal)

    def act(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        """Actions `[batch, action]` in [-1, 1] for `[batch, observation]` and `[batch, goal]`."""
        mean, log_std = self.distribution(state, observation, goal)
        return jnp.tanh(mean) if deterministic else sample_action(mean, log_std, key)[0]

    def explore(self, state: Any, observation: Array, goal: Array, key: Array) -> Array:
        """Actions while collecting, as `act` gives them. Default: with its noise."""
        return self.act(state, observation, goal, key, deterministic=False)

    @abc.abstractmethod
    def rate(self, state: Any, observation: Array, action: Array, goal: Array) -> Array:
        """How highly the critic rates each row, `[...]`: used to choose among several actions."""

    @property
    def sampling(self) -> Sampling:
        """Which steps its batches hold."""
        return Sampling()

    @property
    def own_depths(self) -> tuple[int, ...]:
        """Depths of networks that it has beside those of the problem."""
        return ()

    def horizon_discount(self, done: Array | float) -> Array | float:
        """Discount of hindsight goals after a share `done` of the run, where they are geometric."""
        return 1.0

    def networks(self, state: Any, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """Each deep network by its name, on a batch from the replay buffer, for the report."""
        return {}

    def falling(self, rate: float) -> optax.ScalarOrSchedule:
        """A learning rate that falls to its final share."""
        if self.final_learning_rate_share == 1:
            return rate
        return self.settling(rate, self.final_learning_rate_share * rate)

    def settling(self, first: float, last: float) -> optax.Schedule:
        """From a number to another by updates, linearly, after the constant share of the run."""
        constant = round(self.constant_share * self.bound.updates)
        return optax.linear_schedule(first, last, max(1, self.bound.updates - constant), constant)

    def optimiser(self, rate: float) -> optax.GradientTransformation:
        """Of a network that learns at this rate."""
        return network_optimiser(self.falling(rate), self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class OnPolicyAgent(Agent):
    """An agent that learns from the newest unroll alone, and never again."""

    @abc.abstractmethod
    def prepare(self, state: Any, unroll: Transition) -> Any:
        """The steps that the updates of one round draw their batches from, leaves `[steps, ...]`.

        unroll: leaves `[time, envs, ...]` in order of time, collected by this very `state`. Each
        `update` takes `batch_size` of the steps; all are passed once before any is again.
        """


def check_discount(discount: float) -> None:
    """Raises UserError for a discount with which rewards do not add up."""
    if discount == 1:
        allowed = "this agent adds up discounted rewards, so it must be below 1"
        raise bad_field("discount", discount, allowed, 0.99)
