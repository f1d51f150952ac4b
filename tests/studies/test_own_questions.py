"""The questions of our own that stand beside their results: grids, measures, reference scores."""

import numpy as np
import pytest
from results.baselines.collect import row
from results.critic_walls.walls import POINTS_PER_CELL, ranked_right, ways
from results.depth_body.controls import COMPARISONS, NETWORKS, depth_scores

from kilolayer.analysis.value_map import in_walls, map_axes
from kilolayer.errors import UserError
from kilolayer.studies.run import find_question, study
from kilolayer.tasks.registry import make_task
from synthetic_runs import TINY, write_run

SPACING = 1.0  # m, between points: four per cell of 4 m


@pytest.fixture(scope="module")
def points():
    """The free points of the U-maze, `[points, 2]`."""
    maze = make_task("ant_u_maze").maze
    x, y = map_axes(maze, maze.start, POINTS_PER_CELL * max(maze.walls.shape))
    return np.stack(np.meshgrid(x, y, indexing="ij"), -1)[~in_walls(maze, x, y)]


def nearest(points, x, y):
    return int(np.linalg.norm(points - np.array([x, y]), axis=-1).argmin())


@pytest.mark.parametrize(
    ("x", "y", "length"),
    [
        (3.5, 5.5, 2.0),
        (4.5, 4.5, np.sqrt(2)),
        (3.5, 12.5, 9.0),
        # 5 straight and 2 diagonal steps to the end of the wall, 5 along it, and the same back.
        (12.5, 3.5, 2 * (5 + 2 * np.sqrt(2)) + 5),
    ],
)
def test_the_way_leads_around_the_wall(points, x, y, length):
    start = nearest(points, 3.5, 3.5)
    assert ways(points, SPACING)[start, nearest(points, x, y)] == pytest.approx(length)


def test_walled_off_pairs_tell_the_way_from_the_straight_line(points):
    goal = nearest(points, 3.5, 3.5)
    way, line = ways(points, SPACING)[goal], np.linalg.norm(points - points[goal], axis=-1)
    assert ranked_right(-way, way, line) == 1
    assert ranked_right(-line, way, line) == 0
    assert ranked_right(np.zeros(len(points)), way, line) == 0.5
    assert np.isnan(ranked_right(-line, line, line))  # without walls there is no such pair


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("results.depth_body.controls:question", 16),
        ("results.depth_body.collector:question", 20),
        ("results.critic_walls.walls:question", 10),
    ],
)
def test_grid_of_an_own_question_can_be_trained(name, runs):
    question = find_question(name)
    assert len(question.cells(question.setup("body"))) == runs


def test_runs_that_differ_by_another_factor_are_not_reused_as_seeds(write_study, tmp_path):
    """A study of recipes has a factor depth, but its runs of one depth are not seeds."""
    runs = [
        ({"removed": removed, "depth": depth, "seed": seed}, [0.0] * 7, {"depth": depth})
        for removed in ("whole", "relu") for depth in (1, 2) for seed in (0, 1)
    ]  # fmt: skip
    source, out = write_study("recipe", runs).path, tmp_path / "out"
    for question in ("seeds", "depth", "threshold"):
        with pytest.raises(UserError, match=f"answer {question}: its runs differ by removed"):
            study(question, source=source, out=out, progress=False)
    assert not out.exists()


def test_controls_compare_with_five_runs_of_each_depth():
    scores = depth_scores()
    assert {depth: len(seeds) for depth, seeds in scores.items()} == {4: 5, 8: 5, 16: 5, 32: 5}
    assert scores[16].mean() == pytest.approx(34.6, abs=0.05)
    assert {network for network, _, _ in COMPARISONS} == set(NETWORKS)


def test_row_of_a_baseline_names_its_agent_and_the_interval_of_its_episodes(tmp_path):
    run = write_run(tmp_path / "sac", TINY.having(agent="sac-her", eval_envs=50), (0.0, 20.0))
    cells = [cell.strip() for cell in row(run, tmp_path).split("|")]
    assert cells[1:5] == ["`sac-her`", "point_u_maze", "0", "2,000"]
    assert cells[6].startswith("0.20 (0.11 to 0.33)")  # 10 of 50 episodes, Wilson
    assert len((tmp_path / "evaluations-sac.jsonl").read_text().splitlines()) == 2
