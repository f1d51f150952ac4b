"""The time of each part of a round: physics and policy (not for a dataset), sampling, update.

A round is one program, so its parts cannot be timed inside it. Physics, policy and sampling are
timed as separate programs, on the final state. The rest of a round's time is the update's.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.training.collect import random_policy
from kilolayer.training.rollout import unroll
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import Array


def timed_parts(trainer: Trainer) -> dict[str, Any]:
    """The parts of a round of one seed, jitted; each takes a state and a key."""
    config, plan = trainer.config, trainer.plan

    def physics(state: TrainState, key: Array) -> Any:
        return unroll(
            trainer.task,
            trainer.physics,
            state.envs,
            random_policy(trainer.task.action_dim),
            key,
            config.collection.unroll_length,
            plan.episode_length,
            config.collection.goal_interval,
        )[0]

    def policy(state: TrainState, key: Array) -> Array:
        observation = trainer.task.observe(state.envs.physics)

        def act(total: Array, key: Array) -> tuple[Array, None]:
            goal = state.envs.goal
            return total + trainer.agent.act(state.agent, observation, goal, key, False).sum(), None

        keys = jax.random.split(key, config.collection.unroll_length)
        return jax.lax.scan(act, jnp.zeros(()), keys)[0]

    def sampling(state: TrainState, key: Array) -> Array:
        batches_key, updates_key = jax.random.split(key)
        batch = trainer.batches(state, batches_key)

        def draw(total: Array, numbered_key: tuple[Array, Array]) -> tuple[Array, None]:
            leaves = jax.tree.leaves(batch(*numbered_key))
            return total + sum(leaf.sum() for leaf in leaves), None

        keys = jax.random.split(updates_key, plan.updates_per_unroll)
        return jax.lax.scan(draw, jnp.zeros(()), (jnp.arange(len(keys)), keys))[0]

    stepping = (physics, policy) if trainer.dataset is None else ()
    return {part.__name__: jax.jit(part) for part in (*stepping, sampling)}


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
