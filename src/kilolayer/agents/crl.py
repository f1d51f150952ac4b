"""Contrastive reinforcement learning (arXiv 2206.07568, with the choices of 2503.14858)."""

from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from pydantic import BeforeValidator

from kilolayer.agents.base import DeepNetwork, EntropyAgent, Sampling
from kilolayer.agents.optimiser import apply_gradients, init_moments
from kilolayer.errors import bad_field
from kilolayer.losses.actor import actor_loss, temperature_loss
from kilolayer.losses.contrastive import ContrastiveLoss, contrastive_loss
from kilolayer.losses.energies import Energy, pairwise, present_name, rowwise
from kilolayer.networks.actor import Actor, Gaussian, gaussian, sample_action
from kilolayer.networks.encoders import Encoder, apply_together
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import Count, NonNegative, PositiveShare, Share
from kilolayer.types import Array, Metrics


class Critic(eqx.Module):
    """Two encoders; the energy of their outputs says how likely the goal lies in the future."""

    state_action: Encoder
    goal: Encoder

    def encode_pair(self, observation: Array, action: Array) -> Array:
        """phi(s, a): `[..., representation]`."""
        return self.state_action(jnp.concatenate([observation, action], -1))


class Parameters(eqx.Module):
    actor: Actor
    critic: Critic
    log_temperature: Array


class CRLState(eqx.Module):
    """optimiser: the optax state of each part of the parameters, by the part's name."""

    parameters: Parameters
    optimiser: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CRL(EntropyAgent):
    """Contrastive reinforcement learning: contrasts each transition with the goals of others."""

    learns_from = ("steps", "dataset")

    discount: PositiveShare = 0.99
    """Hindsight goals lie k steps ahead with probability proportional to discount^k. The horizon is
    1/(1 - discount) steps. Lower it if actions have only short effects."""
    initial_discount: PositiveShare | None = None
    """Discount of hindsight goals at the start of the run; the horizon then grows linearly.
    Default: the horizon is constant. Set a lower value if learning does not start."""
    horizon_growth_share: PositiveShare = 1.0
    """Share of the run over which the horizon grows from `initial_discount`; after that it is
    constant. Lower it to train longer with the final horizon."""
    representation_dim: Count = 64
    """Dimension of the critic's two encodings. Raise it if goals have many coordinates."""
    energy: Annotated[Energy, BeforeValidator(present_name)] = "euclidean"
    """Similarity of the critic's two encodings. `euclidean` is the negative distance. Change it to
    compare critics."""
    contrastive_loss: ContrastiveLoss = "forward"
    """InfoNCE over goals (`forward`), over state-action pairs (`backward`) or both (`symmetric`),
    or `binary` cross-entropy. Change it to compare critics."""
    logsumexp_penalty: NonNegative = 0.1
    """Weight of the squared log-partition, which keeps energies from drifting. Raise it if energies
    grow without bound."""
    final_target_entropy_per_action: float | None = None
    """Target entropy at the end of the run, reached linearly. Default: it is constant. Lower it if
    the deterministic policy scores worse than the one with noise."""
    shuffled_goal_share: Share = 0.0
    """Share of the actor's batch that takes the hindsight goal of another row. It trains goals far
    from the state."""
    commanded_goal_share: Share = 0.0
    """Share of the actor's batch that takes the commanded goal. It trains goals farther than any
    state reached so far."""
    hindsight_goal_noise: NonNegative = 0.0
    """Standard deviation of Gaussian noise on hindsight goals, in success radii. Raise it if the
    agent overshoots small distances."""
    deterministic_env_share: Share = 0.0
    """Share of the environments that act without exploration noise while collecting. Raise it if
    the deterministic policy freezes in states that the stochastic policy leaves."""
    absorbing_termination: bool = False
    """Treat termination as an absorbing state when sampling hindsight goals. Set it for bodies that
    fall."""

    def check(self) -> None:
        first = self.initial_discount
        if first is not None and self.discount == 1:
            raise bad_field("discount", 1.0, "with an initial_discount it must be below 1", 0.99)
        if first is not None and first > self.discount:
            allowed = f"it must lie in (0, {self.discount}]"
            raise bad_field("initial_discount", first, allowed, self.discount)
        rest = 1.0 - self.shuffled_goal_share
        if self.commanded_goal_share > rest + 1e-9:
            allowed = f"with shuffled_goal_share = {self.shuffled_goal_share} the two exceed 1"
            raise bad_field("commanded_goal_share", self.commanded_goal_share, allowed, rest)

    def init(self, key: Array) -> CRLState:
        actor_key, pair_key, goal_key = jax.random.split(key, 3)
        task, torso, out = self.bound.task, self.bound.critic_torso, self.representation_dim
        pair_dim = task.observation_dim + task.action_dim
        parameters = Parameters(
            actor=self.init_actor(actor_key),
            critic=Critic(
                state_action=Encoder.init(pair_key, pair_dim, out, torso),
                goal=Encoder.init(goal_key, task.goal_dim, out, torso),
            ),
            log_temperature=jnp.log(jnp.float32(self.initial_temperature)),
        )
        return CRLState(parameters, init_moments(self.optimisers, parameters))

    def explore(self, state: CRLState, observation: Array, goal: Array, key: Array) -> Array:
        """The first `deterministic_env_share` of the environments act without noise, as in an
        evaluation. The buffer then also holds states in which the deterministic policy freezes, and
        the critic learns that no goal is reached from them."""
        mean, log_std = self.distribution(state, observation, goal)
        noisy = sample_action(mean, log_std, key)[0]
        if self.deterministic_env_share == 0:
            return noisy
        count = round(self.deterministic_env_share * len(mean))
        return jnp.where(jnp.arange(len(mean))[:, None] < count, jnp.tanh(mean), noisy)

    def rate(self, state: CRLState, observation: Array, action: Array, goal: Array) -> Array:
        critic = state.parameters.critic
        return rowwise(self.energy, critic.encode_pair(observation, action), critic.goal(goal))

    def update(self, state: CRLState, batch: Batch, key: Array) -> tuple[CRLState, Metrics]:
        parameters = state.parameters
        gradient, metrics = jax.grad(self.loss, has_aux=True)(
            parameters, batch, key, self.target_entropy(state)
        )
        gradients = {part: getattr(gradient, part) for part in self.optimisers}
        state = CRLState(*apply_gradients(self.optimisers, parameters, gradients, state.optimiser))
        metrics["critic/gradient_norm"] = optax.tree.norm(gradient.critic)
        metrics["actor/gradient_norm"] = optax.tree.norm(gradient.actor)
        metrics["actor/temperature"] = jnp.exp(parameters.log_temperature)
        return state, metrics

    def loss(
        self, parameters: Parameters, batch: Batch, key: Array, target_entropy: Array | float
    ) -> tuple[Array, Metrics]:
        """The sum of the losses of critic, actor and temperature. Each changes only its own part.

        The losses share the goal encodings. Their networks run together where that is faster.
        """
        goal_key, action_key = jax.random.split(key)
        critic, fixed = parameters.critic, jax.lax.stop_gradient(parameters)
        uniform = jax.random.uniform(goal_key, (len(batch.goal), 1))
        goal = self.actor_goals(uniform, batch.goal, batch.commanded_goal)
        phi, psi, policy = apply_together(
            (critic.state_action, critic.goal, parameters.actor.encoder),
            (
                jnp.concatenate([batch.observation, batch.action], -1),
                batch.goal,
                jnp.concatenate([batch.observation, goal], -1),
            ),
        )
        critic_loss, critic_metrics = self.critic_loss_from_encodings(phi, psi)
        psi = jax.lax.stop_gradient(psi)
        # Encoding the commanded goals takes a forward pass of its own, so it is done only if the
        # actor trains on some of them.
        commanded = fixed.critic.goal(batch.commanded_goal) if self.commanded_goal_share else psi
        actor_loss, (actor_metrics, log_prob) = self.actor_loss_from_encodings(
            gaussian(policy),
            fixed,
            batch.observation,
            self.actor_goals(uniform, psi, commanded),
            action_key,
        )
        temperature = temperature_loss(parameters.log_temperature, log_prob, target_entropy)
        metrics = {f"critic/{name}": value for name, value in critic_metrics.items()}
        metrics |= {f"actor/{name}": value for name, value in actor_metrics.items()}
        return critic_loss + actor_loss + temperature, metrics

    def target_entropy(self, state: CRLState) -> Array | float:
        """Target entropy of the whole action at the next update."""
        first, last = self.target_entropy_per_action, self.final_target_entropy_per_action
        dim = self.bound.task.action_dim
        if last is None:
            return first * dim
        updates = optax.tree.get(state.optimiser["log_temperature"], "count")
        return jnp.asarray(self.constant_then_linear(first, last)(updates)) * dim

    def critic_loss(self, critic: Critic, batch: Batch) -> tuple[Array, tuple[Metrics, Array]]:
        """Contrastive loss; also returns the goal encodings psi, which the actor's loss reuses."""
        psi = critic.goal(batch.goal)
        phi = critic.encode_pair(batch.observation, batch.action)
        loss, metrics = self.critic_loss_from_encodings(phi, psi)
        return loss, (metrics, psi)

    def critic_loss_from_encodings(self, phi: Array, psi: Array) -> tuple[Array, Metrics]:
        """The critic's loss for its encodings phi and psi, `[batch, representation]` each."""
        logits = pairwise(self.energy, phi, psi)
        return contrastive_loss(self.contrastive_loss, logits, self.logsumexp_penalty)

    def actor_loss(
        self,
        actor: Actor,
        parameters: Parameters,
        observation: Array,
        goal: Array,
        psi: Array,
        key: Array,
    ) -> tuple[Array, tuple[Metrics, Array]]:
        """`mean[alpha log pi - f]`; also returns the log densities for the temperature."""
        policy = actor(observation, goal)
        return self.actor_loss_from_encodings(policy, parameters, observation, psi, key)

    def actor_loss_from_encodings(
        self, policy: Gaussian, parameters: Parameters, observation: Array, psi: Array, key: Array
    ) -> tuple[Array, tuple[Metrics, Array]]:
        """The actor's loss for its output `policy`; psi: encodings of the actor's goals."""
        action, log_prob = sample_action(*policy, key)
        phi = parameters.critic.encode_pair(observation, action)
        temperature = jnp.exp(parameters.log_temperature)
        energy = rowwise(self.energy, phi, psi)
        loss, metrics = actor_loss(energy, log_prob, temperature)
        return loss, (metrics, log_prob)

    def actor_goals(self, uniform: Array, own: Array, commanded: Array) -> Array:
        """The goals that the actor trains on, or their encodings if `own` and `commanded` are
        encodings. `uniform [batch, 1]` selects the rows of `own [batch, ...]` that are shuffled and
        the rows that take the commanded goal."""
        goals = own
        if self.shuffled_goal_share > 0.0:
            goals = jnp.where(uniform < self.shuffled_goal_share, jnp.roll(own, 1, axis=0), goals)
        if self.commanded_goal_share > 0.0:
            goals = jnp.where(uniform >= 1.0 - self.commanded_goal_share, commanded, goals)
        return goals

    @property
    def sampling(self) -> Sampling:
        return Sampling(absorbing=self.absorbing_termination, goal_noise=self.hindsight_goal_noise)

    def horizon_discount(self, progress: Array | float) -> Array | float:
        if self.initial_discount is None:
            return self.discount
        first, last = 1 / (1 - self.initial_discount), 1 / (1 - self.discount)
        grown = jnp.clip(progress / self.horizon_growth_share, 0, 1)
        return 1 - 1 / (first + (last - first) * grown)

    def networks(self, state: CRLState, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The actor, on the batch's hindsight goals only, and the critic's two encoders."""
        parameters = state.parameters
        actor, critic = parameters.actor, parameters.critic
        critic_gradient, (_, psi) = jax.grad(self.critic_loss, has_aux=True)(critic, batch)
        actor_gradient, _ = jax.grad(self.actor_loss, has_aux=True)(
            actor, parameters, batch.observation, batch.goal, psi, key
        )
        states = jnp.concatenate([batch.observation, batch.goal], -1)
        pairs = jnp.concatenate([batch.observation, batch.action], -1)
        return {
            "actor": DeepNetwork(actor.encoder, states, actor_gradient.encoder),
            "state-action encoder": DeepNetwork(
                critic.state_action, pairs, critic_gradient.state_action
            ),
            "goal encoder": DeepNetwork(critic.goal, batch.goal, critic_gradient.goal),
        }
