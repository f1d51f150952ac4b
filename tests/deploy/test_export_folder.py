"""`kilolayer export --to` writes the folder for `kilolayer-robot run` and refuses invalid input."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest

from kilolayer.cli import main
from kilolayer.deploy.export import folder as exporting
from kilolayer.deploy.export.check import (
    difference,
    float32_noise,
    policy_noise,
    reference,
    tolerance,
)
from kilolayer.deploy.export.onnx_graph import policy_graph, value_graph
from kilolayer.deploy.export.onnx_session import open_session, session_of
from kilolayer.deploy.planning.build import build_planner, for_single_env
from kilolayer.deploy.planning.planners import CriticValue
from kilolayer.deploy.policy import open_policy
from kilolayer.errors import UserError
from kilolayer.networks.actor import Actor
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.runtime.progress import SilentDisplay
from kilolayer_robot.card import Card
from kilolayer_robot.planning import Pursuit
from kilolayer_robot.policy import Policy
from kilolayer_robot.robot import Sensed
from kilolayer_robot.waypoints import open_waypoints

SIZES = {"observation": 5, "goal": 3, "action": 2}


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    to = tmp_path_factory.mktemp("folders") / "policy"
    options = "--planner waypoints --nodes 8 --episodes 2"
    main(f"export {tiny_run.path} --to {to} {options}".split())
    return to


def test_exported_folder_acts_like_the_run(exported, tiny_run, normal) -> None:
    observation, goal = np.asarray(normal(0, 3, 4)), np.asarray(normal(1, 3, 2))
    policy = Policy.open(exported)
    expected = tiny_run.policy(observation, goal)
    np.testing.assert_allclose(policy(observation, goal), expected, atol=1e-5)


def test_card_describes_the_coordinates(exported, tiny_run) -> None:
    card, task = Card.read(exported), tiny_run.task
    assert [each.name for each in card.goal] == ["x", "y"]
    assert {each.unit for each in card.goal} == {"cell"}
    assert (card.radius, card.control_step) == (task.goal.radius, task.world.control_step)
    assert [(each.low, each.high) for each in card.action] == [(-1.0, 1.0)] * 2
    assert all(each.low <= each.high for each in card.observation)
    facts = card.made_by
    assert facts["opset"] == 20
    assert set(facts["packages"]) == {"kilolayer", "jax", "onnx", "onnxruntime", "numpy"}
    assert max(facts["differences"].values()) <= facts["tolerance"]
    assert facts["scores"]["policy"]["time_at_goal"] == pytest.approx(
        facts["scores"]["graph"]["time_at_goal"], abs=1.0
    )


def test_recorded_waypoints_plan_as_the_run_does(exported, tiny_run, normal) -> None:
    planner = for_single_env(
        build_planner(
            "waypoints", tiny_run, open_policy(tiny_run.path), Pursuit(), SilentDisplay(), nodes=8
        )
    )
    recorded = open_waypoints(exported, Card.read(exported), Pursuit().chunk)
    same = 0
    for row in range(20):
        observation = np.abs(np.asarray(normal(row, 4)))
        goal = 1 + np.abs(np.asarray(normal(100 + row, 2)))
        expected = planner(observation, observation[:2], goal)
        found = recorded(Sensed(observation, observation[:2], goal))
        assert found.shape == expected.shape == (5, 2)
        same += np.allclose(found, expected, atol=1e-5)
    # Rounding may decide between two ways of equal length.
    assert same >= 19


@pytest.mark.parametrize("energy", ["euclidean", "squared_euclidean", "dot", "cosine"])
def test_the_graph_of_the_value(energy, tiny_run, normal) -> None:
    parameters = tiny_run.agent_state.parameters
    value = CriticValue(parameters.actor, parameters.critic, energy)
    graph = value_graph(value, {"observation": 4, "goal": 2, "action": 2})
    onnx.checker.check_model(graph, full_check=True)
    observation, goal = np.asarray(normal(0, 6, 4)), np.asarray(normal(1, 6, 2))
    rows = {"observation": observation, "goal": goal}
    (found,) = session_of(graph.SerializeToString()).run(["energy"], rows)
    expected = jax.jit(lambda value: value(observation, goal, value.encode(goal)))(value)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("depth", "width", "scale"), [(256, 64, 1.0), (1024, 16, 1.0), (1024, 16, 2 / 256)]
)
def test_deep_graphs_are_within_float32_noise(depth, width, scale, normal) -> None:
    """Depth 256 of the published form differs by more than 1e-5, and by no more than rounding."""
    torso = TorsoSpec(depth, width, branch_scale=scale)
    actor = Actor.init(jax.random.key(0), *SIZES.values(), torso)
    inputs = np.asarray(normal(0, 32, 5)), np.asarray(normal(1, 32, 3))
    noise = policy_noise(actor, {"random": inputs})
    session = open_session(policy_graph(actor, SIZES).SerializeToString())
    largest = difference(session, reference(actor), *inputs)
    assert largest <= tolerance(noise)
    # A graph that is wrong by a hundredth of a weight is far outside.
    assert tolerance(noise) < 1e-3


def test_noise_matches_hand_computation() -> None:
    """Both factors of x w move by 2^-23 of themselves, and the product is rounded once more."""
    inputs = np.full((500, 1), 3.0, np.float32), np.zeros((500, 1), np.float32)
    noise = float32_noise(lambda w, x, _: x * w, np.full(500, 5.0, np.float32)[:, None], inputs)
    assert 15 * 2**-23 < noise < 15 * 3 * 2**-23
    assert tolerance(1e-9) == 1e-5
    assert tolerance(1e-3) == 4e-3


@pytest.mark.parametrize(("weights", "most"), [("float16", 2e-3), ("int8", 0.1)])
def test_float16_and_int8_weights(weights, most, random_module, normal) -> None:
    torso = TorsoSpec(4, 32, 2, architecture=Architecture())
    actor = random_module(Actor.init, *SIZES.values(), torso)
    content = policy_graph(actor, SIZES, weights=weights).SerializeToString()
    whole = policy_graph(actor, SIZES).SerializeToString()
    assert len(content) < {"float16": 0.65, "int8": 0.5}[weights] * len(whole)
    inputs = np.asarray(normal(0, 32, 5)), np.asarray(normal(1, 32, 3))
    largest = np.abs(open_session(content)(*inputs)[0] - reference(actor)(*inputs)[0]).max()
    assert 0 < largest < most


def test_wrong_graph_leaves_no_files(tiny_run, tmp_path, monkeypatch) -> None:
    def shifted(*arguments):
        graph = build(*arguments)
        bias = graph.graph.initializer[-4]
        values = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        return graph

    build = exporting.policy_graph
    monkeypatch.setattr(exporting, "policy_graph", shifted)
    with pytest.raises(UserError, match=r"policy.onnx differs from the policy by .* is allowed"):
        exporting.export_robot(tiny_run.path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--weights int8", "weights = 'int8' is not allowed: it needs --to FOLDER"),
        ("--planner waypoints", "planner = 'waypoints' is not allowed: it needs --to"),
        ("--to {out} --out {out}2", "--to names the folder already, omit one of the two"),
        ("--to {out} --format stablehlo", "format = 'stablehlo' is not allowed: a folder of --to"),
        ("--to {out} --nodes 8", "nodes = 8 is not allowed: it needs --planner waypoints"),
        ("--nodes 8", "nodes = 8 is not allowed: it needs --planner waypoints"),
        ("--to {out} --episodes -1", "episodes = -1 is not allowed"),
        ("--to {out} --episodes 10000000000", "episodes = 10000000000 is not allowed: it takes"),
        ("--to {taken}", "exists already: choose another with --to"),
        ("--to {out} --opset 16", "opset = 16 is not allowed"),
    ],
)
def test_invalid_options_are_refused(
    options, sentence, tiny_run, exported, tmp_path, capsys
) -> None:
    options = options.format(out=tmp_path / "out", taken=exported)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tiny_run.path), *options.split()])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_waypoints_need_a_run(exported, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(f"export zoo:point_u_maze --to {tmp_path / 'out'} --planner waypoints".split())
    assert "is a policy on its own and has no critic to plan with" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_damaged_waypoints_are_refused(exported, tmp_path) -> None:
    card = Card.read(exported)
    (tmp_path / "waypoints.npz").write_bytes((exported / "waypoints.npz").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"waypoints.npz is truncated or damaged .*another SHA"):
        open_waypoints(tmp_path, card, 5)
    plain = json.loads(card.to_json())
    assert set(plain["files"]) == {"policy.onnx", "value.onnx", "waypoints.npz"}


def test_waypoints_with_a_true_checksum_are_read_with_care(exported, tmp_path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "policy"))
    card = Card.read(folder)
    cut = (folder / "waypoints.npz").read_bytes()[:-9]
    (folder / "waypoints.npz").write_bytes(cut)
    known = card.files | {"waypoints.npz": hashlib.sha256(cut).hexdigest()}
    with pytest.raises(UserError, match=r"waypoints.npz is missing or damaged: File is not a zip"):
        open_waypoints(folder, replace(card, files=known), 5)
    shutil.copy(exported / "waypoints.npz", folder)
    graph = onnx.load(folder / "value.onnx")
    graph.graph.output[0].name = graph.graph.node[-1].output[0] = "worth"
    onnx.save(graph, folder / "value.onnx")
    known = {name: each for name, each in card.files.items() if name != "value.onnx"}
    with pytest.raises(UserError, match=r"value.onnx cannot be run: .*energy"):
        open_waypoints(folder, replace(card, files=known), 5)
