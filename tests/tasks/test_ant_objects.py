"""The ball and the block: where they start, what moves them, what stops them."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.physics.native import NativePhysics
from kilolayer.tasks.registry import make_task

ENVS = 64


@pytest.fixture(scope="module")
def ball():
    """The task, its goals and the state after half a second of zero controls."""
    task = make_task("ant_ball")
    goal = task.sample_goal(jax.random.key(0), ENVS, "training")
    physics = NativePhysics(task.world, ENVS, threads=1)
    first = physics.init(*task.reset(jax.random.key(1), goal, "training"))
    step, state = jax.jit(physics.step), first
    for _ in range(10):
        state = step(state, jnp.zeros((ENVS, 8)))
    return task, np.asarray(goal), first, state


def test_ball_starts_toward_the_goal_and_clear_of_the_ant(ball):
    task, goal, first, _ = ball
    offset = np.asarray(task.achieved_goal(first)) - 0.28 * goal
    assert 0.09 < np.abs(offset).max() <= 0.1
    model = task.world.model
    data, ball_geom = mujoco.MjData(model), model.body("ball").geomadr[0]
    for qpos in np.asarray(first.qpos):
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        touching = [set(contact.geom) for contact in data.contact if contact.dist < 0]
        assert not any(ball_geom in pair and 0 not in pair for pair in touching)


def test_untouched_ball_stays(ball):
    task, _, first, state = ball
    moved = np.linalg.norm(task.achieved_goal(state) - task.achieved_goal(first), axis=-1)
    assert np.median(moved) < 0.01


def test_hit_ball_rolls_and_stops():
    task = make_task("ant_ball")
    physics = NativePhysics(task.world, 1, threads=1)
    goal = jnp.array([[5.0, 0.0]])
    qpos, qvel = task.reset(jax.random.key(0), goal, "training")
    state = physics.init(qpos, qvel.at[:, 14].set(2.0))  # 2 m/s, away from the ant
    places = [np.asarray(task.achieved_goal(state))[0, 0]]
    for _ in range(400):
        state = physics.step(state, jnp.zeros((1, 8)))
        places.append(np.asarray(task.achieved_goal(state))[0, 0])
    assert 0.5 < places[-1] - places[0] < 10
    assert abs(places[-1] - places[-20]) < 0.02
    assert np.asarray(task.observe(state))[0, 29] == pytest.approx(places[-1])


def test_both_goals_lie_beyond_the_crossing():
    maze = make_task("ant_push").maze
    start, crossing = maze.start, np.array([8.0, 8.0])
    assert maze.goals("evaluation").tolist() == [[8, 16], [16, 8]]
    walls = maze.walls.copy()
    walls[2, 2] = True
    seen, stack = set(), [tuple(maze.cell_of(start))]
    while stack:
        row, column = stack.pop()
        if (row, column) not in seen and not walls[row, column]:
            seen.add((row, column))
            stack += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    assert seen == {(1, 1), (1, 2), (2, 1)}
    assert maze.path_lengths_between(start, crossing) == 2


def thrown_block(velocity: tuple[float, float], ant: tuple[float, float] | None = None):
    """Path `[time, 2]` of the block: thrown itself, or hit by an ant that is thrown."""
    task = make_task("ant_push")
    physics = NativePhysics(task.world, 1, threads=1)
    goal = task.sample_goal(jax.random.key(0), 1, "training")
    qpos, qvel = task.reset(jax.random.key(0), goal, "training")
    if ant is None:
        qvel = qvel.at[:, 14:].set(jnp.array(velocity))
    else:
        qpos = qpos.at[:, :2].set(jnp.array(ant))
        qvel = qvel.at[:, :2].set(jnp.array(velocity))
    state, places = physics.init(qpos, qvel), []
    for _ in range(60):
        state = physics.step(state, jnp.zeros((1, 8)))
        places.append(np.asarray(task.observe(state))[0, 29:])
    return np.array(places)


def test_an_ant_moves_the_block():
    path = thrown_block((8.0, 0.0), ant=(4.0, 8.0))
    assert path[-1, 0] > 8.5
    assert path[-1, 1] == pytest.approx(8.0, abs=0.11)


@pytest.mark.parametrize("axis", [0, 1])
def test_walls_stop_the_block_and_corridors_do_not(axis):
    velocity = [0.0, 0.0]
    velocity[axis] = 40.0
    path = thrown_block((velocity[0], velocity[1]))
    # The corridor ends at 18 m and the block is 1.9 m to either side.
    assert 14 < path[:, axis].max() < 16.5
    assert np.abs(path[:, 1 - axis] - 8).max() < 0.12
