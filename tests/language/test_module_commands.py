"""`train-vla`, and the commands that use its module: `play --module`, `control --module`."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from kilolayer.api.sentences import TrainedLanguage, module_of
from kilolayer.cli import main
from kilolayer.errors import UserError
from kilolayer.language.evidence import BOUND, Evidence
from kilolayer.language.instructions import draw_examples
from kilolayer.language.train_module import open_module
from kilolayer.tasks.registry import make_task
from pages import assert_alone, read_page
from tiny_grounding import refused

pytestmark = pytest.mark.slow

QUICK = (
    "--chunk 2 --experts 2 --depth 4 --width 16 --steps 1 --updates 1 --examples 16 --episodes 1"
)
SENTENCE = ("--say", "go to row one")


@pytest.fixture(scope="module")
def trained(grounded) -> tuple[Path, Path, str]:
    """A run with a grounding, its module, and the output of `kilolayer train-vla`."""
    run, grounding, _ = grounded
    out = run / "modules" / "module"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        options = ["--grounding", str(grounding), "--out", str(out), *QUICK.split()]
        main(["train-vla", str(run), *options])
    return run, out, printed.getvalue()


def test_train_vla_prints_success_beside_the_teacher(trained):
    run, directory, printed = trained
    evidence = Evidence.read(directory)
    assert evidence.actors[:2] == ["this module", BOUND]
    assert re.search(r"this module.*\d\.\d\d \(\d", printed)
    assert f"kilolayer control {run} --say" in printed


def test_sentences_called_nearest_in_training_were_trained_on(trained):
    _, directory, _ = trained
    examples = draw_examples(make_task("point_u_maze"), "seen", 16, 0)
    failures = Evidence.read(directory).failures
    nearest = {sentence for failure in failures for sentence, _ in failure.nearest}
    assert nearest
    assert nearest <= {example.sentence for example in examples}


def test_next_commands_quote_paths_with_spaces(monkeypatch, capsys):
    made = TrainedLanguage(Path("my runs/made"), Path("report.html"), "go")
    for name in ("ground", "train_vla"):
        monkeypatch.setattr(f"kilolayer.api.sentences.{name}", lambda *_: made)
    monkeypatch.setattr("kilolayer.language_commands._print_scores", lambda _: None)
    for command in ("ground", "train-vla"):
        main([command, "my runs/arm"])
    for line in capsys.readouterr().out.split("kilolayer ")[1:]:
        words = shlex.split(line)
        assert words[1] == "my runs/arm"
        assert "runs/made" not in words


def test_report_shows_the_use_of_experts(trained):
    _, directory, _ = trained
    text = (directory / "report.html").read_text()
    page = read_page(text)
    assert_alone(text, page)
    for words in ("By phase of the movement", "By instruction", "layer 2", "module step"):
        assert words in page.text
    routers = Evidence.read(directory).routers
    assert {"absolute", "marker", "relative", "far"} <= {router.of for router in routers}
    # With both of two experts in use the gates of every row add up to one.
    np.testing.assert_allclose([np.sum(router.use, -1) for router in routers], 1, atol=1e-3)


def test_module_acts_in_play_and_control(trained, tmp_path, capsys):
    run, directory, _ = trained
    film, log = tmp_path / "say.png", tmp_path / "control.jsonl"
    main(["play", str(run), *SENTENCE, "--module", str(directory), "--out", str(film)])
    assert "understood  x " in capsys.readouterr().out
    assert film.stat().st_size > 1000
    options = ["--seconds", "0.5", "--rate", "20", "--plan-rate", "10"]
    main(["control", str(run), *SENTENCE, "--module", str(directory), *options, "--out", str(log)])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    plans = [line["subgoals"] for line in lines if line["event"] == "plan"]
    assert {np.shape(plan) for plan in plans} == {(1, open_module(directory).spec.embedding_dim)}
    acted = [line for line in lines if line["event"] == "step" and line["safe"] is None]
    assert acted, lines


def test_missing_module_or_module_of_another_task_is_refused(trained, tmp_path, capsys):
    run, directory, _ = trained
    with pytest.raises(UserError, match="acts in the task point_u_maze and this is point_big_maze"):
        module_of(run, directory, make_task("point_big_maze"))
    error = refused(capsys, "play", run, *SENTENCE, "--grounding", directory)
    assert "is no whole grounding directory" in error
    error = refused(capsys, "play", run, *SENTENCE, "--module", tmp_path)
    assert "is no whole module directory" in error
