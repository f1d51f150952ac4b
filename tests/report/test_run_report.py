"""The report of a run: complete, self-contained, with reasons for missing sections."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from kilolayer.analysis.load import Run, load
from kilolayer.cli import _print_results
from kilolayer.render.style import SERIES
from kilolayer.report import run_report
from kilolayer.report.run_report import SECTIONS, write_report
from kilolayer.report.run_sections import MAX_POINTS, downsample
from kilolayer.report.svg import short_count
from pages import Page, assert_alone, read_page


def read(run) -> tuple[str, Page]:
    text = write_report(run).read_text()
    return text, read_page(text)


def rewrite_events(run, keep) -> None:
    lines = [json.dumps(event) for event in run.events if keep(event)]
    (run.path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))


@pytest.fixture
def only(monkeypatch):
    """`only(anchor, ...)`: reports draw only these sections, to save time."""

    def choose(*anchors: str) -> None:
        chosen = tuple(section for section in SECTIONS if section.anchor in anchors)
        monkeypatch.setattr(run_report, "SECTIONS", chosen)

    return choose


@pytest.fixture(scope="module")
def reported(tiny_run, tmp_path_factory):
    return load(shutil.copytree(tiny_run.path, tmp_path_factory.mktemp("report") / "tiny"))


@pytest.fixture(scope="module")
def whole(reported):
    return read(reported)


def test_every_section_is_drawn(whole):
    text, reader = whole
    for section in SECTIONS:
        assert f'<section id="{section.anchor}">' in text
        assert section.caption in reader.text
    assert "Not shown" not in reader.text
    assert text.count("<svg") == 7
    assert text.count("<video") == 1


def test_score_and_film_come_first(whole):
    text = whole[0]
    places = [text.index(part) for part in ('class="cards"', "<video", "<nav>", "<svg")]
    assert places == sorted(places)


def test_report_is_self_contained(whole):
    assert_alone(*whole)


def test_report_shows_scores_config_and_environment(whole, reported):
    text, reader = whole
    run = reported
    assert f"{run.final('evaluation/time_at_goal'):.1f}" in reader.text
    assert f"of {run.config.evaluation.eval_envs} episodes of the newest evaluation" in reader.text
    assert re.search(r'<tr class=changed><td class="short">width</td>', text)
    assert re.search(r'<tr><td class="short">discount</td>', text)
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["versions"]["jax"] in reader.text
    assert "rank correlation" in reader.text
    assert "unfinished" not in reader.text
    assert "update" in reader.text


def test_report_is_reproducible(whole, reported):
    text = whole[0]
    again = write_report(load(reported.path)).read_text()
    assert again == text
    assert not list(reported.path.glob(".*"))


def test_report_of_unfinished_run_says_so(run_copy, only):
    only("curves", "time")
    (run_copy.path / "DONE").unlink()
    rewrite_events(run_copy, lambda event: event["event"] != "profile")
    _, reader = read(load(run_copy.path))
    assert "This run is unfinished" in reader.text
    assert "Only these times are known" in reader.text


def test_diverged_environments_are_reported(run_copy, only, capsys):
    only()
    assert "iverged" not in read(load(run_copy.path))[1].text
    for number, count in ((2, 3.0), (5, 1.0)):
        counts = {"round": number, "env_steps": 80 * number, "updates": 0}
        metrics = {"collect/diverged": count}
        run_copy.directory.append_event({"event": "diverged", **counts, "metrics": metrics})
    run = load(run_copy.path)
    sentence = "Environments diverged 4 times during training (0.0063 of the environment steps)"
    assert sentence in read(run)[1].text
    capsys.readouterr()
    _print_results([run])
    assert sentence in capsys.readouterr().out
    assert "stopped" not in read(run)[1].text


def test_report_without_train_events(run_copy, only):
    only("curves", "time")
    rewrite_events(run_copy, lambda event: event["event"] == "evaluation")
    _, reader = read(load(run_copy.path))
    assert "No training round was logged" in reader.text


def test_report_without_events(run_copy, only):
    only("curves", "paths", "time")
    (run_copy.path / "metrics.jsonl").write_text("")
    _, reader = read(load(run_copy.path))
    assert "has logged nothing yet" in reader.text
    assert "none yet" in reader.text


def test_damaged_files_are_reported_in_their_sections(run_copy, only):
    only("trajectories", "blocks", "video", "environment")
    for name in ("evaluation", "training", "batch"):
        path = run_copy.path / "episodes" / f"{name}.npz"
        path.write_bytes(path.read_bytes()[:100])
    (run_copy.path / "manifest.json").write_text("{")
    _, reader = read(load(run_copy.path))
    assert reader.text.count("Not shown:") == 4
    assert reader.text.count("is damaged") == 4


def test_episodes_of_another_task_are_refused(run_copy, only):
    only("trajectories")
    path = run_copy.path / "episodes" / "evaluation.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "goal": arrays["goal"][..., :1]})
    _, reader = read(load(run_copy.path))
    assert "does not hold episodes of this run" in reader.text


def test_text_from_the_run_is_escaped(run_copy, only):
    only("environment")
    path = run_copy.path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "command": "<script>alert(1)</script> & more"}))
    text, reader = read(load(run_copy.path))
    assert "<script>" not in text
    assert "<script>alert(1)</script> & more" in reader.text


def test_wall_clock_is_that_of_the_newest_checkpoint_or_profile():
    events = [
        {"event": "checkpoint", "seconds": {"compile": 4.0, "train": 3.0}},
        {"event": "resume", "time": 1000.0},
        {"event": "profile", "seconds": {"compile": 5.0, "train": 7.0}},
    ]
    for logged, seconds in ((events, 12), ([], 0)):
        directory = SimpleNamespace(read_events=lambda logged=logged: logged)
        assert Run(directory).wall_clock_seconds == seconds  # type: ignore[arg-type]


def test_downsampling_keeps_mean_and_last_step():
    steps = np.arange(1000.0)
    thin_steps, thin_values = downsample(steps, 2 * steps)
    assert len(thin_steps) <= MAX_POINTS
    assert thin_steps[-1] == 999
    assert thin_values[:2].tolist() == [2.0, 8.0]  # means over three
    assert downsample(steps[:5], steps[:5])[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (950, "950"), (250_000, "250k"), (1.5e6, "1.5M")]
)
def test_short_counts(value, text):
    assert short_count(value) == text


def test_colours_differ():
    assert len(set(SERIES)) == len(SERIES)
