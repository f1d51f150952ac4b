"""OGBench's environments as judges: whom they take, what counts, and that a seed repeats itself."""

import re
import sys
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.analysis.statistics import proportion_interval
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy import ogbench
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.errors import UserError
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.registry import make_task

# It has no wheels for Python 3.13.
pytest.importorskip("ogbench")

MEDIUM, ARENA = "ogbench:antmaze-medium-v0", "ogbench:antmaze-arena-v0"


def policy_of(name: str, path: Path = Path("policy")) -> DeployedPolicy:
    """A policy of a task with random weights."""
    task = make_task(name)
    sizes = TaskSpec(len(task.observation), task.action_dim, task.goal.dim)
    spec = ActorSpec(sizes, TorsoSpec(depth=4, width=16, branch_scale=0.25))
    actor = spec.init(jax.random.key(3))
    return DeployedPolicy(path, run_config(task=name), spec, actor, "distil", {})


class Seeing:
    """An agent with zero actions that records its inputs."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    def act(self, state, observation, goal, key, deterministic):
        jax.debug.callback(
            lambda *inputs: self.seen.append(tuple(map(np.array, inputs))), observation, goal
        )
        return jax.numpy.zeros((len(observation), 8))


def seen_by(monkeypatch, task: str, name: str, **arguments) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a policy of `task` in a maze: observations `[steps, episodes, 29]`, goals."""
    agent = Seeing()
    monkeypatch.setattr(DeployedPolicy, "agent", agent)
    ogbench.score(policy_of(task), name, **arguments)
    observations, goals = zip(*agent.seen, strict=True)
    return np.stack(observations), np.stack(goals)


class Notes(SilentDisplay):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_mazes_match_ogbenchs_registry():
    ogbench._make_maze_env()  # imports OGBench
    for name, layout in ogbench.MAZES.items():
        if layout == "arena":
            assert name not in gymnasium.registry
            continue
        registered = gymnasium.spec(name)
        made = {"loco_env_type": "ant", "maze_env_type": "maze", "maze_type": layout}
        assert registered.kwargs == made
        assert registered.max_episode_steps == ogbench.STEPS
        assert registered.entry_point == "ogbench.locomaze.maze:make_maze_env"


@pytest.mark.parametrize("words", ["", "navigate-", "stitch-", "explore-", "navigate-oraclerep-"])
def test_dataset_name_selects_its_maze(words):
    assert ogbench.find_maze(f"ogbench:antmaze-large-{words}v0") == "large"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ogbench:antmaze-medum-v0", "nearest valid choice is ogbench:antmaze-medium-v0"),
        ("antmaze-giant-v0", "nearest valid choice is ogbench:antmaze-giant-v0"),
        ("PointMaze_UMaze-v3", r"scored in ogbench:antmaze-medium-v0, .*ogbench:antmaze-arena-v0"),
        ("ogbench:antmaze-teleport-navigate-v0", "teleports the ant to random places"),
        ("ogbench:visual-antmaze-medium-v0", "its observations are images"),
        ("ogbench:humanoidmaze-large-v0", "69 observations"),
        ("ogbench:antsoccer-arena-v0", "42 observations"),
        ("ogbench:pointmaze-medium-v0", "2 observations; the point of this package has 4"),
        ("ogbench:antmaze-medium-singletask-task2-v0", "gives the policy no goal"),
        ("ogbench:cube-single-v0", "nearest valid choice is"),
    ],
)
def test_unsupported_maze_names_are_refused(name, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        ogbench.find_maze(name)
    assert f"gym = {name!r} is not allowed" in str(error.value)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("point_medium_maze", "has 4 observations and 2 actions, not 29 and 8"),
        ("ant_ball", "has 31 observations"),
        ("gym_ant", "its actuators or its time step differ"),
        ("gym_ant_u_maze", "its actuators or its time step differ"),
    ],
)
def test_a_policy_of_another_body_is_refused(task, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        ogbench.score(policy_of(task), MEDIUM, episodes=1, steps=1)
    assert f"task {task} cannot be scored in {MEDIUM}" in str(error.value)


@pytest.mark.parametrize(
    ("task", "name", "noted"),
    [
        ("ant_medium_maze", MEDIUM, False),
        ("ant_u_maze", MEDIUM, True),
        ("ant", MEDIUM, True),
        ("ant", ARENA, False),
        ("ant_u4_maze_stitching", ARENA, True),
    ],
)
def test_a_policy_of_another_maze_is_scored_with_a_note(task, name, noted):
    display = Notes()
    ogbench.score(policy_of(task), name, episodes=1, steps=1, display=display)
    assert len(display.notes) == noted
    assert all(task in note and name in note for note in display.notes)


def test_a_missing_ogbench_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogbench.locomaze.maze", None)
    with pytest.raises(UserError, match=r"not installed: `pip install 'kilolayer\[ogbench\]'`"):
        ogbench.score(policy_of("ant"), ARENA, episodes=1, steps=1)


def test_maze_positions_are_in_the_tasks_frame(monkeypatch):
    observations, goals = seen_by(monkeypatch, "ant_medium_maze", MEDIUM, episodes=2, steps=1)
    maze = make_task("ant_medium_maze").maze
    tasks = np.repeat(np.arange(1, 6), 2)
    np.testing.assert_array_equal(maze.task_numbers(observations[0, :, :2], goals[0]), tasks)
    np.testing.assert_allclose(observations[0, :, 2], 0.75, atol=0.1)


def test_arena_positions_are_in_the_open_tasks_frame(monkeypatch):
    observations, goals = seen_by(monkeypatch, "ant", ARENA, episodes=6, steps=2)
    assert 0 < np.abs(observations[0, :, :2]).max() <= 0.1
    np.testing.assert_allclose(np.linalg.norm(goals[0], axis=1), 10.0, rtol=1e-5)
    assert len(np.unique(goals[0], axis=0)) == 6
    np.testing.assert_array_equal(goals[0], goals[1])
    # The arena's inside spans 24 m around the middle.
    model = ogbench._environment("arena", 0).model
    walls = model.geom_pos[[model.geom(n).id for n in ("block_0_3", "block_3_0")], :2]
    np.testing.assert_array_equal(walls.min(0) + 2.0 + ogbench.ARENA_SHIFT, [-12, -12])


def test_same_seed_gives_same_scores_and_keeps_numpys_state(monkeypatch):
    before = np.random.get_state()[1].copy()
    inputs_by_run = {}
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        with monkeypatch.context() as patch:
            inputs_by_run[name] = seen_by(
                patch, "ant_large_maze", "ogbench:antmaze-large-v0", episodes=1, seed=seed, steps=3
            )
    for first, again, other in zip(*inputs_by_run.values(), strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_episodes_do_not_depend_on_the_batch_size(monkeypatch):
    whole = ogbench.score(policy_of("ant_medium_maze"), MEDIUM, episodes=1, steps=3)
    together = seen_by(monkeypatch, "ant_medium_maze", MEDIUM, episodes=1, steps=3)[0]
    monkeypatch.setattr(ogbench, "BATCH_ENVS", 2)
    single = seen_by(monkeypatch, "ant_medium_maze", MEDIUM, episodes=1, steps=3)[0]
    # Five episodes in batches of two, the last of which has one place over.
    assert single.shape == (9, 2, 29)
    batches = single.reshape(3, 3, 2, 29).transpose(1, 0, 2, 3).reshape(3, 6, 29)
    np.testing.assert_array_equal(batches[:, :5], together)
    assert whole["all tasks"]["episodes"] == 5


def test_success_depends_on_the_distance_to_the_goal():
    policy, display = policy_of("ant_medium_maze"), SilentDisplay()
    trials = [ogbench.EpisodeSpec(1, 0, np.zeros(2), np.array([gap, 0.0])) for gap in (0.0, 3.0)]
    assert ogbench._play(policy, "medium", trials, 1, 0, 4, display).tolist() == [4, 0]


def test_success_matches_ogbenchs_termination(monkeypatch, tmp_path):
    """The same controls give the same success in OGBench's episodes, which end at success."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # OGBench leaves a file behind
    place, goal = np.zeros(2), np.array([2.0, 0.0])
    # The ant is thrown past its goal, 2 m ahead: it arrives later than at once, and leaves again.
    found = {}
    for ends in (True, False):
        environment = ogbench._make_maze_env()(
            "ant", "maze", maze_type="medium", terminate_at_goal=ends
        )
        ogbench._reset(environment, ogbench.EpisodeSpec(1, 0, place, goal))
        velocity = np.zeros(14)
        velocity[0] = 8.0
        environment.set_state(environment.data.qpos.copy(), velocity)
        steps = [environment.step(np.zeros(8)) for _ in range(12)]
        reached = np.array([info["success"] for *_, info in steps])
        ended = np.array([terminated for _, _, terminated, _, _ in steps])
        np.testing.assert_array_equal(ended, reached.astype(bool) & ends)
        found[ends] = reached
    np.testing.assert_array_equal(found[True], found[False])
    assert found[False][0] == 0
    assert found[False].any()


def test_scores_match_hand_computation():
    scores = ogbench._scores(np.array([0, 10, 0, 30]))
    interval = proportion_interval(2, 4)
    assert scores == {
        "success": 0.5,
        "success_low": interval.low,
        "success_high": interval.high,
        "time_at_goal": 10.0,
        "episodes": 4.0,
    }


def test_the_command_prints_the_score_of_every_task(tmp_path, capsys):
    saved = policy_of("ant_medium_maze").save(tmp_path / "policy")
    main(["evaluate", str(saved.path), "--gym", MEDIUM, "--episodes", "1", "--steps", "2"])
    captured = capsys.readouterr()
    assert re.search(r"task 1 .*task 5 .*all tasks +│ +5 │ +0\.000", captured.out, re.DOTALL)
    assert "100%" in captured.err


def test_goal_option_is_refused_with_ogbench(tmp_path, capsys):
    saved = policy_of("ant").save(tmp_path / "policy")
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(saved.path), "--gym", ARENA, "--goal", "8,0"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "goal = '8,0' is not allowed: OGBench's tasks have fixed goals" in error


@pytest.mark.parametrize("field", ["episodes", "steps", "samples"])
def test_counts_below_one_are_refused(field):
    with pytest.raises(UserError, match=f"{field} = 0 is not allowed: it must be at least 1"):
        ogbench.score(policy_of("ant"), ARENA, **{field: 0})
