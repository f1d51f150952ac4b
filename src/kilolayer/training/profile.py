"""The time of each part of a round: physics and policy (not for a dataset), sampling, update.

A round is one program, so its parts cannot be timed inside it. Physics, policy and sampling are
timed as separate programs, on the final state. The rest of a round's time is the update's.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.training.rollout import unroll
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import Array


def profile_round(trainer: Trainer, state: TrainState, round_seconds: float) -> dict[str, float]:
    """Seconds per round of each part, given the seconds of a whole round."""
    config, plan = trainer.config, trainer.plan
    key, policy_key, batches_key, updates_key = jax.random.split(jax.random.key(0), 4)

    def physics_only(envs, key: Array):
        def random_policy(observation: Array, goal: Array, key: Array) -> Array:
            shape = (observation.shape[0], trainer.task.action_dim)
            return jax.random.uniform(key, shape, minval=-1.0)

        return unroll(
            trainer.task,
            trainer.physics,
            envs,
            random_policy,
            key,
            config.collection.unroll_length,
            plan.episode_length,
            config.collection.goal_interval,
        )[0]

    def policy_only(state: TrainState, keys: Array) -> Array:
        observation = trainer.task.observe(state.envs.physics)

        def act(total: Array, key: Array) -> tuple[Array, None]:
            goal = state.envs.goal
            return total + trainer.agent.act(state.agent, observation, goal, key, False).sum(), None

        return jax.lax.scan(act, jnp.zeros(()), keys)[0]

    def sampling_only(state: TrainState, keys: Array) -> Array:
        batch = trainer.batches(state, batches_key)

        def draw(total: Array, numbered_key: tuple[Array, Array]) -> tuple[Array, None]:
            leaves = jax.tree.leaves(batch(*numbered_key))
            return total + sum(leaf.sum() for leaf in leaves), None

        return jax.lax.scan(draw, jnp.zeros(()), (jnp.arange(len(keys)), keys))[0]

    seconds = {}
    if trainer.dataset is None:
        seconds["physics"] = _time(physics_only, state.envs, key)
        steps_keys = jax.random.split(policy_key, config.collection.unroll_length)
        seconds["policy"] = _time(policy_only, state, steps_keys)
    update_keys = jax.random.split(updates_key, plan.updates_per_unroll)
    seconds["sampling"] = _time(sampling_only, state, update_keys)
    seconds["update"] = max(0.0, round_seconds - sum(seconds.values()))
    return seconds


def _time(function: Callable, *arguments: Any) -> float:
    """Seconds of one call after compilation, the smaller of two."""
    compiled = jax.jit(function).lower(*arguments).compile()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)
