"""OGBench's mazes among our tasks, held against the package: places, walls, physics, splits."""

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.tasks.mazes import EVALUATION_TASKS, Maze
from kilolayer.tasks.registry import make_task
from kilolayer.training.evaluate import Episodes, episode_metrics

# It has no wheels for Python 3.13.
make_maze_env = pytest.importorskip("ogbench.locomaze.maze").make_maze_env

LAYOUTS = sorted(EVALUATION_TASKS)
SHIFT = 4.0  # m: a place of ours is theirs plus this, along x and y
ENVS = 2000


@pytest.fixture(scope="module", params=LAYOUTS)
def pair(request, tmp_path_factory):
    """Our task in a layout, and OGBench's environment of that name."""
    with pytest.MonkeyPatch.context() as patch:
        # OGBench leaves a temporary file behind.
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("ogbench")))
        theirs = make_maze_env("ant", "maze", maze_type=request.param)
    return make_task(f"ant_{request.param}_maze"), theirs


def starts_and_goals(task, split):
    """Positions `[envs, 2]`."""
    goal = task.sample_goal(jax.random.key(0), ENVS, split)
    qpos, _ = task.reset(jax.random.key(1), goal, split)
    return np.asarray(qpos)[:, :2], np.asarray(goal)


def test_starts_and_goals_match_ogbench_after_the_shift(pair):
    ours, theirs = pair
    places = [[info["init_xy"], info["goal_xy"]] for info in theirs.task_infos]
    np.testing.assert_array_equal(ours.maze.tasks, np.array(places) + SHIFT)
    # The point's cells have a side of one.
    np.testing.assert_array_equal(Maze(ours.layout, 1.0).tasks, ours.maze.tasks / 4)


def test_free_cells_match_ogbench(pair):
    ours, theirs = pair
    np.testing.assert_array_equal(ours.maze.walls, theirs.maze_map.T == 1)
    np.testing.assert_array_equal(
        make_task(f"point_{ours.layout}_maze").world.walls, ours.maze.walls
    )
    for cell in np.argwhere(~ours.maze.walls):
        row, column = theirs.xy_to_ij(cell * 4.0 - SHIFT)
        assert theirs.maze_map[row, column] == 0


def boxes(model: mujoco.MjModel) -> np.ndarray:
    """Lowest and highest corner of every box, `[boxes, 2, 3]`."""
    chosen = model.geom_type == int(mujoco.mjtGeom.mjGEOM_BOX)
    centre, half = model.geom_pos[chosen], model.geom_size[chosen]
    return np.stack([centre - half, centre + half], axis=1)


def covered(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How many boxes hold each of `points [points, 3]`."""
    inside = (points[:, None] > boxes[:, 0]) & (points[:, None] < boxes[:, 1])
    return inside.all(-1).sum(-1)


def test_walls_fill_the_same_space(pair):
    ours, theirs = pair
    here, there = boxes(ours.world.model), boxes(theirs.model)
    # Points at 1 m from each other in every cell, on both sides of the walls' upper edge.
    x, y = (np.arange(-2, 4 * count - 2) + 0.5 for count in ours.maze.walls.shape)
    points = np.stack(np.meshgrid(x, y, [0.01, 1.99, 2.01], indexing="ij"), -1).reshape(-1, 3)
    expected = covered(there, points - [SHIFT, SHIFT, 0])
    assert set(expected) == {0, 1}
    np.testing.assert_array_equal(covered(here, points), expected)
    assert np.prod(here[:, 1] - here[:, 0], -1).sum() == pytest.approx(
        np.prod(there[:, 1] - there[:, 0], -1).sum()
    )


def test_equal_controls_from_equal_states_lead_to_equal_states(pair):
    """Thrown against a wall too. Both integrate by Runge-Kutta of order four."""
    ours, theirs = pair
    here, there = ours.world.model, theirs.model
    assert here.opt.integrator == there.opt.integrator == int(mujoco.mjtIntegrator.mjINT_RK4)
    generator = np.random.default_rng(0)
    touched = 0
    for velocity in ([0, 0], [-6, 0], [0, -6]):  # the start's walls lie at lower x and y
        mine, its = mujoco.MjData(here), mujoco.MjData(there)
        mine.qpos[:] = [4, 4, 0.75, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]
        mine.qvel[:2] = velocity
        its.qpos[:], its.qvel[:] = mine.qpos, mine.qvel
        its.qpos[:2] -= SHIFT
        for _ in range(60):
            mine.ctrl[:] = its.ctrl[:] = generator.uniform(-1, 1, 8)
            mujoco.mj_step(here, mine)
            mujoco.mj_step(there, its)
            walls = here.geom_type[mine.contact.geom] == int(mujoco.mjtGeom.mjGEOM_BOX)
            touched += bool(walls.any())
            np.testing.assert_allclose(mine.qpos - its.qpos, [4, 4, *[0] * 13], atol=1e-9)
            np.testing.assert_allclose(mine.qvel, its.qvel, atol=1e-8)
    assert touched > 10


@pytest.mark.parametrize("layout", LAYOUTS)
def test_evaluation_draws_ogbenchs_tasks_uniformly(layout):
    task = make_task(f"ant_{layout}_maze")
    starts, goals = starts_and_goals(task, "evaluation")
    counts = np.bincount(task.maze.task_numbers(starts, goals), minlength=6)
    assert counts[0] == 0
    # Five standard deviations of a binomial count.
    assert np.abs(counts[1:] - ENVS / 5).max() < 5 * np.sqrt(ENVS * 0.2 * 0.8)
    for places in (starts, goals):
        offset = places - np.rint(places / 4) * 4
        assert 0.98 < np.abs(offset).max() <= 1.0 + 1e-5
        assert np.abs(offset.mean(0)).max() < 0.1


@pytest.mark.parametrize(
    "name", [f"{body}_{layout}_maze" for body in ("ant", "point") for layout in LAYOUTS]
)
def test_training_starts_and_goals_cover_all_free_cells(name):
    task = make_task(name)
    maze = task.maze
    for places in starts_and_goals(task, "training"):
        counts = np.zeros(maze.walls.shape, int)
        np.add.at(counts, tuple(maze.cell_of(places).T), 1)
        assert (counts[maze.walls] == 0).all()
        expected = ENVS / (~maze.walls).sum()
        assert (np.abs(counts[~maze.walls] - expected) < 5 * np.sqrt(expected)).all()
    starts, goals = (maze.cell_of(places) for places in starts_and_goals(task, "training"))
    correlation = np.corrcoef(np.concatenate([starts, goals], 1).T)[:2, 2:]
    assert np.abs(correlation).max() < 0.12  # five standard deviations


@pytest.mark.parametrize("split", ["training", "evaluation"])
def test_no_ant_starts_in_a_wall(split):
    task = make_task("ant_large_maze")
    model, data = task.world.model, mujoco.MjData(task.world.model)
    goal = task.sample_goal(jax.random.key(2), ENVS, split)
    for qpos in np.asarray(task.reset(jax.random.key(3), goal, split)[0]):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        touching = model.geom_type[data.contact.geom[data.contact.dist < 0]]
        assert not (touching == int(mujoco.mjtGeom.mjGEOM_BOX)).any()


def test_other_goals_start_from_any_tasks_start():
    task = make_task("ant_medium_maze")
    goal = jnp.tile(jnp.array([8.0, 4.0]), (ENVS, 1))  # row 2, column 1
    starts = np.asarray(task.reset(jax.random.key(0), goal, "evaluation")[0])[:, :2]
    cells, counts = np.unique(task.maze.cell_of(starts), axis=0, return_counts=True)
    assert {tuple(cell) for cell in cells.tolist()} == {(1, 1), (1, 6), (3, 5), (5, 6), (6, 2)}
    assert counts.min() > 0.8 * ENVS / 5


def test_success_of_every_task_is_reported():
    task = make_task("point_large_maze")
    begin, end = task.maze.tasks[:, 0], task.maze.tasks[:, 1]
    achieved = np.stack([begin, np.where(np.arange(5)[:, None] % 2 == 0, end, begin)])
    goal = np.tile(end, (2, 1, 1))
    alive = np.ones((2, 5), bool)
    parts = begin, goal, achieved, alive, achieved, ~alive
    episodes = Episodes(*map(jnp.asarray, parts))
    scores = episode_metrics(task, episodes)
    success = {name: scores[f"success_by_task/{name}"] for name in range(1, 6)}
    assert success == {1: 1.0, 2: 0.0, 3: 1.0, 4: 0.0, 5: 1.0}


def test_episodes_are_as_long_as_ogbenchs():
    for layout in LAYOUTS:
        for body in ("ant", "point"):
            steps = gymnasium.spec(f"{body}maze-{layout}-v0").max_episode_steps
            assert make_task(f"{body}_{layout}_maze").episode_length == steps


def test_the_ground_is_drawn_under_the_whole_maze(pair):
    model = pair[0].world.model
    floor = model.geom("floor")
    assert (boxes(model)[:, 1, :2].max(0) <= floor.size[:2]).all()
    assert (floor.pos[:2] == 0).all()
