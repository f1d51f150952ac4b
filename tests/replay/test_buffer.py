"""The ring buffer against a list, and its copies."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.replay import buffer as ring
from probes import labelled_transitions

ENVS = 3


def recorded_times(buffer: ring.Buffer) -> np.ndarray:
    """Which step every row of every environment holds, `[capacity, envs]`."""
    return np.asarray(buffer.steps.observation[..., 1]).astype(int)


@given(length=st.integers(1, 4), unrolls_that_fit=st.integers(1, 4), inserted=st.integers(0, 11))
def test_buffer_holds_the_newest_steps_of_every_environment(length, unrolls_that_fit, inserted):
    capacity = length * unrolls_that_fit
    buffer = ring.init(capacity, ENVS, 2, 1, 2)
    oracle: list[int] = []
    for index in range(inserted):
        first = index * length
        episode_steps = np.zeros((length, ENVS), int)
        buffer = ring.insert(buffer, labelled_transitions(episode_steps, first))
        oracle = (oracle + list(range(first, first + length)))[-capacity:]
    assert int(buffer.size) == len(oracle)
    assert int(buffer.inserted) == inserted * length
    times = recorded_times(buffer)
    for env in range(ENVS):
        held = times[:, env] if inserted >= unrolls_that_fit else times[: len(oracle), env]
        assert sorted(held.tolist()) == oracle
    if oracle:
        filled = slice(0, len(oracle))
        envs = np.asarray(buffer.steps.observation[filled, :, 0])
        np.testing.assert_array_equal(envs, np.tile(np.arange(ENVS), (len(oracle), 1)))


def test_arrays_of_a_step_stay_aligned():
    buffer = ring.init(6, ENVS, 2, 1, 2)
    for index in range(5):
        episode_steps = np.arange(2)[:, None] + 2 * index + 10 * np.arange(ENVS)
        buffer = ring.insert(buffer, labelled_transitions(episode_steps, 2 * index))
    steps = jax.tree.map(np.asarray, buffer.steps)
    np.testing.assert_array_equal(steps.achieved_goal, steps.observation)
    np.testing.assert_array_equal(steps.goal, -steps.observation)
    np.testing.assert_array_equal(steps.episode_step, steps.action[..., 0])
    expected_age = steps.observation[..., 1] + 10 * steps.observation[..., 0]
    np.testing.assert_array_equal(steps.episode_step, expected_age)


def test_wrapping_unroll_is_refused():
    buffer = ring.init(5, ENVS, 2, 1, 2)
    with pytest.raises(ValueError, match="unroll length 2 does not divide the capacity 5"):
        ring.insert(buffer, labelled_transitions(np.zeros((2, ENVS), int)))


def test_a_donated_buffer_is_written_in_place():
    buffer = ring.init(4000, ENVS, 8, 2, 2)
    unroll = jax.tree.map(lambda leaf: leaf[:10] + 1, buffer.steps)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(buffer))
    insert = jax.jit(ring.insert, donate_argnums=0)
    memory = insert.lower(buffer, unroll).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= size - 64
    assert memory.temp_size_in_bytes < 0.01 * size
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(buffer.steps)]
    after = insert(buffer, unroll)
    assert [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(after.steps)] == places
    assert float(after.steps.observation[:10].min()) == 1.0
    assert float(after.steps.observation[10:].max()) == 0.0


@pytest.mark.parametrize("inserted", [1, 2, 3, 4])
def test_newest_unroll_is_in_time_order(inserted):
    buffer = ring.init(6, ENVS, 2, 1, 2)
    for index in range(inserted):
        unroll = labelled_transitions(np.full((2, ENVS), index), 2 * index)
        buffer = ring.insert(buffer, unroll)
    for stored, new in zip(*map(jax.tree.leaves, (ring.newest(buffer, 2), unroll)), strict=True):
        np.testing.assert_array_equal(stored, new)
