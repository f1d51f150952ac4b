"""Exported files match the policy, or are not written."""

import json
import sys

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from kilolayer.cli import main
from kilolayer.deploy.export import write as exporting
from kilolayer.deploy.export.check import difference, require_close
from kilolayer.deploy.export.write import export, open_serialised
from kilolayer.deploy.policy import open_policy
from kilolayer.errors import UserError


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "tiny"
    main(["export", str(tiny_run.path), "--out", str(out)])
    return out


def test_every_exported_file_acts_like_the_run(exported, tiny_run, normal):
    observation, goal = np.asarray(normal(0, 3, 4)), np.asarray(normal(1, 3, 2))
    expected = tiny_run.policy(observation, goal)
    session = onnxruntime.InferenceSession(exported / "policy.onnx")
    inputs = {"observation": observation, "goal": goal}
    program = open_serialised(exported / "policy.stablehlo")
    for actions in (
        session.run(["action"], inputs)[0],
        program(observation, goal)[0],
        open_policy(exported).policy(observation, goal),
    ):
        np.testing.assert_allclose(actions, expected, atol=1e-5)


def test_export_card_lists_the_comparisons(exported):
    files = json.loads((exported / "export.json").read_text())["files"]
    assert set(files) == {"onnx", "stablehlo", "safetensors"}
    for facts in files.values():
        differences = facts["differences"]
        assert set(differences) == {"random observations", "observations of the task"}
        assert all(0 <= each <= 1e-5 for each in differences.values())


def test_the_program_is_lowered_for_both_platforms(exported):
    program = jax.export.deserialize(bytearray((exported / "policy.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda")


def test_onnx_file_has_metadata(exported):
    facts = {each.key: each.value for each in onnx.load(exported / "policy.onnx").metadata_props}
    assert facts["task"] == "point_u_maze"
    assert facts["goal"] == "x (cell), y (cell)"


def test_differing_file_is_refused(tiny_run, tmp_path, monkeypatch):
    def shifted(actor, sizes, opset):
        graph = build(actor, sizes, opset)
        bias = graph.graph.initializer[-4]  # of the output, and half of log_std's range is 3.5
        values = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        return graph

    build = exporting.policy_graph
    monkeypatch.setattr(exporting, "policy_graph", shifted)
    with pytest.raises(
        UserError,
        match=r"nothing was written: policy.onnx differs from the policy by 3.5e-01 on random",
    ):
        export(tiny_run.path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nan_in_any_output_is_refused():
    rows = np.zeros((4, 2), np.float32)

    def broken(observation, goal):
        return rows[: len(observation)], np.full((len(observation), 2), np.nan, np.float32)

    differs = difference(broken, lambda *_: (rows, rows), rows, rows)
    with pytest.raises(UserError, match=r"policy.onnx differs from the policy by nan on random"):
        require_close("policy.onnx", {"random observations": differs}, 0.0)


def test_existing_output_is_not_overwritten(exported, tiny_run):
    with pytest.raises(UserError, match="exists already"):
        export(tiny_run.path, exported)


def test_of_two_exports_to_one_path_one_is_written_whole(tmp_path):
    out = tmp_path / "out"

    def write(name, meanwhile=lambda: None):
        with exporting.new_directory(out) as folder:
            folder.mkdir()
            (folder / name).touch()
            meanwhile()

    with pytest.raises(UserError, match=r"cannot write .*out: Directory not empty"):
        write("late", meanwhile=lambda: write("early"))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "early"]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(package, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}, which is not .*pip install 'kilolayer\[exp"):
        export(tiny_run.path, tmp_path / "out", ["onnx"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--opset 16", "opset = 16 is not allowed: the graph needs LayerNormalization"),
        ("--opset 999", "opset = 999 is not allowed: the installed onnx goes up to"),
    ],
)
def test_invalid_options_give_one_sentence(options, sentence, tiny_run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tiny_run.path), "--out", str(tmp_path / "out"), *options.split()])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_checkpoint(run_copy, tmp_path):
    for checkpoint in run_copy.directory.checkpoints.iterdir():
        checkpoint.rename(tmp_path / checkpoint.name)
    with pytest.raises(UserError, match="its checkpoints are gone"):
        export(run_copy.path)
