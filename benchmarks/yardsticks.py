"""The straightforward formulations that the package is measured against.

They do the same job with the same results, which `tests/test_yardsticks.py` checks: networks as
Python loops over layers with parameters of their own, energies through a `[batch, batch, dim]`
array, hindsight goals through a `[time, time]` matrix of log-probabilities, environments stepped
one after the other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import optax

from kilolayer.agents.crl import CRL, CRLState
from kilolayer.networks.actor import sample_action
from kilolayer.networks.block import NormedLayer
from kilolayer.networks.encoders import Encoder
from kilolayer.physics.native import MujocoWorld
from kilolayer.replay.buffer import Buffer, Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array

Layer = dict[str, Array]
Network = dict[str, Any]  # inputs: a layer; blocks: lists of layers; outputs: a layer


def parameter_counts(state: CRLState) -> dict[str, Any]:
    """The same parameters, every layer's its own."""
    parameters = state.parameters
    return {
        "actor": {"network": network_of(parameters.actor.encoder)},
        "critic": {
            "pair": network_of(parameters.critic.state_action),
            "goal": network_of(parameters.critic.goal),
        },
        "log_temperature": parameters.log_temperature,
    }


def network_of(encoder: Encoder) -> Network:
    def layer_of(layer: NormedLayer) -> Layer:
        return {
            "kernel": layer.dense.kernel,
            "bias": layer.dense.bias,
            "scale": layer.scale,
            "offset": layer.offset,
        }

    stack = encoder.stack
    blocks = [
        [layer_of(jax.tree.map(lambda leaf, i=i: leaf[i], layer)) for layer in stack.blocks.layers]
        for i in range(stack.num_blocks)
    ]
    outputs = {"kernel": encoder.outputs.kernel, "bias": encoder.outputs.bias}
    return {"inputs": layer_of(encoder.inputs), "blocks": blocks, "outputs": outputs}


def apply_layer(layer: Layer, x: Array) -> Array:
    x = x @ layer["kernel"] + layer["bias"]
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return jax.nn.swish(x * layer["scale"] + layer["offset"])


def apply_network(network: Network, x: Array, branch_scale: float) -> Array:
    """Layer by layer, `[batch, input] -> [batch, output]`."""
    x = apply_layer(network["inputs"], x)
    for block in network["blocks"]:
        residual = x
        for layer in block:
            x = apply_layer(layer, x)
        x = residual + branch_scale * x
    return x @ network["outputs"]["kernel"] + network["outputs"]["bias"]


def broadcast_energies(phi: Array, psi: Array) -> Array:
    """Negative distances `[rows, columns]` of all rows of phi and psi."""
    squared = jnp.square(phi[:, None] - psi[None]).sum(-1)
    return -jnp.sqrt(jnp.maximum(squared, 1e-12))


class UnrolledUpdate:
    """One update of actor, critic and temperature for the default recipe of `CRL`."""

    def __init__(self, agent: CRL):
        self.agent = agent
        self.optimiser = optax.adam(agent.critic_learning_rate)

    def init(self, state: CRLState) -> tuple[Any, Any]:
        """Parameters and moments, the same as the agent's."""
        parameters = parameter_counts(state)
        return parameters, self.optimiser.init(parameters)

    def __call__(self, state: tuple[Any, Any], batch: Batch, key: Array) -> tuple[Any, Any]:
        parameters, moments = state
        key = jax.random.split(key)[1]  # as the agent splits it
        losses, gradients = {}, {}
        losses["critic"], gradients["critic"] = jax.value_and_grad(self.critic_loss)(
            parameters["critic"], batch
        )
        (losses["actor"], log_prob), gradients["actor"] = jax.value_and_grad(
            self.actor_loss, has_aux=True
        )(parameters["actor"], parameters, batch, key)
        losses["temperature"], gradients["log_temperature"] = jax.value_and_grad(
            self.temperature_loss
        )(parameters["log_temperature"], log_prob)
        changes, moments = self.optimiser.update(gradients, moments, parameters)
        return (optax.apply_updates(parameters, changes), moments), losses

    def critic_loss(self, critic: Any, batch: Batch) -> Array:
        scale = self.agent.bound.critic_torso.branch_scale
        pair = jnp.concatenate([batch.observation, batch.action], -1)
        energies = broadcast_energies(
            apply_network(critic["pair"], pair, scale),
            apply_network(critic["goal"], batch.goal, scale),
        )
        partition = jax.nn.logsumexp(energies, axis=1)
        penalty = self.agent.logsumexp_penalty * jnp.mean(jnp.square(partition))
        return jnp.mean(partition - jnp.diagonal(energies)) + penalty

    def actor_loss(
        self, actor: Any, parameters: Any, batch: Batch, key: Array
    ) -> tuple[Array, Array]:
        inputs = jnp.concatenate([batch.observation, batch.goal], -1)
        outputs = apply_network(actor["network"], inputs, self.agent.bound.actor_torso.branch_scale)
        mean, raw = jnp.split(outputs, 2, -1)
        action, log_prob = sample_action(mean, -5.0 + 3.5 * (jnp.tanh(raw) + 1.0), key)
        critic, scale = parameters["critic"], self.agent.bound.critic_torso.branch_scale
        pair = jnp.concatenate([batch.observation, action], -1)
        difference = apply_network(critic["pair"], pair, scale) - apply_network(
            critic["goal"], batch.goal, scale
        )
        energy = -jnp.sqrt(jnp.maximum(jnp.square(difference).sum(-1), 1e-12))
        temperature = jnp.exp(parameters["log_temperature"])
        return jnp.mean(temperature * log_prob - energy), log_prob

    @property
    def target_entropy(self) -> float:
        return self.agent.target_entropy_per_action * self.agent.bound.task.action_dim

    def temperature_loss(self, log_temperature: Array, log_prob: Array) -> Array:
        excess = -jnp.mean(jax.lax.stop_gradient(log_prob)) - self.target_entropy
        return jnp.exp(log_temperature) * excess


def hindsight_of_trajectories(
    buffer: Buffer, key: Array, trajectories: int, length: int, discount: float
) -> Batch:
    """All steps of some trajectories of `length` steps, each with a goal from its own future.

    Leaves `[trajectories * length, ...]`. A step without a future gets its own achieved goal.
    """

    def relabel(key: Array) -> Batch:
        env_key, time_key, goal_key = jax.random.split(key, 3)
        world = jax.random.randint(env_key, (), 0, buffer.num_envs)
        start = jax.random.randint(time_key, (), 0, buffer.capacity - length + 1)

        def cut(leaf: Array) -> Array:
            sizes = (length, 1, *leaf.shape[2:])
            starts = (start, world, *(0 for _ in leaf.shape[2:]))
            return jax.lax.dynamic_slice(leaf, starts, sizes)[:, 0]

        steps: Transition = jax.tree.map(cut, buffer.steps)
        time, episode = jnp.arange(length), jnp.cumsum(steps.episode_step == 0)
        offset = time[None] - time[:, None]
        is_future = (offset > 0) & (episode[None] == episode[:, None])
        logits = jnp.where(is_future, offset * jnp.log(discount), -jnp.inf)
        # Far below every future: chosen only where there is none.
        logits = jnp.where(offset == 0, -1e4, logits)
        chosen = jax.random.categorical(goal_key, logits, axis=1)
        return Batch(
            observation=steps.observation,
            action=steps.action,
            goal=steps.achieved_goal[chosen],
            commanded_goal=steps.goal,
            achieved_goal=steps.achieved_goal,
            next_observation=steps.observation,  # not read by what is timed
            terminated=jnp.zeros(length, bool),
        )

    batch = jax.vmap(relabel)(jax.random.split(key, trajectories))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)


class EnvByEnv:
    """Environments that Python steps one after the other."""

    def __init__(self, world: MujocoWorld, qpos: Array, qvel: Array):
        self.world = world
        self.envs = [mujoco.MjData(world.model) for _ in qpos]
        for data, position, velocity in zip(self.envs, qpos, qvel, strict=True):
            data.qpos[:], data.qvel[:] = np.asarray(position), np.asarray(velocity)

    def step(self, controls: np.ndarray) -> None:
        for data, control in zip(self.envs, controls, strict=True):
            data.ctrl[:] = control
            mujoco.mj_step(self.world.model, data, self.world.substeps)
