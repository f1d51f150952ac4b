"""Hindsight sampling: which steps are drawn, and how far ahead their goals lie."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from probes import ages_of_episodes, labelled_transitions

CAPACITY, UNROLL, ENVS, EPISODE_LENGTH = 24, 6, 3, 7
insert = jax.jit(ring.insert)


def fill(episode_steps: np.ndarray, capacity: int, unroll: int) -> ring.Buffer:
    """A buffer into which the recording `episode_steps [time, envs]` went, unroll after unroll."""
    buffer = ring.init(capacity, episode_steps.shape[1], 2, 1, 2)
    for first in range(0, len(episode_steps), unroll):
        buffer = insert(buffer, labelled_transitions(episode_steps[first : first + unroll], first))
    return buffer


@partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def draw(
    buffer,
    key,
    size: int,
    discount: float,
    episode_length: int,
    absorbing: bool = False,
    terminal_steps: bool = False,
) -> hindsight.Batch:
    return hindsight.sample(buffer, key, size, discount, episode_length, absorbing, terminal_steps)


def steps_and_goals(batch: hindsight.Batch) -> tuple[np.ndarray, np.ndarray]:
    """(environment, time) of the drawn steps and of the steps whose goals they got."""
    return np.asarray(batch.observation).astype(int), np.asarray(batch.goal).astype(int)


def steps_with_a_future(episode_steps: np.ndarray, held: int) -> dict[tuple[int, int], int]:
    """Later steps in the episode for each (environment, time) of the newest `held` steps: a
    loop."""
    futures = {}
    for env in range(episode_steps.shape[1]):
        for time in range(len(episode_steps) - held, len(episode_steps)):
            later = 0
            while (
                time + later + 1 < len(episode_steps) and episode_steps[time + later + 1, env] > 0
            ):
                later += 1
            futures[env, time] = later
    return futures


EPISODES = st.lists(st.integers(1, EPISODE_LENGTH), min_size=1, max_size=6)
RECORDINGS = st.tuples(st.integers(1, 9), *[EPISODES] * ENVS)


def record(recording: tuple) -> tuple[np.ndarray, ring.Buffer, int]:
    unrolls, *episodes = recording
    episode_steps = np.stack(
        [ages_of_episodes(lengths, unrolls * UNROLL) for lengths in episodes], -1
    )
    return episode_steps, fill(episode_steps, CAPACITY, UNROLL), min(len(episode_steps), CAPACITY)


@jax.jit
def remaining_everywhere(buffer):
    time, env = (grid.ravel() for grid in jnp.indices((CAPACITY, ENVS)))
    return hindsight.steps_remaining(buffer, time, env, EPISODE_LENGTH).reshape(CAPACITY, ENVS)


@given(recording=RECORDINGS)
def test_steps_remaining_matches_a_loop(recording):
    episode_steps, buffer, held = record(recording)
    ours = np.asarray(remaining_everywhere(buffer))[:held]
    futures = steps_with_a_future(episode_steps, held)
    expected = [
        [futures[env, len(episode_steps) - held + time] for env in range(ENVS)]
        for time in range(held)
    ]
    np.testing.assert_array_equal(ours, expected)


@jax.jit
def longest_offsets_everywhere(buffer):
    time, env = (grid.ravel() for grid in jnp.indices((CAPACITY, ENVS)))
    futures = hindsight.futures(buffer, time, env, EPISODE_LENGTH, absorbing=True)
    return futures[1].reshape(CAPACITY, ENVS)


@given(recording=RECORDINGS)
def test_terminated_environment_stays_until_the_episode_length(recording):
    episode_steps, buffer, held = record(recording)
    ours = np.asarray(longest_offsets_everywhere(buffer))[:held]
    for (env, time), later in steps_with_a_future(episode_steps, held).items():
        ended = time + later + 1 < len(episode_steps)
        in_time = episode_steps[time + later, env] < EPISODE_LENGTH - 1
        expected = EPISODE_LENGTH - 1 - episode_steps[time, env] if ended and in_time else later
        assert ours[time - (len(episode_steps) - held), env] == expected


def test_goals_after_a_termination_are_the_terminal_state():
    """Episodes of 3 steps that could have lasted 16: offsets beyond the last step stay at it."""
    buffer = fill(ages_of_episodes([3, 3, 3], 12)[:, None], 12, 6)
    batch = draw(buffer, jax.random.key(1), 60_000, 0.5, 16, absorbing=True)
    steps, goals = steps_and_goals(batch)
    chosen = goals[steps[:, 1] == 3, 1]  # the first step of the second episode
    assert set(chosen) == {4, 5}
    assert np.mean(chosen == 4) == pytest.approx(0.5, abs=0.03)
    last = goals[steps[:, 1] == 5, 1]
    assert len(last) > 1000
    assert set(last) == {5}


@pytest.mark.parametrize("absorbing", [False, True])
def test_steps_record_successor_or_termination(absorbing):
    """Of episodes of 7 steps at most, those of 7 ran out of time and shorter ones terminated."""
    episodes = ([2, 1, 7], [1, 1, 3], [7])
    episode_steps = np.stack([ages_of_episodes(lengths, 5 * UNROLL) for lengths in episodes], -1)
    buffer = fill(episode_steps, CAPACITY, UNROLL)
    batch = draw(buffer, jax.random.key(0), 20_000, 1.0, EPISODE_LENGTH, absorbing, True)
    steps, goals = steps_and_goals(batch)
    seen: dict[tuple[int, int], set[bool]] = {}
    for index, (env, time) in enumerate(map(tuple, steps)):
        seen.setdefault((env, time), set()).add(bool(batch.terminated[index]))
    expected = {}
    for (env, time), later in steps_with_a_future(episode_steps, CAPACITY).items():
        if later > 0:
            expected[env, time] = {False}
        elif time + 1 < len(episode_steps) and episode_steps[time, env] < EPISODE_LENGTH - 1:
            expected[env, time] = {True}
    assert seen == expected
    terminated = np.asarray(batch.terminated)
    assert 0.1 < terminated.mean() < 0.9
    following = np.asarray(batch.next_observation)[~terminated]
    np.testing.assert_array_equal(following, (steps + np.array([0, 1]))[~terminated])
    np.testing.assert_array_equal(batch.achieved_goal, steps)
    # Nothing came after a terminated step, so its hindsight goal is its own.
    np.testing.assert_array_equal(goals[terminated], steps[terminated])


@pytest.mark.parametrize("absorbing", [False, True])
def test_divergence_truncates_an_episode_and_is_never_sampled(absorbing):
    """In both environments episodes of 4 steps that could have lasted 7; in the second their last
    step is one after which the environment diverged, twice in a row at the end."""
    episode_steps = np.tile(ages_of_episodes([4], CAPACITY)[:, None], (1, 2))
    episode_steps[3::4, 1] = episode_steps[20, 1] = ring.CUT_OFF
    buffer = fill(episode_steps, CAPACITY, UNROLL)
    batch = draw(buffer, jax.random.key(0), 20_000, 0.5, EPISODE_LENGTH, absorbing, True)
    steps, goals = steps_and_goals(batch)
    terminated = np.asarray(batch.terminated)
    assert set(steps[steps[:, 0] == 0, 1] % 4) == {0, 1, 2, 3}
    assert terminated[(steps[:, 0] == 0) & (steps[:, 1] == 3)].all()
    # Of three steps that are left, the last has no future and is not known to have terminated.
    second = steps[:, 0] == 1
    assert set(steps[second, 1] % 4) == {0, 1}
    assert not terminated[second].any()
    assert set(goals[second, 1] % 4) == {1, 2}
    assert (goals[second, 1] > steps[second, 1]).all()


@pytest.mark.parametrize("between", [ring.CUT_OFF, 0])
def test_a_cut_off_step_does_not_continue_in_a_later_episode(between):
    """-2 and then 0, 1, ... from two steps later on: one step lies between, the whole of an episode
    that was cut off or that terminated."""
    episode_steps = np.array([ring.CUT_OFF, between, *range(EPISODE_LENGTH), 0, 1, 2])[:, None]
    buffer = fill(episode_steps, 12, UNROLL)
    time, env = jnp.arange(12), jnp.zeros(12, int)
    remaining = hindsight.steps_remaining(buffer, time, env, EPISODE_LENGTH)
    np.testing.assert_array_equal(remaining, [0, 0, 6, 5, 4, 3, 2, 1, 0, 2, 1, 0])


def test_goals_mix_hindsight_and_commanded():
    buffer = fill(ages_of_episodes([7], 24)[:, None], CAPACITY, UNROLL)
    batch = draw(buffer, jax.random.key(0), 20_000, 1.0, EPISODE_LENGTH)
    for share in (0.0, 0.8, 1.0):
        goal = np.asarray(batch.mixed_goals(share, jax.random.key(1)))
        relabelled = (goal == batch.goal).all(-1)
        np.testing.assert_array_equal(goal[~relabelled], batch.commanded_goal[~relabelled])
        assert relabelled.mean() == pytest.approx(share, abs=0.01)


@given(recording=RECORDINGS)
def test_goals_come_from_the_same_episode_and_lie_ahead(recording):
    episode_steps, buffer, held = record(recording)
    futures = steps_with_a_future(episode_steps, held)
    batch = draw(buffer, jax.random.key(0), 512, 0.9, EPISODE_LENGTH)
    if max(futures.values()) == 0:
        assert np.isnan(batch.goal).all()
        return
    steps, goals = steps_and_goals(batch)
    for (env, time), (goal_env, goal_time) in zip(steps, goals, strict=True):
        assert goal_env == env
        assert 1 <= goal_time - time <= futures[env, time]
    np.testing.assert_array_equal(batch.commanded_goal, -batch.observation)
    np.testing.assert_array_equal(batch.action[:, 0], episode_steps[steps[:, 1], steps[:, 0]])


def test_sampling_without_future_steps_terminates():
    buffer = fill(np.zeros((CAPACITY, ENVS), int), CAPACITY, UNROLL)
    batch = draw(buffer, jax.random.key(0), 512, 0.9, EPISODE_LENGTH)
    assert np.isnan(batch.goal).all()
    assert np.isfinite(batch.observation).all()


def test_single_step_with_a_future_is_sampled():
    episode_steps = np.zeros((CAPACITY, ENVS), int)
    episode_steps[11, 1] = 1
    buffer = fill(episode_steps, CAPACITY, UNROLL)
    steps, goals = steps_and_goals(draw(buffer, jax.random.key(0), 16, 0.9, EPISODE_LENGTH))
    assert {tuple(step) for step in steps} == {(1, 10)}
    assert {tuple(goal) for goal in goals} == {(1, 11)}


def chi_square(counts: np.ndarray, chances: np.ndarray) -> float:
    """The p-value of counts under chances; rare cells are pooled into one."""
    expected = counts.sum() * chances / chances.sum()
    rare = expected < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return stats.chisquare(counts, expected).pvalue


@pytest.mark.parametrize("discount", [0.5, 0.99, 1.0])
@pytest.mark.parametrize("longest", [1, 7, 400])
def test_offsets_follow_the_truncated_geometric(discount, longest):
    uniform = jnp.asarray(np.random.default_rng(0).random(50_000), jnp.float32)
    offsets = hindsight.truncated_geometric(uniform, discount, jnp.full(50_000, longest))
    assert int(offsets.min()) >= 1
    assert int(offsets.max()) <= longest
    if longest > 1:
        counts = np.bincount(offsets, minlength=longest + 1)[1:]
        assert chi_square(counts, discount ** np.arange(1.0, longest + 1)) > 1e-3


def test_offset_limits_at_the_ends_of_the_unit_interval():
    ends = jnp.array([0.0, np.nextafter(np.float32(1), np.float32(0))])
    for discount in (0.5, 0.99, 1.0):
        offsets = hindsight.truncated_geometric(ends, discount, jnp.array([5, 5]))
        np.testing.assert_array_equal(offsets, [1, 5])


@pytest.mark.parametrize("discount", [0.5, 0.99, 1.0])
def test_offsets_are_truncated_at_the_steps_future(discount):
    """One environment, one episode of 16 steps after a wrap: step t has 15 - t later ones."""
    episode_steps = np.concatenate([np.zeros(8, int), np.arange(16)])[:, None]
    buffer = fill(episode_steps, 16, 8)
    steps, goals = steps_and_goals(draw(buffer, jax.random.key(5), 60_000, discount, 16))
    offsets = goals[:, 1] - steps[:, 1]
    for start in (0, 5, 12):
        chosen = offsets[steps[:, 1] == 8 + start]
        counts = np.bincount(chosen, minlength=16)[1 : 16 - start]
        assert counts.sum() == len(chosen)
        assert chi_square(counts, discount ** np.arange(1.0, 16 - start)) > 1e-3


def test_steps_with_a_future_are_sampled_uniformly():
    episodes = ([2, 1, 7], [1, 1, 3], [5])
    episode_steps = np.stack([ages_of_episodes(lengths, 5 * UNROLL) for lengths in episodes], -1)
    buffer = fill(episode_steps, CAPACITY, UNROLL)
    futures = steps_with_a_future(episode_steps, CAPACITY)
    drawable = sorted(step for step, later in futures.items() if later > 0)
    assert len(drawable) < 0.75 * len(futures)
    steps, _ = steps_and_goals(draw(buffer, jax.random.key(2), 50_000, 0.9, EPISODE_LENGTH))
    counts = dict.fromkeys(drawable, 0)
    for step in map(tuple, steps):
        counts[step] += 1
    assert chi_square(np.array(list(counts.values())), np.ones(len(counts))) > 1e-3


def test_batches_depend_on_the_key_only():
    buffer = fill(ages_of_episodes([7], 24)[:, None].repeat(ENVS, 1), CAPACITY, UNROLL)
    first, again, other = (
        draw(buffer, jax.random.key(seed), 512, 0.9, EPISODE_LENGTH) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.observation, again.observation)
    np.testing.assert_array_equal(first.goal, again.goal)
    assert not np.array_equal(first.observation, other.observation)


def test_memory_does_not_grow_with_the_buffer():
    def temporary_bytes(capacity: int) -> int:
        buffer = jax.eval_shape(lambda: ring.init(capacity, 16, 4, 2, 2))
        key = jax.eval_shape(lambda: jax.random.key(0))
        compiled = draw.lower(buffer, key, 64, 0.99, 100).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary_bytes(100), temporary_bytes(10_000)
    assert large <= 1.1 * small
    # Far from the [time, time] matrix of one trajectory.
    assert large < 100 * 100 * 4 * 16
