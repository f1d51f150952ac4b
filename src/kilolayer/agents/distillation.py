"""On-policy distillation: the student collects, and the teacher labels its states with actions.

As in DAgger (arXiv 1011.0686), the states are those that the student visits, so that it learns to
recover from its own errors. The buffer keeps all of them. The teacher runs again at every update,
because it must also act for hindsight goals.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import Agent, Sampling
from kilolayer.agents.imitation import Parameters
from kilolayer.agents.optimiser import apply_gradients, init_moments, network_optimiser
from kilolayer.errors import UserError
from kilolayer.losses.distillation import critic_weights, gaussian_divergence
from kilolayer.networks.actor import Actor, Gaussian, sample_action
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import NOT_A_SETTING, PositiveShare, Share
from kilolayer.types import Array, Metrics

# (critic state, observation, action, goal) -> ratings [batch]
Rate = Callable[[Any, Array, Array, Array], Array]


class DistillationState(eqx.Module):
    """parameters: of the student. teacher, critic: constant; critic is None if all rows have the
    same weight."""

    parameters: Parameters
    optimiser: dict[str, Any]
    teacher: Actor
    critic: Any
    updates: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Distillation(Agent):
    """The agent that learns to act like `teacher`. Its network has the problem's `actor_torso`.

    Its learning rate falls to zero along a cosine over the problem's updates. start: the student's
    initial network; default: drawn at random. hindsight_share: share of a batch's rows with a
    hindsight goal; the other rows have the commanded goal. teacher_acts: share of the updates
    during which the teacher acts in some environments; their share falls from all to none. rate_of,
    critic: the teacher's critic, which weights each row by the cost of the student's action.
    """

    teacher: Actor = field(metadata=NOT_A_SETTING)
    start: Actor | None = field(default=None, metadata=NOT_A_SETTING)
    hindsight_share: Share = 0.5
    teacher_acts: Share = 0.0
    discount: PositiveShare = 0.99
    absorbing_termination: bool = False
    rate_of: Rate | None = field(default=None, metadata=NOT_A_SETTING)
    critic: Any = field(default=None, metadata=NOT_A_SETTING)

    def init(self, key: Array) -> DistillationState:
        student = self.init_actor(key) if self.start is None else self.start
        # Copies, because a training round donates the memory of its state.
        student, teacher, critic = jax.tree.map(jnp.copy, (student, self.teacher, self.critic))
        parameters = Parameters(student)
        moments = init_moments(self.optimisers, parameters)
        return DistillationState(parameters, moments, teacher, critic, jnp.zeros((), jnp.int32))

    @property
    def optimisers(self) -> dict[str, optax.GradientTransformation]:
        schedule = optax.cosine_decay_schedule(self.actor_learning_rate, max(1, self.bound.updates))
        return {"actor": network_optimiser(schedule)}

    @property
    def sampling(self) -> Sampling:
        return Sampling(absorbing=self.absorbing_termination)

    def horizon_discount(self, progress: Array | float) -> float:
        return self.discount

    def explore(
        self, state: DistillationState, observation: Array, goal: Array, key: Array
    ) -> Array:
        """The teacher acts in the first `teacher_share` of the environments, else the student.

        Every second environment acts without noise, as a deployed student does. The environments
        with noise visit more states.
        """
        student = _half_noisy_actions(state.parameters.actor, observation, goal, key)
        envs = observation.shape[0]
        by_teacher = jnp.arange(envs) < jnp.round(envs * self.teacher_share(state.updates))

        def mixed() -> Array:
            teacher = _half_noisy_actions(state.teacher, observation, goal, key)
            return jnp.where(by_teacher[:, None], teacher, student)

        return jax.lax.cond(by_teacher.any(), mixed, lambda: student)

    def teacher_share(self, updates: Array) -> Array:
        """Share of the environments in which the teacher acts after this number of updates."""
        duration = max(1.0, self.teacher_acts * self.bound.updates)
        return jnp.clip(1 - (updates + 1) / duration, 0, 1)

    def update(
        self, state: DistillationState, batch: Batch, key: Array
    ) -> tuple[DistillationState, Metrics]:
        goal = batch.mixed_goals(self.hindsight_share, key)
        target = state.teacher(batch.observation, goal)
        gradient, metrics = jax.grad(self.loss, has_aux=True)(
            state.parameters.actor, target, state.critic, batch.observation, goal
        )
        metrics |= {
            "student/gradient_norm": optax.tree.norm(gradient),
            "student/teacher_share": self.teacher_share(state.updates),
        }
        parameters, moments = apply_gradients(
            self.optimisers, state.parameters, {"actor": gradient}, state.optimiser
        )
        state = dataclasses.replace(
            state, parameters=parameters, optimiser=moments, updates=state.updates + 1
        )
        return state, metrics

    def loss(
        self, student: Actor, target: Gaussian, critic: Any, observation: Array, goal: Array
    ) -> tuple[Array, Metrics]:
        """Weighted mean of `KL(teacher || student)` over the rows, and metrics.

        target: the teacher's mean and log standard deviation, `[batch, action]`. squared_error: of
        the deterministic action, per coordinate.
        """
        policy = student(observation, goal)
        divergence = gaussian_divergence(target, policy)
        actions = jnp.tanh(target[0]), jnp.tanh(policy[0])
        weights = jnp.ones_like(divergence)
        if self.rate_of is not None:
            energies = [self.rate_of(critic, observation, action, goal) for action in actions]
            weights = critic_weights(*energies)
        loss = jnp.mean(weights * divergence)
        return loss, {
            "student/loss": loss,
            "student/divergence": jnp.mean(divergence),
            "student/squared_error": jnp.mean(jnp.square(actions[0] - actions[1])),
        }

    def rate(
        self, state: DistillationState, observation: Array, action: Array, goal: Array
    ) -> Array:
        raise UserError("a student has no critic to choose among actions: use 1 sample.")


def _half_noisy_actions(actor: Actor, observation: Array, goal: Array, key: Array) -> Array:
    """Sampled actions in even rows, deterministic actions in odd rows."""
    mean, log_std = actor(observation, goal)
    noisy = sample_action(mean, log_std, key)[0]
    return jnp.where(jnp.arange(len(mean))[:, None] % 2 == 0, noisy, jnp.tanh(mean))
