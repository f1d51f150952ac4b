"""One round of training, jitted: collect, insert, sample, update."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kilolayer.agents.base import Agent, Explorer
from kilolayer.config import TrainConfig
from kilolayer.physics.base import Physics
from kilolayer.plan import TrainPlan
from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from kilolayer.replay.buffer import Buffer
from kilolayer.runtime.mesh import by_width, shared_out, whole
from kilolayer.tasks.base import Task
from kilolayer.training.rollout import WorldState, start_worlds, unroll
from kilolayer.types import Array, Metrics


class TrainState(eqx.Module):
    """Everything that the next round needs; saving it and loading it is a resume.

    key: raw PRNG key data of training; evaluation has keys of its own. unrolls: rounds done.
    """

    agent: Any
    buffer: Buffer
    worlds: WorldState
    key: Array
    unrolls: Array


@dataclass(frozen=True)
class Trainer:
    """The pure functions of one training run, on all the worlds and the whole batch.

    Compiled with the state's `shardings` they run on every device of the mesh.
    """

    config: TrainConfig
    plan: TrainPlan
    task: Task
    physics: Physics
    agent: Agent
    mesh: Mesh

    @property
    def shardings(self) -> TrainState:
        """Where the state lives, one sharding for each array of the agent and each other branch."""
        one, worlds = whole(self.mesh), shared_out(self.mesh)
        agent = by_width(self.mesh, jax.eval_shape(self.agent.init, jax.random.key(0)))
        steps: Any = shared_out(self.mesh, axis=1)
        buffer: Any = Buffer(steps, one)  # type: ignore[arg-type]
        return TrainState(agent, buffer, worlds, one, one)  # type: ignore[arg-type]

    def init(self, seed: Array | int | None = None) -> TrainState:
        """The state before the first step, from the seed alone; by default the config's."""
        keys = jax.random.split(jax.random.key(self.config.seed if seed is None else seed), 4)
        agent_key, world_key, goal_key, key = keys
        task, config = self.task, self.config
        goal = task.sample_goal(goal_key, config.num_envs, "training")
        return TrainState(
            agent=self.agent.init(agent_key),
            buffer=ring.init(
                self.plan.replay_capacity,
                config.num_envs,
                len(task.observation),
                task.action_dim,
                task.goal.dim,
            ),
            worlds=start_worlds(task, self.physics, world_key, goal, "training"),
            key=jax.random.key_data(key),
            unrolls=jnp.zeros((), jnp.int32),
        )

    @property
    def greedy_worlds(self) -> np.ndarray:
        """Which worlds act without noise `[worlds]`, spread evenly."""
        worlds = np.arange(self.config.num_envs + 1)
        return np.diff(np.floor(worlds * self.config.greedy_env_share + 1e-9)) > 0

    def collect(self, state: TrainState) -> TrainState:
        """One unroll into the buffer, without updates."""
        key, unroll_key = jax.random.split(jax.random.wrap_key_data(state.key))

        def policy(observation: Array, goal: Array, key: Array) -> Array:
            agent = self.agent
            act = agent.explore if isinstance(agent, Explorer) else agent.act
            noisy, greedy = (
                act(state.agent, observation, goal, key, deterministic)
                for deterministic in (False, True)
            )
            return jnp.where(self.greedy_worlds[:, None], greedy, noisy)

        worlds, trajectory = unroll(
            self.task,
            self.physics,
            state.worlds,
            policy,
            unroll_key,
            self.config.unroll_length,
            self.plan.episode_length,
            self.config.stall_length,
        )
        return TrainState(
            agent=state.agent,
            buffer=ring.insert(state.buffer, trajectory),
            worlds=worlds,
            key=jax.random.key_data(key),
            unrolls=state.unrolls + 1,
        )

    def discount(self, unrolls: Array) -> float | Array:
        """The discount after so many unrolls: its horizon grows linearly while training."""
        config, plan = self.config, self.plan
        if config.initial_discount is None:
            return config.discount
        first, last = 1 / (1 - config.initial_discount), 1 / (1 - config.discount)
        done = (unrolls - plan.prefill_unrolls) / plan.training_unrolls
        return 1 - 1 / (first + (last - first) * jnp.clip(done, 0, 1))

    def sample(self, state: TrainState, key: Array) -> hindsight.Batch:
        config = self.config
        batch = hindsight.sample(
            state.buffer,
            key,
            config.batch_size,
            self.discount(state.unrolls),
            self.plan.episode_length,
            config.absorbing_termination,
        )
        return jax.lax.with_sharding_constraint(batch, shared_out(self.mesh))

    def round(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One unroll, then the updates that belong to it; metrics are means over the updates."""
        state = self.collect(state)
        key, updates_key = jax.random.split(jax.random.wrap_key_data(state.key))

        def update(agent: Any, key: Array) -> tuple[Any, Metrics]:
            sample_key, update_key = jax.random.split(key)
            return self.agent.update(agent, self.sample(state, sample_key), update_key)

        keys = jax.random.split(updates_key, self.plan.updates_per_unroll)
        agent, metrics = jax.lax.scan(update, state.agent, keys)
        state = TrainState(
            agent, state.buffer, state.worlds, jax.random.key_data(key), state.unrolls
        )
        return state, {name: values.mean() for name, values in metrics.items()}
