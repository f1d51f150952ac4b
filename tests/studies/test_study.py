"""The documented example study with tiny runs, from the command to the answer."""

import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.study import Study, load_study
from kilolayer.cli import main
from kilolayer.errors import UserError
from kilolayer.studies import run as studies

DOCS = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
OWN = "own_question:question"
# Two runs of one shape and a few hundred steps.
SMALLER = (
    ("total_steps=100_000", "total_steps=600, num_envs=8, unroll_length=10, depth=1, "
     "layers_per_block=1, width=8, batch_size=8, eval_envs=2, num_evaluations=5, "
     "min_replay_steps_per_env=20, replay_steps_per_env=40, tensorboard=False, profile=False"),
    ("(4, 64)", "(4,)"),
    ("depths=(8,), seeds=3", "depths=(1,), seeds=2"),
    ("scores[64], scores[4]", "scores[4], scores[4]"),
)  # fmt: skip


def no_page(study: Study, answer: Answer) -> Path:
    """Replaces the report, since films and value maps take most of the time."""
    return study.path / "answer.json"


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> SimpleNamespace:
    """The example's study, run once by the command line. Tests may continue it one by one."""
    folder = tmp_path_factory.mktemp("example")
    (source,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    for old, new in SMALLER:
        assert old in source
        source = source.replace(old, new)
    (folder / "own_question.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("kilolayer.report.study_report.write_study_report", no_page)
        main(["study", OWN, "--out", "study", "--jobs", "1"])
    return SimpleNamespace(folder=folder, study=folder / "study")


@pytest.fixture(autouse=True)
def in_its_folder(example, monkeypatch) -> None:
    monkeypatch.chdir(example.folder)
    monkeypatch.setattr("kilolayer.report.study_report.write_study_report", no_page)


@pytest.mark.slow
def test_documented_example_study(example):
    study = load_study(example.study)
    assert (study.question, study.question_text) == (
        "representation",
        "Does a larger representation help?",
    )
    assert [run.name for run in study.finished] == [
        "representation4-seed0", "representation4-seed1",
    ]  # fmt: skip
    answer = json.loads((example.study / "answer.json").read_text())
    (verdict,) = answer["verdicts"]
    # The same runs twice: no difference.
    assert verdict["sentence"].startswith("64 dimensions instead of 4 change the score by 0 (95 %:")
    assert verdict["strength"] == "inconclusive"
    assert answer["tables"][0]["rows"][0][:2] == ["4", "2"]


def test_run_is_not_trained_again_under_the_name_of_its_task(example, capsys):
    """With a second task the names of runs begin with the task: copies would count as seeds."""
    before = (example.study / "study.json").read_text()
    refused("study holds the run point_u_maze-representation4-seed0 already, as representation4-",
            capsys, OWN, "--out", "study", "--task", "point_u_maze", "--task",
            "point_big_maze")  # fmt: skip
    assert (example.study / "study.json").read_text() == before


def test_smallest_effect_is_stored_in_the_plan(example):
    assert load_study(example.study).smallest_effect == 0.05
    studies.study(OWN, source="study", out="margin", smallest_effect=0.2, progress=False)
    assert load_study(Path("margin")).smallest_effect == 0.2


def test_repeated_command_trains_nothing(example, monkeypatch, capsys):
    monkeypatch.setattr(studies, "execute", None)  # would be called to train
    (example.study / "answer.json").unlink()
    main(["study", OWN, "--out", "study"])
    printed = capsys.readouterr().out
    assert "Does a larger representation help?" in printed
    assert "(inconclusive)" in printed
    assert (example.study / "answer.json").exists()


def test_dry_run_trains_nothing(example, capsys):
    main(["study", OWN, "--out", "other", "--seeds", "3", "--dry-run"])
    printed = capsys.readouterr().out
    assert "3 runs" in printed
    assert printed.count("representation4-seed") == 3
    assert "untimed" in printed
    assert "The state of the largest run has" in printed
    assert not (example.folder / "other").exists()


def test_other_questions_reuse_runs(example):
    with pytest.raises(UserError, match=r"study cannot answer seeds: .* has no factor depth"):
        studies.study("seeds", source="study", out="seeds", progress=False)
    again = studies.study(OWN, source="study", out="again", progress=False)
    assert [run.state for run in again.study.runs] == ["finished", "finished"]
    assert load_study(Path("again")).runs[0].run.path.resolve().is_relative_to(example.study)
    assert not (example.folder / "again" / "runs").exists()
    assert not (example.folder / "seeds").exists()


def test_reused_runs_replace_no_other_study(example, capsys):
    """Its plan would be lost, and stored scores would be taken for those of other runs."""
    plan = (example.study / "study.json").read_text()
    refused("study holds another study", capsys, OWN, "--from", "study", "--out", "study")
    assert (example.study / "study.json").read_text() == plan
    shutil.copytree("study", "copy")
    for source, refusal in (("study", False), ("study", False), ("copy", True)):
        with pytest.raises(UserError) if refusal else nullcontext():
            studies.study(OWN, source=source, out="reused", progress=False)


def refused(sentence: str, capsys, *arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["study", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(sentence, error), error


def test_study_command_refuses_invalid_input(example, capsys):
    before = sorted(example.study.rglob("*"))
    refused("question = 'dept' is not allowed.*nearest valid choice is depth", capsys, "dept")
    refused("study holds the study representation at size quick, not depth", capsys, "depth",
            "--out", "study")  # fmt: skip
    refused("holds a run representation4-seed0 with another config", capsys, OWN, "--out", "study",
            "--task", "point_big_maze")  # fmt: skip
    refused("jobs = 0 is not allowed", capsys, OWN, "--jobs", "0")
    refused("smallest_effect = 1.5 is not allowed: it lies between 0 and 1", capsys, OWN,
            "--smallest-effect", "1.5")  # fmt: skip
    refused("seeds = 0 is not allowed", capsys, OWN, "--seeds", "0")
    refused("size = 'paper' is not allowed: one of quick", capsys, OWN, "--size", "paper")
    refused("own_question.py is not a study|is not a study: it has no study.json", capsys, "seeds",
            "--from", "own_question.py")  # fmt: skip
    refused("holds something else", capsys, "depth", "--out", ".")
    refused("--from goes without", capsys, "seeds", "--from", "study", "--depths", "4", "8")
    refused("omit --dry-run", capsys, "seeds", "--from", "study", "--dry-run")
    refused("--calibration times a run for", capsys, "depth", "--calibration")
    assert sorted(example.study.rglob("*")) == before


def test_study_of_another_format_is_refused(example, capsys, tmp_path):
    found = json.loads((example.study / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**found, "format": 0, "version": "0.0.1"}))
    refused(r"made by another version of Kilolayer \(format 0, this one reads 1\).*0\.0\.1", capsys,
            OWN, "--out", str(tmp_path))  # fmt: skip


def test_questions_are_listed_and_documented(capsys):
    main(["study"])
    printed = capsys.readouterr().out
    for name, question in studies.QUESTIONS.items():
        assert name in printed
        assert f"| `{name}` | {question().text} |" in DOCS
