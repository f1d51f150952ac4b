"""One round of training, jitted: collect, insert, sample, update."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from kilolayer.agents.base import Agent, OnPolicyAgent
from kilolayer.agents.optimiser import AveragedAgent, polyak_update
from kilolayer.config import RunConfig
from kilolayer.physics.base import Physics
from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from kilolayer.replay.buffer import Buffer
from kilolayer.replay.dataset import Dataset
from kilolayer.runtime.mesh import data_sharded, replicated, width_sharded
from kilolayer.schedule import TrainSchedule
from kilolayer.tasks.base import Task
from kilolayer.training.rollout import DIVERGED_METRIC, CutOff, EnvState, Policy, reset, unroll
from kilolayer.types import Array, Metrics

# Folded into the key of a batch. The key is split into fewer parts than this number, so a batch
# without noise does not depend on it.
GOAL_NOISE_STREAM = 0x0B10


class TrainState(eqx.Module):
    """The complete state of training: a run resumes from it.

    average: the running average of the agent's actor, None without an average. key: raw PRNG key
    data of training; evaluation has separate keys. unrolls: number of completed rounds.
    """

    agent: Any
    average: Any
    buffer: Buffer
    envs: EnvState
    key: Array
    unrolls: Array

    @property
    def evaluated(self) -> Any:
        """The agent state that is evaluated."""
        return AveragedAgent(self.agent, self.average).evaluated

    @property
    def checkpointed(self) -> Any:
        """The agent state as a checkpoint stores it."""
        return AveragedAgent(self.agent, self.average).stored


@dataclass(frozen=True)
class Trainer:
    """The pure functions of one training run, for all environments and whole batches.

    Compiled with the state's `shardings`, they run on every device of the mesh. dataset: replaces
    the environments' steps; the buffer of a new state has its size, and
    `kilolayer.training.offline` fills it.
    """

    config: RunConfig
    schedule: TrainSchedule
    task: Task
    physics: Physics
    agent: Agent
    mesh: Mesh
    dataset: Dataset | None = None

    @property
    def shardings(self) -> TrainState:
        """One sharding for each array of the agent, and for each other branch of the state."""
        one, envs = replicated(self.mesh), data_sharded(self.mesh)
        agent = width_sharded(self.mesh, jax.eval_shape(self.agent.init, jax.random.key(0)))
        # A dataset is one environment, which cannot be sharded.
        steps: Any = data_sharded(self.mesh, axis=1) if self.dataset is None else one
        buffer: Any = Buffer(steps, one)  # type: ignore[arg-type]
        average = None if self.agent.average_decay == 0 else agent.parameters.actor
        return TrainState(agent, average, buffer, envs, one, one)  # type: ignore[arg-type]

    def init(self, seed: Array | int | None = None) -> TrainState:
        """The state before the first step. seed: by default the config's."""
        keys = jax.random.split(jax.random.key(self.config.seed if seed is None else seed), 4)
        agent_key, env_key, goal_key, key = keys
        task, config = self.task, self.config
        goal = task.sample_goal(goal_key, config.collection.num_envs, "training")
        agent = self.agent.init(agent_key)
        average = None
        if self.agent.average_decay > 0:  # a copy, because jit may donate the memory of either
            average = jax.tree.map(jnp.copy, agent.parameters.actor)
        return TrainState(
            agent=agent,
            average=average,
            buffer=ring.init(
                self.schedule.replay_capacity,
                config.collection.num_envs if self.dataset is None else 1,
                len(task.observation),
                task.action_dim,
                task.goal.dim,
            ),
            envs=reset(task, self.physics, env_key, goal, "training"),
            key=jax.random.key_data(key),
            unrolls=jnp.zeros((), jnp.int32),
        )

    def collect(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """Insert one unroll into the buffer, without updates; the metric counts divergences."""
        key, unroll_key = jax.random.split(jax.random.wrap_key_data(state.key))

        def policy(observation: Array, goal: Array, key: Array) -> Array:
            return self.agent.explore(state.agent, observation, goal, key)

        envs, trajectory, cut_off = self.unroll(state.envs, policy, unroll_key)
        cut = cut_off.diverged | cut_off.truncated
        episode_step = jnp.where(cut, ring.CUT_OFF, trajectory.episode_step)
        state = dataclasses.replace(
            state,
            buffer=ring.insert(
                state.buffer, dataclasses.replace(trajectory, episode_step=episode_step)
            ),
            envs=envs,
            key=jax.random.key_data(key),
            unrolls=state.unrolls + 1,
        )
        return state, {DIVERGED_METRIC: cut_off.diverged.sum()}

    def unroll(self, envs: EnvState, policy: Policy, key: Array) -> tuple[EnvState, Any, CutOff]:
        """One unroll of this run's length; see `rollout.unroll`."""
        collection, length = self.config.collection, self.config.collection.unroll_length
        goal_interval, episode_length = collection.goal_interval, self.schedule.episode_length
        return unroll(
            self.task, self.physics, envs, policy, key, length, episode_length, goal_interval
        )

    def discount(self, unrolls: Array) -> float | Array:
        """Discount of hindsight goals after this number of unrolls."""
        if self.agent.sampling.horizon == "uniform":
            return 1.0
        schedule = self.schedule
        return self.agent.horizon_discount(
            (unrolls - schedule.prefill_unrolls) / schedule.training_unrolls
        )

    def sample(self, state: TrainState, key: Array) -> hindsight.Batch:
        """A batch from the replay buffer, sampled as the agent's `sampling` says."""
        sampling = self.agent.sampling
        batch = hindsight.sample(
            state.buffer,
            key,
            self.agent.batch_size,
            self.discount(state.unrolls),
            self.schedule.episode_length,
            sampling.absorbing,
            # A dataset does not say which of its trajectories terminated.
            sampling.terminal_steps and self.dataset is None,
        )
        if sampling.goal_noise > 0:
            noise = jax.random.normal(jax.random.fold_in(key, GOAL_NOISE_STREAM), batch.goal.shape)
            spread = sampling.goal_noise * self.task.goal.radius
            batch = dataclasses.replace(batch, goal=batch.goal + spread * noise)
        return jax.lax.with_sharding_constraint(batch, data_sharded(self.mesh))

    def batches(self, state: TrainState, key: Array) -> Callable[[Array, Array], Any]:
        """The function that gives an update its batch: `(number, key) -> batch`."""
        if not isinstance(self.agent, OnPolicyAgent):
            return lambda number, key: self.sample(state, key)
        newest = ring.newest(state.buffer, self.config.collection.unroll_length)
        steps = self.agent.prepare(state.agent, newest)
        count = jax.tree.leaves(steps)[0].shape[0]
        rows = shuffled_passes(key, count, self.schedule.updates_per_unroll, self.agent.batch_size)
        return lambda number, key: jax.lax.with_sharding_constraint(
            jax.tree.map(lambda leaf: leaf[rows[number]], steps), data_sharded(self.mesh)
        )

    def round(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One unroll, then its updates; metrics are means over the updates.

        With a dataset, the updates only.
        """
        if self.dataset is not None:
            return self.learn(dataclasses.replace(state, unrolls=state.unrolls + 1))
        state, collected = self.collect(state)
        state, metrics = self.learn(state)
        return state, metrics | collected

    def learn(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """The updates that follow an unroll."""
        key, updates_key = jax.random.split(jax.random.wrap_key_data(state.key))
        updates = self.schedule.updates_per_unroll
        keys = jax.random.split(updates_key, updates + 1)
        batch = self.batches(state, keys[-1])
        step_size = 1 - self.agent.average_decay

        def update(carry: tuple[Any, Any], numbered_key: tuple[Array, Array]) -> tuple:
            (agent, average), (number, key) = carry, numbered_key
            sample_key, update_key = jax.random.split(key)
            agent, metrics = self.agent.update(agent, batch(number, sample_key), update_key)
            if average is not None:
                average = polyak_update(average, agent.parameters.actor, step_size)
            return (agent, average), metrics

        carry = (state.agent, state.average)
        (agent, average), metrics = jax.lax.scan(update, carry, (jnp.arange(updates), keys[:-1]))
        key = jax.random.key_data(key)
        state = dataclasses.replace(state, agent=agent, average=average, key=key)
        return state, {name: values.mean() for name, values in metrics.items()}


def shuffled_passes(key: Array, count: int, updates: int, batch_size: int) -> Array:
    """Indices `[updates, batch]`: shuffled passes over all `count` steps, cut into batches."""
    number = -(-updates * batch_size // count)
    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(key, number))
    return orders.ravel()[: updates * batch_size].reshape(updates, batch_size)
