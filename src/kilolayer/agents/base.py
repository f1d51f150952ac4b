"""The base class of agents: hyperparameters as fields, and pure functions on an agent state.

An agent is a frozen dataclass. Its fields are the settings of its algorithm and become options of
`kilolayer train`. Nothing is copied out of a config. `on` returns a copy bound to a `Problem`: the
sizes and networks of one run. Only a bound agent can be run.
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
from kilolayer.errors import bad_field
from kilolayer.networks.actor import Actor, Gaussian, choose_action
from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.replay.buffer import Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import (
    MAX_INT32,
    NOT_A_SETTING,
    Decay,
    NonNegative,
    Positive,
    PositiveShare,
    Settings,
    Share,
)
from kilolayer.types import Array, Metrics

# (achieved goal [..., goal], goal [..., goal]) -> reward [...]
Reward = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class TaskSpec:
    """The sizes that an agent's networks need."""

    observation_dim: int
    action_dim: int
    goal_dim: int


@dataclass(frozen=True)
class Problem:
    """The learning problem of a run, and the shapes of the agent's networks.

    reward: 1 within the goal's success radius, else 0. episode_length: control steps of a training
    episode. goal_interval: control steps after which an environment's goal changes; None: never.
    updates: of the whole run, over which learning rates fall. own_torsos: of the `own_depths`.
    """

    task: TaskSpec
    actor_torso: TorsoSpec
    critic_torso: TorsoSpec
    reward: Reward = lambda achieved, goal: jnp.zeros(goal.shape[:-1])
    episode_length: int = 1000
    goal_interval: int | None = None
    updates: int = 1
    own_torsos: tuple[TorsoSpec, ...] = ()


class ActingAgent(Protocol):
    """The interface that an evaluation needs: an agent, or a policy without a critic."""

    def act(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array: ...

    def rate(self, state: Any, observation: Array, action: Array, goal: Array) -> Array: ...


@dataclass(frozen=True)
class Sampling:
    """Which steps an agent's batches hold.

    horizon: how far ahead hindsight goals lie: `geometric` with the agent's discount, or `uniform`
    over the rest of the episode. terminal_steps: whether batches include the steps at which an
    episode terminated, though these have no successor; never with a dataset, which does not know
    them. absorbing: whether termination is treated as an absorbing state. goal_noise: standard
    deviation of the noise on hindsight goals, in success radii.
    """

    horizon: Literal["geometric", "uniform"] = "geometric"
    terminal_steps: bool = False
    absorbing: bool = False
    goal_noise: float = 0.0


class DeepNetwork(NamedTuple):
    """A network, a batch of inputs `[batch, input]`, and the gradient of its loss on that batch."""

    encoder: Encoder
    inputs: Array
    gradient: Encoder


@dataclass(frozen=True, kw_only=True)
class Agent(Settings, abc.ABC):
    """The base class of every agent. It declares everything that the training loop calls.

    An agent state is a pytree of a type that the agent chooses. Others read two parts of it:
    `state.parameters`, all that the agent learns, and `state.parameters.actor`, which acts. The
    actor is what `average_decay` averages and what is saved as a policy.
    """

    # Sources of training data: the agent's own steps, a dataset, or both.
    learns_from: ClassVar[tuple[Literal["steps", "dataset"], ...]] = ("steps",)
    # Whether the actor sees its goal. Only such an actor can be saved as a policy.
    sees_goal: ClassVar[bool] = True
    # Whether `rate` asks a critic of actions; otherwise it is a rule that stands in for one.
    has_action_critic: ClassVar[bool] = False

    batch_size: Annotated[int, Interval(ge=2, le=MAX_INT32)] = 256
    """Transitions per update. A larger batch gives less noisy gradients and costs more time."""
    actor_learning_rate: Positive = 3e-4
    """Adam's step size for the actor. Lower it if scores fluctuate."""
    final_learning_rate_share: Share = 1.0
    """Final learning rate of the networks as a share of the initial one; it falls linearly. 1 keeps
    it constant. Lower it if late scores fluctuate."""
    constant_share: Share = 0.0
    """Share of the run before the learning rates start to fall. A falling target entropy starts to
    fall at the same time."""
    average_decay: Decay = 0.0
    """Decay per update of the running average of the actor's weights. The average is evaluated and
    saved. 0 uses the newest weights. Set 0.999 if scores fluctuate."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of the networks (AdamW), times their learning rate per update."""
    problem: Suppress[Problem | None] = dataclasses.field(default=None, metadata=NOT_A_SETTING)

    def on(self, problem: Problem) -> Self:
        """A copy of the agent that learns this problem; raises UserError if it cannot."""
        return dataclasses.replace(self, problem=problem)

    @property
    def bound(self) -> Problem:
        """The problem that the agent is bound to."""
        assert self.problem is not None, "bind the agent to a problem first: agent.on(problem)"
        return self.problem

    @abc.abstractmethod
    def init(self, key: Array) -> Any:
        """Draw parameters and optimiser state: the agent state, with `parameters.actor`."""

    @abc.abstractmethod
    def update(self, state: Any, batch: Any, key: Array) -> tuple[Any, Metrics]:
        """One gradient update; metrics are scalars named `part/quantity`.

        batch: a `Batch` from the buffer; for an `OnPolicyAgent`, `batch_size` of `prepare`'s steps.
        """

    def distribution(self, state: Any, observation: Array, goal: Array) -> Gaussian:
        """Mean and log standard deviation before the tanh, `[batch, action]` each."""
        return state.parameters.actor(observation, goal)

    def act(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        """Actions `[batch, action]` in [-1, 1] for `[batch, observation]` and `[batch, goal]`."""
        return choose_action(self.distribution(state, observation, goal), key, deterministic)

    def explore(self, state: Any, observation: Array, goal: Array, key: Array) -> Array:
        """Actions while collecting, shaped as in `act`. Default: `act` with noise."""
        return self.act(state, observation, goal, key, deterministic=False)

    @abc.abstractmethod
    def rate(self, state: Any, observation: Array, action: Array, goal: Array) -> Array:
        """The critic's rating of each row, `[...]`. It serves to choose among several actions."""

    @property
    def sampling(self) -> Sampling:
        """Which steps the agent's batches hold."""
        return Sampling()

    @property
    def own_depths(self) -> tuple[int, ...]:
        """Depths of further networks that the agent has besides those of the problem."""
        return ()

    def horizon_discount(self, progress: Array | float) -> Array | float:
        """Discount of geometric hindsight goals; progress: completed share of the run."""
        return 1.0

    def networks(self, state: Any, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The agent's deep networks by name, on a batch from the replay buffer, for the report."""
        return {}

    def constant_then_linear(self, first: float, last: float) -> optax.Schedule:
        """A schedule over updates: `first` for the constant share, then linear to `last`."""
        constant = round(self.constant_share * self.bound.updates)
        return optax.linear_schedule(first, last, max(1, self.bound.updates - constant), constant)

    def schedule(self, learning_rate: float) -> optax.ScalarOrSchedule:
        """The learning rate over updates: a number if it is constant."""
        if self.final_learning_rate_share == 1:
            return learning_rate
        final = self.final_learning_rate_share * learning_rate
        return self.constant_then_linear(learning_rate, final)

    def optimiser(self, learning_rate: float) -> optax.GradientTransformation:
        """The optimiser of a network with this initial learning rate."""
        return network_optimiser(self.schedule(learning_rate), self.weight_decay)

    def init_actor(self, key: Array) -> Actor:
        """Draw the parameters of a Gaussian actor of the problem's sizes."""
        task, torso = self.bound.task, self.bound.actor_torso
        return Actor.init(key, task.observation_dim, task.goal_dim, task.action_dim, torso)


@dataclass(frozen=True, kw_only=True)
class ActorCritic(Agent):
    """An agent whose parameters have the parts `actor` and `critic`."""

    has_action_critic = True

    critic_learning_rate: Positive = 3e-4
    """Adam's step size for the critic. Lower it if the critic's loss grows."""

    @property
    def optimisers(self) -> dict[str, optax.GradientTransformation]:
        """The optimiser of each part; weight decay applies to the networks only."""
        return {
            "actor": self.optimiser(self.actor_learning_rate),
            "critic": self.optimiser(self.critic_learning_rate),
        }


@dataclass(frozen=True, kw_only=True)
class EntropyAgent(ActorCritic):
    """An agent whose parameters have a third part, the `log_temperature` of the entropy."""

    temperature_learning_rate: Positive = 3e-4
    """Adam's step size for the temperature. Raise it if the entropy follows its target too
    slowly."""
    initial_temperature: Positive = 1.0
    """Initial weight of the entropy; updates tune it. Raise it to explore more at first."""
    target_entropy_per_action: float = -0.5
    """Target entropy of the policy divided by the number of action coordinates. Higher values
    explore more."""

    @property
    def optimisers(self) -> dict[str, optax.GradientTransformation]:
        temperature = optax.adam(self.temperature_learning_rate)
        return super().optimisers | {"log_temperature": temperature}


@dataclass(frozen=True, kw_only=True)
class OnPolicyAgent(Agent):
    """An agent that learns from each unroll once: in the round that collected it."""

    @abc.abstractmethod
    def prepare(self, state: Any, unroll: Transition) -> Any:
        """The steps from which the updates of one round draw their batches, leaves `[steps, ...]`.

        unroll: leaves `[time, envs, ...]` in order of time, collected with this `state`. Each
        `update` takes `batch_size` steps. All are used once before any step is used again.
        """


@dataclass(frozen=True, kw_only=True)
class RewardAgent(ActorCritic):
    """An agent whose critic adds up discounted rewards."""

    discount: PositiveShare = 0.99
    """A reward k steps ahead counts discount^k. It must be below 1."""

    def check(self) -> None:
        if self.discount == 1:  # the sum of rewards is unbounded
            allowed = "this agent adds up discounted rewards, so it must be below 1"
            raise bad_field("discount", self.discount, allowed, 0.99)
