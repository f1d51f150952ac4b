"""Hindsight goals: goals achieved later in a step's episode, at a truncated-geometric distance.

For a stored step with R later steps in its episode, the offset k in 1..R has probability
proportional to discount^k (arXiv 2206.07568, eq. 1, truncated at the end of the episode). It is
drawn by the inverse of the distribution function: no `[time, time]` matrix, memory O(batch).
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.replay.buffer import CUT_OFF, Buffer
from kilolayer.types import Array

# Only the last step of an episode is resampled, so this bound is reached only if almost no step in
# the buffer has a future.
MAX_RESAMPLES = 256
# The geometric formula divides by the logarithm of the discount.
MAX_DISCOUNT = 1 - 1e-6


class Batch(eqx.Module):
    """Steps with their goals and outcomes, leaves `[batch, ...]`.

    goal: the hindsight goal. commanded_goal: the environment's goal at the step. achieved_goal: of
    the step itself. terminated `[batch]`: whether the episode terminated at the step; the values of
    next_observation are then undefined.
    """

    observation: Array
    action: Array
    goal: Array
    commanded_goal: Array
    achieved_goal: Array
    next_observation: Array
    terminated: Array

    def mixed_goals(self, hindsight_share: float, key: Array) -> Array:
        """`[batch, goal]`: for a share of the rows the hindsight goal, else the commanded goal."""
        chosen = jax.random.uniform(key, (self.goal.shape[0], 1)) < hindsight_share
        return jnp.where(chosen, self.goal, self.commanded_goal)


def truncated_geometric(uniform: Array, discount: float | Array, longest: Array) -> Array:
    """Turn uniform numbers in [0, 1) into offsets k in 1..longest, P(k) proportional to discount^k.

    Inverse of F(k) = (1 - discount^k) / (1 - discount^longest). discount = 1 is the uniform case.
    """
    longest_float = longest.astype(jnp.float32)
    log_discount = jnp.log(jnp.minimum(jnp.float32(discount), MAX_DISCOUNT))
    # expm1 and log1p keep the tail exact where discount^longest is close to one.
    scaled = uniform * jnp.expm1(longest_float * log_discount)
    geometric = jnp.ceil(jnp.log1p(scaled) / log_discount)
    flat = jnp.floor(uniform * longest_float) + 1
    offset = jnp.where(discount < 1, geometric, flat)
    return jnp.clip(offset.astype(jnp.int32), 1, longest)


def steps_remaining(buffer: Buffer, time: Array, env: Array, episode_length: int) -> Array:
    """How many later steps of each step's episode the buffer holds, `[batch]`.

    time: position of the step in time, 0 for the oldest stored step. The episode_step of the step k
    later equals the step's own plus k exactly while the episode lasts, and never again after it. So
    bisection finds the largest such k in O(log episode_length), and no stored step must be changed
    when its episode ends.
    """
    row = _ring_row(buffer, time)
    own_step = buffer.steps.episode_step[row, env]
    low = jnp.zeros_like(time)
    high = jnp.minimum(buffer.size - 1 - time, episode_length - 1 - own_step)
    # The number CUT_OFF could continue as the counts of a later episode do.
    high = jnp.where(own_step == CUT_OFF, 0, high)
    for _ in range(int(episode_length).bit_length()):
        middle = (low + high + 1) // 2
        later_step = buffer.steps.episode_step[_ring_row(buffer, time + middle), env]
        same_episode = later_step == own_step + middle
        low = jnp.where(same_episode, middle, low)
        high = jnp.where(same_episode, high, middle - 1)
    return low


def _ring_row(buffer: Buffer, time: Array) -> Array:
    """Row of the ring that holds the step `time` steps after the oldest one."""
    oldest = jnp.where(buffer.inserted > buffer.capacity, buffer.inserted % buffer.capacity, 0)
    return (oldest + time) % buffer.capacity


def futures(
    buffer: Buffer, time: Array, env: Array, episode_length: int, absorbing: bool
) -> tuple[Array, Array]:
    """`(stored, longest)`, each `[batch]`: how many later steps of each step's episode the buffer
    holds, and the largest offset of a hindsight goal.

    The two differ only if `absorbing`, in episodes that terminated: the last state then counts as
    lasting until the episode length is reached.
    """
    stored = steps_remaining(buffer, time, env, episode_length)
    if not absorbing:
        return stored, stored
    own_step = buffer.steps.episode_step[_ring_row(buffer, time), env]
    terminated = episode_terminates(buffer, time, env, stored, episode_length)
    return stored, jnp.where(terminated, episode_length - 1 - own_step, stored)


def episode_terminates(
    buffer: Buffer, time: Array, env: Array, stored: Array, episode_length: int
) -> Array:
    """Whether each step's episode terminated after its `stored` later steps, `[batch]`: the episode
    is over and did not reach the episode length.

    An episode that was cut off did not terminate: its continuation is unknown. If a diverged state
    counted as absorbing, agents could profit from making the simulation diverge.
    """
    own_step = buffer.steps.episode_step[_ring_row(buffer, time), env]
    next_step = buffer.steps.episode_step[_ring_row(buffer, time + stored + 1), env]
    is_over = time + stored + 1 < buffer.size
    cut_off = (own_step == CUT_OFF) | (next_step == CUT_OFF)
    return is_over & ~cut_off & (own_step + stored + 1 < episode_length)


def sample(
    buffer: Buffer,
    key: Array,
    batch_size: int,
    discount: float | Array,
    episode_length: int,
    absorbing: bool = False,
    terminal_steps: bool = False,
) -> Batch:
    """Draw steps uniformly among those with a future, each with a hindsight goal from its future.

    terminal_steps: also draw the steps at which an episode terminated; their hindsight goal is
    their own achieved goal. All other steps without a future are resampled: the successor of the
    newest step, or of the last step of a truncated episode, is unknown. If resampling fails because
    almost no step has a future, the goals are NaN, which stops the run instead of training on a
    wrong goal.
    """
    first_key, resample_key, offset_key = jax.random.split(key, 3)

    def draw(key: Array) -> tuple[Array, Array, Array, Array, Array]:
        time_key, env_key = jax.random.split(key)
        time = jax.random.randint(time_key, (batch_size,), 0, buffer.size)
        env = jax.random.randint(env_key, (batch_size,), 0, buffer.num_envs)
        stored, longest = futures(buffer, time, env, episode_length, absorbing)
        drawable = longest > 0
        if terminal_steps:
            drawable |= episode_terminates(buffer, time, env, stored, episode_length)
        return time, env, stored, longest, drawable

    def resample(carry: tuple) -> tuple:
        attempt, kept = carry
        drawn = draw(jax.random.fold_in(resample_key, attempt))
        drawable = kept[-1]
        return attempt + 1, jax.tree.map(lambda a, b: jnp.where(drawable, a, b), kept, drawn)

    def needs_resampling(carry: tuple) -> Array:
        attempt, (*_, drawable) = carry
        return jnp.any(~drawable) & (attempt < MAX_RESAMPLES)

    _, (time, env, stored, longest, drawable) = jax.lax.while_loop(
        needs_resampling, resample, (jnp.zeros((), jnp.int32), draw(first_key))
    )
    uniform = jax.random.uniform(offset_key, (batch_size,))
    offset = truncated_geometric(uniform, discount, jnp.maximum(longest, 1))
    offset = jnp.minimum(offset, stored)
    row, future_row = _ring_row(buffer, time), _ring_row(buffer, time + offset)
    next_row = _ring_row(buffer, time + jnp.minimum(stored, 1))
    steps = buffer.steps
    return Batch(
        observation=steps.observation[row, env],
        action=steps.action[row, env],
        goal=jnp.where(drawable[:, None], steps.achieved_goal[future_row, env], jnp.nan),
        commanded_goal=steps.goal[row, env],
        achieved_goal=steps.achieved_goal[row, env],
        next_observation=steps.observation[next_row, env],
        terminated=(stored == 0) & episode_terminates(buffer, time, env, stored, episode_length),
    )
