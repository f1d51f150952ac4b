"""Bad input of `kilolayer-robot run` is one sentence and exit code 2, and nothing is sent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from benchmarks.cart import received
from onnx import TensorProto, helper, numpy_helper

from kilolayer_robot.card import Card
from kilolayer_robot.cli import main
from kilolayer_robot.errors import UserError
from kilolayer_robot.policy import Policy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(policy_folder, tmp_path) -> Path:
    """A policy folder that a test may damage."""
    return Path(shutil.copytree(policy_folder, tmp_path / "policy"))


def change_card(folder: Path, **fields: object) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def sentence(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2, error
    assert len(error.strip().splitlines()) == 1
    return error


def run(folder: Path, record: Path, *options: object) -> list[object]:
    robot = ["--robot", "benchmarks.cart:Cart", "--set", f"record={record}", "--goal", "0.5"]
    lock = ["--lock", f"bad-input-{os.getpid()}"]
    return ["run", folder, *robot, *lock, "--seconds", "0.2", *options]


def test_card_of_another_version_is_refused(folder, tmp_path, capsys) -> None:
    change_card(folder, version=7)
    message = sentence(capsys, *run(folder, tmp_path / "record"))
    assert "has version 7 and this kilolayer-robot reads version 1" in message
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"action": [{"name": "speed", "unit": "m/s"}]}, "has no finite bounds low < high"),
        (
            {"action": [{"name": "speed", "unit": "m/s", "low": 1.0, "high": 1.0}]},
            "has no finite bounds low < high",
        ),
        ({"control_step": 0}, "control_step = 0: the value must be above 0"),
        ({"safe_action": [5.0]}, "the safe action on the card of cart is outside the bounds"),
        ({"format": "other"}, "is not the card of a robot policy"),
        ({"goal": "north"}, "is damaged or incomplete"),
        ({"colour": "red"}, "is damaged or incomplete"),
        ({"files": ["policy.onnx"]}, "is damaged or incomplete"),
        ({"name": 5}, "is damaged or incomplete"),
        ({"radius": "wide"}, "has radius = 'wide'"),
        ({"radius": 10**400}, "the value must be above 0"),
        ({"control_step": True}, "has control_step = True"),
        ({"safe_action": [10**400]}, "the safe action on the card of cart is not an array"),
        ({"safe_action": "off"}, "the safe action on the card of cart is not an array"),
        ({"observation": []}, "names no observation, goal or action"),
        (
            {"goal": [{"name": "x", "unit": "m", "low": "a", "high": 1}]},
            "a bound that is no number",
        ),
        ({"goal": [{"name": "x", "unit": "m", "low": 0}]}, "x has one bound of two"),
        ({"goal": [{"name": "x", "unit": 5}]}, "a name or a unit is not text"),
        (
            {"action": [{"name": "speed", "unit": "m/s", "low": 0.0, "high": 1e39}]},
            "speed has a bound that is no number",
        ),
    ],
)
def test_invalid_cards_are_refused(fields, words, folder, tmp_path, capsys) -> None:
    change_card(folder, **fields)
    assert words in sentence(capsys, *run(folder, tmp_path / "record"))


def test_missing_or_damaged_card_is_refused(folder, tmp_path, capsys) -> None:
    (folder / "card.json").write_bytes(b"\xff\xfe")
    assert "is not JSON" in sentence(capsys, "show", folder)
    (folder / "card.json").write_text("[" * 100_000)
    assert "is not JSON" in sentence(capsys, "show", folder)
    (folder / "card.json").unlink()
    assert "is not a policy folder" in sentence(capsys, "show", folder)


def test_truncated_graph_is_refused(folder, tmp_path, capsys) -> None:
    model = folder / "policy.onnx"
    model.write_bytes(model.read_bytes()[:-40])
    assert "is truncated or damaged" in sentence(capsys, *run(folder, tmp_path / "record"))
    # Also where the card knows no checksum.
    change_card(folder, files={})
    assert "cannot be loaded by onnxruntime" in sentence(capsys, "show", folder)
    model.unlink()
    assert "policy.onnx cannot be read" in sentence(capsys, "show", folder)


def test_graph_of_another_shape_is_refused(folder, capsys) -> None:
    place = {"name": "place", "unit": "m"}
    change_card(folder, observation=[place] * 3)
    assert "takes observation of 2, goal of 1 numbers and its card says" in sentence(
        capsys, "show", folder
    )
    speed = {"name": "speed", "unit": "m/s", "low": -1.0, "high": 1.0}
    change_card(folder, observation=[place] * 2, action=[speed] * 2, safe_action=[0.0, 0.0])
    assert "gives an action of shape (1, 1) and its card says (1, 2)" in sentence(
        capsys, "show", folder
    )


def _output_of_another_name(graph) -> None:
    graph.output[0].name = graph.node[-1].output[0] = "torque"


def _output_without_batch(graph) -> None:
    graph.node[-1].output[0] = "wide"
    axes = numpy_helper.from_array(np.array([-1]), "axes")
    graph.initializer.append(axes)
    graph.node.append(helper.make_node("Reshape", ["wide", "axes"], ["action"]))
    del graph.output[0].type.tensor_type.shape.dim[1]


def _further_input_without_dimensions(graph) -> None:
    graph.input.append(helper.make_tensor_value_info("heat", TensorProto.FLOAT, []))


def _input_of_doubles(graph) -> None:
    for each in graph.input:
        each.type.tensor_type.elem_type = TensorProto.DOUBLE
    graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((3, 1)), "kernel"))
    graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_output_of_another_name, "policy.onnx cannot be run: "),
        (_output_without_batch, "gives an action of shape (1,) and its card says (1, 1)"),
        (_further_input_without_dimensions, "takes observation of 2, goal of 1, heat of 0 numbers"),
        (_input_of_doubles, "policy.onnx cannot be run: "),
    ],
)
def test_graphs_of_other_kinds_are_refused(change, words, folder, capsys) -> None:
    model = onnx.load(folder / "policy.onnx")
    change(model.graph)
    onnx.save(model, folder / "policy.onnx")
    change_card(folder, files={})
    assert words in sentence(capsys, "show", folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--goal", "1,2"], "goal = '1,2' is not allowed: cart takes 1 numbers"),
        (["--goal", "-1,2"], "goal = '-1,2' is not allowed: cart takes 1 numbers"),
        (["--goal", "nan"], "goal = 'nan' is not allowed"),
        (["--goal", "north"], "goal = 'north' is not allowed"),
        (["--rate", "0"], "rate = 0.0 is not allowed: it must be above 0"),
        (["--watchdog", "-1"], "watchdog = -1.0 is not allowed"),
        (["--seconds", "0"], "seconds = 0.0 is not allowed"),
        (["--robot", "nowhere:Cart"], "robot = 'nowhere:Cart' is not allowed: it cannot be"),
        (["--robot", "benchmarks.cart:Ship"], "it cannot be imported"),
        (["--robot", "faults.inputs.broken_module:Cart"], "(RuntimeError: this module breaks"),
        (["--robot", "faults.inputs.no_python:Cart"], "it cannot be imported (SyntaxError"),
        (["--robot", "faults.inputs.a_script:Cart"], "it cannot be imported (SystemExit"),
        (["--robot", "cart"], "the form is module:Class"),
        (["--robot", "pathlib:Path"], "pathlib:Path has no method observe, act, safe_action"),
        (["--set", "wheels=4"], "could not be opened: TypeError"),
        (["--set", "wheels"], "set = 'wheels' is not allowed: the form is NAME=VALUE"),
        (["--out", "no/such/place"], "cannot write the log no/such/place"),
        (["--planner", "waypoints"], "contains no waypoints"),
        (["--bad-action", "hope"], "error: argument --bad-action: invalid choice: 'hope'"),
        (["--rate", "fast"], "error: argument --rate: invalid float value: 'fast'"),
        (["--grace", "0"], "grace = 0.0 is not allowed: it must be above 0"),
        (["--grace", "nan"], "grace = nan is not allowed"),
        (["--rate", "1e-9"], "rate = 1e-09 is not allowed: it must be at least 1e-06"),
        (["--priority", "100"], "priority = 100 is not allowed"),
    ],
)
def test_invalid_options_are_refused(options, words, policy_folder, tmp_path, capsys) -> None:
    assert words in sentence(capsys, *run(policy_folder, tmp_path / "record", *options))
    record = tmp_path / "record"
    assert not record.exists() or record.read_bytes() == b""


def test_robot_without_a_goal_needs_the_option(policy_folder, tmp_path, capsys) -> None:
    arguments = list(run(policy_folder, tmp_path / "record"))
    del arguments[arguments.index("--goal") : arguments.index("--goal") + 2]
    assert "gives no goal in its observations: set one with --goal" in sentence(capsys, *arguments)


def test_second_loop_in_another_process_is_refused(
    start_loop, policy_folder, tmp_path, capsys
) -> None:
    name = f"the-arm-{os.getpid()}"
    start_loop("--lock", name)
    message = sentence(capsys, *run(policy_folder, tmp_path / "other", "--lock", name))
    assert f"another loop drives the robot {name} (process " in message
    # Its robot was not even opened.
    assert not (tmp_path / "other").exists()


def test_refused_second_loop_leaves_the_log_of_the_first(
    start_loop, policy_folder, tmp_path, capsys
) -> None:
    options = ["--lock", f"logged-{os.getpid()}", "--out", str(tmp_path / "log.jsonl")]
    process, _ = start_loop("--seconds", "3", *options, acted=25)  # the log is written by then
    sentence(capsys, *run(policy_folder, tmp_path / "other", *options))
    process.communicate(timeout=30)
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert next(each["tick"] for each in events if each["event"] == "step") == 0


def test_failing_robot_gives_one_sentence_and_code_1(tmp_path, policy_folder) -> None:
    (tmp_path / "frail.py").write_text(
        "from benchmarks.cart import Cart\n"
        "class Frail(Cart):\n"
        "    def act(self, action):\n"
        "        self.left = getattr(self, 'left', 10) - 1\n"
        "        if self.left == 0:\n"
        "            raise OSError('the cable is out')\n"
        "        super().act(action)\n"
    )
    record = tmp_path / "record"
    command = [sys.executable, "-m", "kilolayer_robot.cli", *map(str, run(policy_folder, record))]
    command += ["--robot", "frail:Frail", "--seconds", "5"]
    done = subprocess.run(
        command, cwd=tmp_path, env=_with_root(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == "error: the loop ended with OSError: the cable is out\n"
    assert received(record)[-1].safe


ROBOTS = (
    "from benchmarks.cart import Cart\n"
    "class Blind(Cart):\n"
    "    def observe(self):\n"
    "        raise OSError('no camera\\non this port')\n"
    "class Leaving(Cart):\n"
    "    def observe(self):\n"
    "        raise SystemExit(0)\n"
    "class Stuck(Cart):\n"
    "    def close(self):\n"
    "        super().close()\n"
    "        raise OSError('the brake is stuck')\n"
)


def test_robot_that_cannot_be_observed_is_refused(
    policy_folder, tmp_path, capsys, monkeypatch
) -> None:
    (tmp_path / "blind_cart.py").write_text(ROBOTS)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = list(run(policy_folder, tmp_path / "record", "--robot", "blind_cart:Blind"))
    del arguments[arguments.index("--goal") : arguments.index("--goal") + 2]
    words = "observe() of blind_cart:Blind raised OSError: no camera on this port"
    assert words in sentence(capsys, *arguments)


def test_robot_that_exits_is_a_failure(policy_folder, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "leaving_cart.py").write_text(ROBOTS)
    monkeypatch.syspath_prepend(tmp_path)
    record = tmp_path / "record"
    with pytest.raises(SystemExit) as stop:
        main([*map(str, run(policy_folder, record, "--robot", "leaving_cart:Leaving"))])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: the loop ended with SystemExit: 0\n"
    assert received(record)[-1].safe


def test_failing_close_comes_after_the_summary(
    policy_folder, tmp_path, capsys, monkeypatch
) -> None:
    (tmp_path / "stuck_cart.py").write_text(ROBOTS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*map(str, run(policy_folder, tmp_path / "record", "--robot", "stuck_cart:Stuck"))])
    assert stop.value.code == 1
    printed = capsys.readouterr()
    assert printed.err == "error: close() of the robot raised OSError: the brake is stuck\n"
    assert "stopped by time" in printed.out


def _with_root() -> dict[str, str]:
    paths = [str(ROOT), *(str(Path(each).resolve()) for each in sys.path if each)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def test_the_card_survives_a_round_trip(policy_folder) -> None:
    card = Policy.open(policy_folder).card
    assert Card.from_json(card.to_json()) == card


def test_show_prints_names_units_and_bounds(policy_folder, capsys) -> None:
    main(["show", str(policy_folder)])
    printed = capsys.readouterr().out
    assert "cart: success radius 0.05, control rate 20 Hz" in printed
    assert "action      speed (m/s)  -1 to 1" in printed


def test_policy_opens_and_acts(policy_folder) -> None:
    policy = Policy.open(policy_folder)
    assert policy(np.zeros(2), np.ones(1)).shape == (1,)
    np.testing.assert_allclose(policy(np.zeros((3, 2)), np.ones((3, 1))), np.tanh(4.0), rtol=1e-5)
    with pytest.raises(UserError, match="is not a policy folder"):
        Policy.open(policy_folder / "nowhere")
