"""Planner over controller: episodes of each, a path around a wall, operations."""

import json
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.analysis.load import load
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.control import SimulatedRobot
from kilolayer.deploy.planning.build import build_planner, build_waypoints
from kilolayer.deploy.planning.hierarchy import (
    Hierarchy,
    Operations,
    act_operations,
    plan_operations,
)
from kilolayer.deploy.planning.planners import Direct
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy, open_policy
from kilolayer.deploy.score import Scorer
from kilolayer.errors import UserError
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.point import PointMaze
from kilolayer.training.evaluate import episode_metrics
from kilolayer.types import Array
from kilolayer_robot.planning import Pursuit

MAZE = PointMaze("u")
SPEC = ActorSpec(TaskSpec(4, 2, 2), TorsoSpec(depth=4, width=16))


@dataclass(frozen=True)
class Straight:
    """Moves straight to its subgoal, with damping."""

    def act(self, state, observation, goal, key, deterministic) -> Array:
        return jnp.clip(3 * (goal - observation[:, :2]) - observation[:, 2:], -1, 1)


class MazeOracle(eqx.Module):
    """Minus the cells of the way through the maze, and a little for what a cell hides."""

    lengths: Array

    def encode(self, goal: Array) -> Array:
        return goal

    def __call__(self, observation: Array, goal: Array, encoding: Array) -> Array:
        first, second = (jnp.round(each[..., :2]).astype(int) for each in (observation, encoding))
        return -self.lengths[first[..., 0], first[..., 1], second[..., 0], second[..., 1]]


def test_subgoals_are_pursued_in_order_and_the_last_is_held() -> None:
    pursuit = Pursuit(replan=20, chunk=5, execute=2, patience=4)
    index, waited = jnp.array([0, 0, 0, 1]), jnp.array([2, 4, 1, 9])
    reached = jnp.array([True, False, False, True])
    index, waited = pursuit.advance(index, waited, reached, 5)
    assert index.tolist() == [1, 1, 0, 1]
    assert waited.tolist() == [0, 0, 2, 10]
    # A plan with fewer subgoals than are executed.
    assert Pursuit(execute=5).advance(0, 0, True, 1) == (0, 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"replan": 0}, "replan = 0 is not allowed: it must be at least 1"),
        ({"execute": 6}, "execute = 6 is not allowed: a plan has 5 subgoals.*choice is 5"),
        ({"patience": -1}, "patience = -1"),
    ],
)
def test_invalid_pursuit_is_refused(options, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        Pursuit(**options)


def test_direct_planner_equals_the_flat_policy(tmp_path) -> None:
    """The last of seven plans is cut by the episode's end."""
    policy = DeployedPolicy(tmp_path, run_config(), SPEC, SPEC.init(jax.random.key(1)), "train", {})
    scorer = Scorer(MAZE, run_config(), episodes=3)
    flat = scorer.play(policy.agent, policy.agent_state)
    pursuit = Pursuit(replan=30, chunk=2, execute=2, patience=5)
    hierarchy = Hierarchy(MAZE, scorer.physics, policy.agent, pursuit)
    run = jax.jit(hierarchy.run)
    direct = run(Direct(2), policy.agent_state, scorer.key, scorer.start)
    for name in ("start", "goal", "achieved", "alive", "qpos", "diverged"):
        np.testing.assert_allclose(getattr(direct, name), getattr(flat, name), atol=1e-5)
    # The policy moves: else everything would be equal.
    assert float(jnp.abs(flat.achieved[-1] - flat.start).max()) > 0.1


def test_planner_guides_a_straight_controller_around_the_wall() -> None:
    scorer = Scorer(MAZE, run_config(), episodes=16)
    alone = scorer.scores(Straight(), jnp.zeros(1))
    lengths = MAZE.maze.path_lengths.astype(np.float32)
    oracle = MazeOracle(jnp.asarray(np.where(lengths < 0, 99.0, lengths)))
    cells = MAZE.maze.free_cells
    observation = np.pad(cells, ((0, 0), (0, 2)))
    planner = build_waypoints(oracle, observation, cells, 3, SilentDisplay())
    hierarchy = Hierarchy(MAZE, scorer.physics, Straight(), Pursuit(20, 3, 3, 20))
    led = jax.jit(hierarchy.run)(planner, jnp.zeros(1), scorer.key, scorer.start)
    scores = episode_metrics(MAZE, led)
    assert alone["success"] < 0.5
    assert scores["success"] == 1.0
    assert scores["path_efficiency"] > 0.8


def test_operations_match_hand_computation(tmp_path) -> None:
    policy = DeployedPolicy(tmp_path, run_config(), SPEC, SPEC.init(jax.random.key(1)), "train", {})
    # Input layer, four hidden layers, mean and deviation of two actions.
    assert act_operations(policy) == 2 * (6 * 16 + 4 * 16 * 16 + 16 * 4)
    assert Operations(act=1000, plan=4000, replan=20).per_step == 1200


def test_hierarchy_command_prints_a_table(tiny_run, capsys, tmp_path) -> None:
    out = tmp_path / "rows.json"
    main(
        f"hierarchy {tiny_run.path} --planner waypoints --nodes 6 --episodes 3 "
        f"--replan 50 --chunk 3 --execute 2 --out {out}".split()
    )
    content = json.loads(out.read_text())
    flat, waypoints = content["rows"]
    assert content["pursuit"] == {"replan": 50, "chunk": 3, "execute": 2, "patience": 50}
    assert [row["planner"] for row in content["rows"]] == ["flat", "waypoints"]
    # Depth 8, width 16: an actor 4 + 2 -> 4, a state-action encoder 4 + 2 -> 8, a goal encoder.
    hidden = 8 * 16 * 16
    actor, pair = 2 * (6 * 16 + hidden + 16 * 4), 2 * (6 * 16 + hidden + 16 * 8)
    goal = 2 * (2 * 16 + hidden + 16 * 8)
    assert flat["operations_per_step"] == actor
    # From the start to six nodes and the goal, from six nodes to the goal; the goal's encoding.
    assert waypoints["operations"]["plan"] == 13 * (actor + pair) + goal
    assert "waypoints" in capsys.readouterr().out
    # Both ends, and three points against the 2,048 places: in eight coordinates.
    policy = open_policy(tiny_run.path)
    interpolation = build_planner(
        "interpolation", tiny_run, policy, Pursuit(chunk=3, execute=3), SilentDisplay()
    )
    assert plan_operations(interpolation, policy) == 2 * goal + 2 * 3 * 2048 * 8


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--execute 9", "execute = 9 is not allowed"),
        ("--nodes 1", "nodes = 1 is not allowed: a path has at least two ends"),
        ("--episodes 0", "episodes = 0 is not allowed"),
        ("--episodes 10000000000", "episodes = 10000000000 is not allowed: it takes"),
        ("--out no/such/place.json", "there is no such directory"),
        ("--controller no-such-run", "no-such-run is not a run directory"),
    ],
)
def test_invalid_command_options_are_refused(options, sentence, tiny_run, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(f"hierarchy {tiny_run.path} --planner direct {options}".split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error.splitlines()[-1]


def test_mismatched_controllers_and_planners_are_refused(run_copy, tmp_path) -> None:
    other = ActorSpec(TaskSpec(27, 8, 2), TorsoSpec(depth=4, width=16))
    ant = DeployedPolicy(tmp_path, run_config(), other, other.init(jax.random.key(0)), "train", {})
    with pytest.raises(UserError, match="of 27, 8 and 2 numbers, and the task point_u_maze has 4"):
        build_planner("direct", run_copy, ant, Pursuit(), SilentDisplay())
    config = json.loads((run_copy.path / "config.json").read_text())
    for checkpoint in (run_copy.path / "checkpoints").iterdir():
        for part in ("agent", "loop"):
            (checkpoint / f"{part}.sha256.json").unlink(missing_ok=True)
        checkpoint.rename(checkpoint.with_name("moved-" + checkpoint.name))
    assert config["agent"]["name"] == "crl"
    with pytest.raises(UserError, match="its checkpoints are gone"):
        open_policy(load(run_copy.path).path)


def test_control_command_for_one_second(tiny_run, capsys, tmp_path) -> None:
    log = tmp_path / "control.jsonl"
    main(f"control {tiny_run.path} --planner direct --seconds 1 --rate 100 --out {log}".split())
    printed = capsys.readouterr().out
    events = [json.loads(line) for line in log.read_text().splitlines()]
    summary = events[-1]
    steps = [event for event in events if event["event"] == "step"]
    assert summary["ticks"] == 100 == summary["steps"] + summary["skipped"]
    assert len(steps) == summary["steps"]
    assert summary["first_error"] is None
    # All but what came before the first plan.
    acted = [step for step in steps if step["safe"] is None]
    assert len(acted) > len(steps) / 2
    # A busy machine may stall the loop.
    assert {step["safe"] for step in steps} <= {None, "no plan", "old plan", "stalled"}
    assert "deadline misses" in printed
    assert "simulated seconds per second" in printed


def test_simulated_robot_plays_consecutive_episodes() -> None:
    robot = SimulatedRobot(MAZE, run_config(), goal=np.array([1.0, 2.0], np.float32))
    first = robot.observe()
    np.testing.assert_array_equal(first.goal, [1, 2])
    for _ in range(MAZE.episode_length):
        place = robot.observe().achieved_goal
        robot.act(np.clip(3 * (first.goal - place), -1, 1))
    (result,) = robot.episodes
    assert result.success
    assert 100 < result.time_at_goal < result.steps == MAZE.episode_length
    assert robot.observe().errand == first.errand + 1
    # Back at the start.
    assert np.abs(robot.observe().achieved_goal - MAZE.maze.start).max() <= 0.25
