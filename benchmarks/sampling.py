"""Hindsight sampling per transition, against a categorical over a [time, time] matrix."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import Program, Row, compare
from benchmarks.yardsticks import hindsight_of_trajectories
from kilolayer.replay import hindsight
from kilolayer.replay.buffer import Buffer, Transition
from kilolayer.types import Array

DISCOUNT = 0.99
EPISODE_LENGTH = 1000


def full_buffer(envs: int, steps: int, episode_length: int) -> Buffer:
    """Steps of an ant's shape, all zeros; episodes follow one another."""
    shape = (steps, envs)
    episode_step = jnp.broadcast_to((jnp.arange(steps) % episode_length)[:, None], shape)
    zeros = (jnp.zeros((*shape, size)) for size in (29, 8, 2, 2))
    return Buffer(Transition(*zeros, episode_step=episode_step.astype(jnp.int32)), jnp.int32(steps))


def measure(
    batch_sizes: Sequence[int], envs: int, steps: int, transitions: int, repeats: int
) -> list[Row]:
    """Rows by batch size, for about so many transitions a call.

    The yardstick takes all steps of whole trajectories, as many as fill the batch at least.
    """
    length = min(EPISODE_LENGTH, steps)
    buffer, rows = full_buffer(envs, steps, length), []
    for size in batch_sizes:
        draws, trajectories = max(1, transitions // size), math.ceil(size / length)
        draw = partial(
            hindsight.sample, batch_size=size, discount=DISCOUNT, episode_length=EPISODE_LENGTH
        )
        relabel = partial(
            hindsight_of_trajectories, trajectories=trajectories, length=length, discount=DISCOUNT
        )
        programs = (many(each, buffer, draws) for each in (draw, relabel))
        items = (draws * size, draws * trajectories * length)
        rows.append(compare("hindsight", size, *programs, repeats, items))
    return rows


def many(draw: Callable[[Buffer, Array], Any], buffer: Buffer, draws: int) -> Program:
    """So many batches in one program; a single one would be lost in the cost of a call.

    Only what contrastive learning reads of a batch is computed, as in its compiled update.
    """

    def run(buffer: Buffer, key: Array) -> Array:
        def one(total: Array, key: Array) -> tuple[Array, None]:
            batch = draw(buffer, key)
            read = (batch.observation, batch.action, batch.goal, batch.commanded_goal)
            return total + sum(leaf.sum() for leaf in read), None

        return jax.lax.scan(one, jnp.zeros(()), jax.random.split(key, draws))[0]

    return Program.compile(run, buffer, jax.random.key(0))
