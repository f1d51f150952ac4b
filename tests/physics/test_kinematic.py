"""The point among walls: it never enters one, it slides, it has a top speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer.tasks.mazes import TRAINING_LAYOUTS, Maze

# One free corridor of 1 x 5 cells, and an open room of 5 x 5.
CORRIDOR = PointWorld(walls=((True,) * 7, (True, *(False,) * 5, True), (True,) * 7))
ROOM = PointWorld(walls=((True,) * 7, *((True, *(False,) * 5, True),) * 5, (True,) * 7))
STEPS, ENVS = 300, 32


def drive(world: PointWorld, position: list, control: list, steps: int):
    """Positions and velocities `[steps, 2]` under a constant control."""
    physics = KinematicPhysics(world)
    state = physics.init(jnp.array([position], jnp.float32), jnp.zeros((1, 2)))

    def step(state, _):
        state = physics.step(state, jnp.array([control], jnp.float32))
        return state, (state.qpos[0], state.qvel[0])

    return jax.tree.map(np.asarray, jax.lax.scan(step, state, length=steps)[1])


@pytest.mark.parametrize("layout", sorted(TRAINING_LAYOUTS))
def test_point_never_enters_a_wall_or_skips_a_cell(layout):
    maze = Maze(layout, 1.0)
    walls = maze.walls
    physics = KinematicPhysics(PointWorld(tuple(tuple(map(bool, row)) for row in walls)))
    free = np.argwhere(~walls)

    @jax.jit
    def path(position, velocity, controls):
        def step(state, control):
            state = physics.step(state, control)
            return state, state.qpos

        return jax.lax.scan(step, physics.init(position, velocity), controls)[1]

    @settings(max_examples=10)
    @given(seed=st.integers(0, 2**32 - 1), persistence=st.sampled_from([1, 5, 30]))
    def explore(seed, persistence):
        generator = np.random.default_rng(seed)
        position = free[generator.integers(len(free), size=ENVS)].astype(float)
        position += generator.uniform(-0.39, 0.39, position.shape)
        velocity = generator.uniform(-2, 2, position.shape)
        bang = generator.choice([-1.0, 0.0, 1.0], (STEPS // persistence, ENVS, 2))
        controls = np.repeat(bang, persistence, axis=0)
        arrays = (jnp.asarray(a, jnp.float32) for a in (position, velocity, controls))
        places = np.concatenate([position[None], np.asarray(path(*arrays))])
        cells = np.rint(places).astype(int)
        assert not walls[cells[..., 0], cells[..., 1]].any()
        assert np.abs(np.diff(places, axis=0)).max() < 0.5

    explore()


@pytest.mark.parametrize(
    ("control", "face"), [([1, 0], 5.4), ([-1, 0], 0.6), ([0, 1], 5.4), ([0, -1], 0.6)]
)
def test_wall_stops_the_point_at_its_radius(control, face):
    axis = int(np.argmax(np.abs(control)))
    positions, velocities = drive(ROOM, [3, 3], control, 100)
    assert positions[-1, axis] == pytest.approx(face, abs=1e-5)
    assert positions[-1, 1 - axis] == pytest.approx(3.0)
    np.testing.assert_array_equal(velocities[-1], [0, 0])


def test_point_slides_along_a_wall():
    positions, velocities = drive(CORRIDOR, [1, 1], [1, 1], 20)
    np.testing.assert_allclose(positions[5:, 0], 1.4, atol=1e-5)
    assert velocities[10, 0] == 0
    assert velocities[10, 1] > 1.5
    assert positions[-1, 1] > 3


def test_terminal_speed_is_acceleration_over_drag():
    long_corridor = PointWorld(walls=((True,) * 102, (True, *(False,) * 100, True), (True,) * 102))
    positions, velocities = drive(long_corridor, [1, 1], [0, 1], 100)
    assert velocities[-1, 1] == pytest.approx(6.0 / 3.0, rel=1e-4)
    assert np.diff(positions[-10:, 1]) == pytest.approx(0.2, rel=1e-3)


def test_first_step_matches_hand_computation():
    # v = 0.1 * 6 * 0.5 = 0.3, then x = 3 + 0.1 * 0.3; next v = 0.3 + 0.1 * (3 - 0.9) = 0.51.
    positions, velocities = drive(ROOM, [3, 3], [0.5, 0.0], 2)
    np.testing.assert_allclose(velocities[:, 0], [0.3, 0.51], rtol=1e-6)
    np.testing.assert_allclose(positions[:, 0], [3.03, 3.081], rtol=1e-6)


def test_steps_are_deterministic_and_environments_independent(normal, assert_trees_equal):
    physics = KinematicPhysics(ROOM)
    state = physics.init(jnp.full((4, 2), 3.0), normal(0, 4, 2))
    control = jnp.clip(normal(1, 4, 2), -1, 1)
    first = physics.step(state, control)
    assert_trees_equal(physics.step(state, control), first)
    other = physics.step(state, control.at[0].set(1.0))
    assert_trees_equal(*(jax.tree.map(lambda leaf: leaf[1:], s) for s in (other, first)))


def test_reset_changes_only_the_selected_environments(normal):
    physics = KinematicPhysics(ROOM)
    state = physics.init(jnp.full((3, 2), 3.0), normal(0, 3, 2))
    after = physics.reset(
        state, jnp.array([False, True, False]), jnp.ones((3, 2)), jnp.zeros((3, 2))
    )
    np.testing.assert_array_equal(after.qpos, [[3, 3], [1, 1], [3, 3]])
    np.testing.assert_array_equal(after.qvel[1], [0, 0])
    np.testing.assert_array_equal(after.qvel[::2], state.qvel[::2])
