"""The jitted functions of a run. The next run of the same process can use them again."""

import time
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from kilolayer.config import CheckpointConfig, RunConfig
from kilolayer.runtime.mesh import replicated
from kilolayer.runtime.tracking import TrackingConfig
from kilolayer.training.build import sharded_physics
from kilolayer.training.collect import random_policy
from kilolayer.training.evaluate import Evaluator
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import Array


@dataclass(frozen=True)
class Programs:
    """The jitted functions of a run. Equal values trace and compile to the same programs.

    config: with defaults in the fields that no program depends on. several: vmapped over seeds.
    """

    config: RunConfig
    mesh: Mesh
    several: bool
    trainer: Trainer = field(compare=False)
    seeds: Seeds = field(compare=False)

    @cached_property
    def init(self) -> Any:
        """seeds -> state before the first step."""
        vmapped = self.seeds.vmap(self.trainer.init)
        return jax.jit(vmapped, out_shardings=self.trainer.shardings)

    @cached_property
    def collect(self) -> Any:
        """state -> state, metrics: an unroll without updates; the memory of the state is reused."""
        return self._on_state(self.trainer.collect)

    @cached_property
    def train_round(self) -> Any:
        """state -> state, metrics: an unroll and its updates; the memory of the state is reused."""
        return self._on_state(self.trainer.round)

    @cached_property
    def evaluate(self) -> Any:
        """evaluated state, keys, starts -> episodes."""
        trainer, config = self.trainer, self.config
        evaluator = Evaluator(
            trainer.task,
            sharded_physics(self.mesh, trainer.task.world, config, config.evaluation.eval_envs),
            trainer.agent,
            trainer.task.episode_length,
            config.evaluation.samples,
        )
        return jax.jit(self.seeds.vmap(evaluator.run), out_shardings=replicated(self.mesh))

    @cached_property
    def sample(self) -> Any:
        """state, keys -> one batch, for the report's diagnostics."""
        return jax.jit(self.seeds.vmap(self.trainer.sample), out_shardings=replicated(self.mesh))

    @cached_property
    def timed_parts(self) -> dict[str, Any]:
        """The parts of a round of one seed, jitted; each takes a state and a key.

        Physics, policy (both not for a dataset) and sampling. A round is one program, so its parts
        cannot be timed inside it; the rest of a round's time is the update's.
        """
        trainer = self.trainer

        def physics(state: TrainState, key: Array) -> Any:
            return trainer.unroll(state.envs, random_policy(trainer.task.action_dim), key)[0]

        def policy(state: TrainState, key: Array) -> Array:
            observation = trainer.task.observe(state.envs.physics)

            def act(total: Array, key: Array) -> tuple[Array, None]:
                action = trainer.agent.act(state.agent, observation, state.envs.goal, key, False)
                return total + action.sum(), None

            keys = jax.random.split(key, trainer.config.collection.unroll_length)
            return jax.lax.scan(act, jnp.zeros(()), keys)[0]

        def sampling(state: TrainState, key: Array) -> Array:
            batches_key, updates_key = jax.random.split(key)
            batch = trainer.batches(state, batches_key)

            def draw(total: Array, numbered_key: tuple[Array, Array]) -> tuple[Array, None]:
                leaves = jax.tree.leaves(batch(*numbered_key))
                return total + sum(leaf.sum() for leaf in leaves), None

            keys = jax.random.split(updates_key, trainer.schedule.updates_per_unroll)
            return jax.lax.scan(draw, jnp.zeros(()), (jnp.arange(len(keys)), keys))[0]

        stepping = (physics, policy) if trainer.dataset is None else ()
        return {part.__name__: jax.jit(part) for part in (*stepping, sampling)}

    def _on_state(self, function: Any) -> Any:
        out_shardings = self.trainer.shardings, replicated(self.mesh)
        return jax.jit(self.seeds.vmap(function), out_shardings=out_shardings, donate_argnums=0)


def programs_of(trainer: Trainer, seeds: Seeds) -> Programs:
    """The programs of a recent run of this process if they are the same, else new ones.

    A run on the user's own task, agent or data set always gets new ones: the code or the data may
    have changed, and the environments of Gymnasium have a state of their own.
    """
    config, task = trainer.config, trainer.config.task
    own = task.mjcf or task.gym or ":" in task.task or ":" in config.agent_name
    config = config.having(
        seed=0,
        start_from=None,
        num_evaluations=1,
        evaluate_training_goals=False,
        checkpoints=CheckpointConfig(),
        tracking=TrackingConfig(),
    )
    programs = Programs(config, trainer.mesh, seeds.several, trainer, seeds)
    return programs if own or trainer.dataset is not None else _cached(programs)


@lru_cache(maxsize=4)  # few: programs take memory, and so do the environments that they step
def _cached(programs: Programs) -> Programs:
    return programs


def profile_round(
    parts: dict[str, Any], state: TrainState, round_seconds: float
) -> dict[str, float]:
    """Seconds per round of each of the `timed_parts`, given the seconds of a whole round."""
    keys = jax.random.split(jax.random.key(0), len(parts))
    seconds = {
        name: _time(part, state, key) for (name, part), key in zip(parts.items(), keys, strict=True)
    }
    seconds["update"] = max(0.0, round_seconds - sum(seconds.values()))
    return seconds


def _time(function: Any, *arguments: Any) -> float:
    """Seconds of one call after compilation, the smaller of two."""
    compiled = function.lower(*arguments).compile()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)
