"""A ring buffer of the newest steps of every environment: pure functions on a typed state.

Arrays are `[capacity, envs, ...]`, time first, so that inserting an unroll is one contiguous
update. Nothing is copied when the caller's jit donates the buffer.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.types import Array

# `episode_step` of a step after which its episode was cut off: the environment diverged, or the
# episode was truncated before the episode length.
CUT_OFF = -2


class Transition(eqx.Module):
    """Steps of many environments; leaves are `[time, envs, ...]` in a trajectory.

    episode_step: control steps since the episode's reset (int32). It marks the boundaries of
    episodes: two neighbours in time belong to one episode exactly if it grows by one. A step whose
    episode_step is `CUT_OFF` belongs to no episode: the episode before it was cut off there and did
    not terminate.
    """

    observation: Array
    action: Array
    achieved_goal: Array
    goal: Array
    episode_step: Array


class Buffer(eqx.Module):
    """steps: leaves `[capacity, envs, ...]`; inserted: steps per environment ever inserted
    (int32)."""

    steps: Transition
    inserted: Array

    @property
    def capacity(self) -> int:
        return self.steps.episode_step.shape[0]

    @property
    def num_envs(self) -> int:
        return self.steps.episode_step.shape[1]

    @property
    def size(self) -> Array:
        """Steps per environment that the buffer now holds."""
        return jnp.minimum(self.inserted, self.capacity)


def init(
    capacity: int, num_envs: int, observation_dim: int, action_dim: int, goal_dim: int
) -> Buffer:
    """An empty buffer of `capacity` steps for each of `num_envs` environments."""

    def zeros(*shape: int) -> Array:
        return jnp.zeros((capacity, num_envs, *shape), jnp.float32)

    steps = Transition(
        observation=zeros(observation_dim),
        action=zeros(action_dim),
        achieved_goal=zeros(goal_dim),
        goal=zeros(goal_dim),
        episode_step=jnp.zeros((capacity, num_envs), jnp.int32),
    )
    return Buffer(steps, jnp.zeros((), jnp.int32))


def insert(buffer: Buffer, unroll: Transition) -> Buffer:
    """Write an unroll `[time, envs, ...]` at the write head, over the oldest steps.

    The capacity must be a multiple of the unroll's length, so that an unroll never wraps.
    """
    length = unroll.episode_step.shape[0]
    if buffer.capacity % length:
        raise ValueError(f"unroll length {length} does not divide the capacity {buffer.capacity}")
    head = buffer.inserted % buffer.capacity

    def write(stored: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(stored, new.astype(stored.dtype), head, axis=0)

    return Buffer(jax.tree.map(write, buffer.steps, unroll), buffer.inserted + length)


def newest(buffer: Buffer, length: int) -> Transition:
    """The last unroll that was inserted, `[length, envs, ...]`, in order of time."""
    head = (buffer.inserted - length) % buffer.capacity
    return jax.tree.map(
        lambda stored: jax.lax.dynamic_slice_in_dim(stored, head, length), buffer.steps
    )
