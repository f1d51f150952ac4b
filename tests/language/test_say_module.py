"""`train-vla` and what acts on its module: `play --module`, `control --module`, the report."""

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from kilolayer.api.sentences import module_of
from kilolayer.cli import main
from kilolayer.language.evidence import Evidence
from kilolayer.language.teach_run import open_module
from kilolayer.tasks.registry import make_task
from kilolayer.types import UserError
from pages import assert_alone, read_page
from tiny_grounding import refused

QUICK = (
    "--chunk 2 --experts 2 --depth 4 --width 16 --steps 1 --updates 1 --examples 16 --episodes 1"
)
SAID = ("--say", "go to row one")


@pytest.fixture(scope="module")
def taught(grounded) -> tuple[Path, Path, str]:
    """A run with a grounding, its module, and what `kilolayer train-vla` printed."""
    run, grounding, _ = grounded
    out = run / "modules" / "module"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        options = ["--grounding", str(grounding), "--out", str(out), *QUICK.split()]
        main(["train-vla", str(run), *options])
    return run, out, printed.getvalue()


def test_train_vla_tells_success_beside_the_teacher(taught):
    run, directory, printed = taught
    evidence = Evidence.read(directory)
    assert evidence.actors[:2] == ["this module", "told the true goal"]
    assert re.search(r"this module.*\d\.\d\d \(\d", printed)
    assert f"kilolayer control {run} --say" in printed


def test_the_report_shows_which_experts_are_used(taught):
    _, directory, _ = taught
    text = (directory / "report.html").read_text()
    page = read_page(text)
    assert_alone(text, page)
    for words in ("By phase of the movement", "By instruction", "layer 2", "module, a step"):
        assert words in page.text
    routers = Evidence.read(directory).routers
    assert {"absolute", "marker", "relative", "far"} <= {router.of for router in routers}
    # With both of two experts in use the gates of every row add up to one.
    np.testing.assert_allclose([np.sum(router.use, -1) for router in routers], 1, atol=1e-3)


def test_a_module_acts_in_a_film_and_in_the_loop(taught, tmp_path, capsys):
    run, directory, _ = taught
    film, log = tmp_path / "say.png", tmp_path / "control.jsonl"
    main(["play", str(run), *SAID, "--module", str(directory), "--out", str(film)])
    assert "understood  x " in capsys.readouterr().out
    assert film.stat().st_size > 1000
    options = ["--seconds", "0.5", "--rate", "20", "--plan-rate", "10"]
    main(["control", str(run), *SAID, "--module", str(directory), *options, "--out", str(log)])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    plans = [line["subgoals"] for line in lines if line["event"] == "plan"]
    assert {np.shape(plan) for plan in plans} == {(1, open_module(directory).spec.reading)}
    acted = [line for line in lines if line["event"] == "step" and line["safe"] is None]
    assert acted, lines


def test_a_module_of_another_task_or_none(taught, tmp_path, capsys):
    run, directory, _ = taught
    with pytest.raises(UserError, match="acts in the task point_u_maze and this is point_big_maze"):
        module_of(run, directory, make_task("point_big_maze"))
    error = refused(capsys, "play", run, *SAID, "--grounding", directory)
    assert "is no whole grounding directory" in error
    error = refused(capsys, "play", run, *SAID, "--module", tmp_path)
    assert "is no whole module directory" in error
