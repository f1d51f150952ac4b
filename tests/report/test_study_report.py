"""The report of a study, from synthetic runs."""

import json
import re
import shutil
import subprocess

import pytest

from browser import needs_browser
from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import INCONCLUSIVE, Verdict
from kilolayer.analysis.published import read_published
from kilolayer.analysis.study import load_answer, load_study
from kilolayer.cli import main
from kilolayer.errors import UserError
from kilolayer.render.style import line_style
from kilolayer.report.study_report import write_study_report
from pages import assert_alone, read_page
from synthetic_runs import TINY, write_run, write_study

ANSWER = Answer(
    verdicts=(
        Verdict("Depth 8 is critical.", "moderate"),
        Verdict("Whether more depth helps stays open.", INCONCLUSIVE),
    ),
    plots=(
        Plot(
            "Score by depth",
            "depth, layers",
            "time at goal, control steps",
            (Series("mean", (4.0, 8.0), (20.0, 70.0), (10.0, 60.0), (30.0, 80.0)),),
            log_x=True,
            marks=((8.0, "critical depth 8"),),
        ),
        Plot("Shares", "", "share", (Series("share", (0.0, 1.0), (0.4, 0.6)),), "bars",
             names=("depth", "objective")),
        Plot("Cost", "hours", "score", (Series("depth 4", (1.0, 2.0), (3.0, 4.0)),), "points"),
    ),
    tables=(Table("Scores", ("depth", "score"), (("4", "20"), ("8", "70"))),),
    notes=("The score is the last evaluation's.",),
)  # fmt: skip
FINAL = {4: (10.0, 20.0, 30.0), 8: (60.0, 70.0, 80.0)}


def make_study(path, final, extra=(), asks="Does depth help?"):
    """A study with a finished run for each score in `final`, {depth: scores of seeds}."""
    cells = {
        f"depth{depth}-seed{seed}": {"depth": depth, "seed": seed}
        for depth, scores in final.items()
        for seed in range(len(scores))
    }
    study = write_study(path, cells | {name: {"depth": 64, "seed": 0} for name in extra}, asks)
    for depth, scores in final.items():
        for seed, score in enumerate(scores):
            config = TINY.having(depth=depth, seed=seed)
            write_run(path / "runs" / f"depth{depth}-seed{seed}", config, (0.0, score / 2, score))
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two depths of three seeds, and one failed, one unfinished and one missing run."""
    path = tmp_path_factory.mktemp("studies") / "depth"
    make_study(path, FINAL, extra=("lost", "<i>broken", "half"), asks="1 < 2 & depth?")
    (path / "failures" / "<i>broken.txt").write_text("Traceback\nMemoryError: <b>no room</b>")
    config = TINY.having(depth=64)
    write_run(path / "runs" / "half", config, (1.0,), finished=False)
    (path / "answer.json").write_text(ANSWER.to_json())
    return load_study(path)


@pytest.fixture(scope="module")
def whole(study):
    text = write_study_report(study, ANSWER).read_text()
    return text, read_page(text)


def test_question_and_verdicts_come_first(whole):
    text, page = whole
    assert "<h1>1 &lt; 2 &amp; depth?</h1>" in text
    top = page.text[: page.text.index("Evidence")]
    assert "moderate evidenceDepth 8 is critical." in top
    assert f"{INCONCLUSIVE}Whether more depth helps stays open." in top
    assert "3 of 9 runs did not finish" in top
    assert "lost (missing); <i>broken (failed); half (unfinished)" in top


def test_study_report_is_self_contained(whole):
    assert_alone(*whole)


def test_plots_have_axes_marks_and_legends(whole):
    text, page = whole
    evidence = page.text[page.text.index("The plots and tables behind the verdicts") :]
    for words in ("depth, layers", "time at goal, control steps", "critical depth 8", "objective"):
        assert words in evidence
    assert "depth 4 (3 seeds)" in page.text
    assert "environment steps" in page.text
    assert "smallest distance, cell" in page.text
    assert text.count("<svg") == 4  # three plots, the learning curves


def test_movement_table_has_means_with_intervals_by_depth(whole):
    _, page = whole
    assert "depth 8 (3 seeds)" in page.text
    # Student's: 2 -+ 4.3027 * 1 / sqrt(3) = 2 -+ 2.484, cut to what a speed or length can be.
    assert "2 (0 to 4.48)" in page.text
    assert "No film for depth 4: the run has no evaluation.npz yet" in page.text


def test_every_run_is_listed_with_state_and_failure(whole):
    text, page = whole
    assert "The grid has 9 runs: 6 finished, 1 missing, 1 failed, 1 unfinished." in page.text
    assert "<i>broken failed: MemoryError: <b>no room</b>" in page.text
    assert "<b>no room" not in text
    assert "<i>broken" not in text
    for state, count in {"finished": 6, "missing": 1, "failed": 1, "unfinished": 1}.items():
        assert text.count(f'<td class="short">{state}</td>') == count
    assert len(re.findall(r"<tr class=changed>", text)) == 3
    assert '<td class="number">180</td>' in text  # seconds of a finished run


def test_report_has_cost_notes_and_environment(whole):
    _, page = whole
    assert "3,000" in page.text
    assert "not counted" in page.text  # there is no stored batch to count operations for
    assert "The score is the last evaluation's." in page.text
    assert "0.10" in page.text
    assert "no published curves were given" in page.text
    # A study stores no command, and every run has its own checksum.
    environment = page.text[page.text.rindex("What is needed to reproduce the study") :]
    assert "question, size, versions" in environment
    assert "sha256" not in environment


def test_study_report_is_reproducible(whole, study):
    assert write_study_report(load_study(study.path), ANSWER).read_text() == whole[0]


@needs_browser
def test_browser_shows_verdict_without_requests(whole, tmp_path):
    def browse(name: str, text: str) -> tuple[str, bool]:
        """The DOM of a page, and whether the page sent a request."""
        page, log = tmp_path / f"{name}.html", tmp_path / f"{name}.json"
        page.write_text(text)
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={log}", "--dump-dom", page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        # The browser's own requests are logged too, but with another origin.
        return done.stdout, '"network_isolation_key":"file://' in log.read_text()

    shown, asked = browse("report", whole[0])
    assert "Depth 8 is critical." in read_page(shown).text
    assert not asked
    _, asked = browse("control", '<img src="http://127.0.0.1:9/picture.png">')
    assert asked


def test_report_marks_groups_of_one_seed(tmp_path):
    study = make_study(tmp_path / "study", {4: (10.0,), 8: (60.0,)})
    page = read_page(write_study_report(study, ANSWER).read_text())
    assert "Fewer than three seeds: depth 4; depth 8." in page.text
    assert "depth 4 (1 seed)" in page.text
    assert "6 (one seed)" in page.text


def test_report_without_finished_runs(tmp_path):
    study = make_study(tmp_path / "study", {}, extra=("a", "b"))
    text = write_study_report(study, Answer(())).read_text()
    page = read_page(text)
    assert "No verdict yet." in page.text
    # Curves, behaviour, maps, cost.
    assert page.text.count("no run of this study has finished yet") == 4
    assert "The grid has 2 runs: 2 missing." in page.text
    assert "<svg" not in text


def test_report_has_films_and_value_maps(tiny_run, tmp_path):
    study = write_study(tmp_path / "study", {"a": {"depth": 8, "seed": 0}})
    shutil.copytree(tiny_run.path, study.path / "runs" / "a")
    text = write_study_report(study, ANSWER).read_text()
    page = read_page(text)
    assert text.count("<video") == 1
    assert (study.path / "media" / "a.mp4").is_file()
    assert "scaled per map" in page.text
    assert "Rank correlation of the value" in page.text
    assert "not counted" not in page.text
    assert_alone(text, page)


def curves(**changes):
    task = {"depths": [4], "depth_mean": {"4": [0, 250]}, "depth_std_error": {"4": [0, 10]}}
    return {"point_u_maze": task | changes}


def test_report_shows_published_curves(study, tmp_path):
    file = tmp_path / "published.json"
    file.write_text(json.dumps(curves()))
    curve = read_published(file)["point_u_maze"][4]
    assert curve.steps.tolist() == [1e6, 2e6]
    assert curve.mean.tolist() == [0, 250]
    main(["report", str(study.path), "--published", str(file)])
    page = read_page((study.path / "report.html").read_text())
    assert "time at goal, share of the episode" in page.text
    assert "this study" in page.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "does not hold published curves"),
        (json.dumps(curves(depths=[8])), "does not hold published curves"),
        (json.dumps(curves(depth_std_error={"4": [0]})), "does not hold published curves"),
    ],
)
def test_invalid_published_curves_are_refused(text, sentence, tmp_path):
    file = tmp_path / "published.json"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_published(file)
    with pytest.raises(UserError, match="cannot read published curves"):
        read_published(tmp_path / "none.json")


def test_answer_round_trip(study, tmp_path):
    assert load_answer(study.path) == ANSWER
    with pytest.raises(UserError, match=r"has no answer\.json yet"):
        load_answer(tmp_path)
    (tmp_path / "answer.json").write_text('{"verdicts": [{"text": 1}]}')
    with pytest.raises(UserError, match="does not hold the answer of a study"):
        load_answer(tmp_path)


def test_compare_command_prints_table_and_writes_page(study, tmp_path, capsys):
    runs = [str(run.path) for run in study.finished]
    out = tmp_path / "compare.html"
    main(["compare", *runs, "--out", str(out)])
    printed = capsys.readouterr().out
    assert "depth 8" in printed
    assert "(weak)" in printed  # three seeds against three: p = 0.1
    text = out.read_text()
    page = read_page(text)
    assert_alone(text, page)
    assert "probability of improvement (95 %)" in page.text
    assert "weak evidence" in page.text
    for bad, sentence in (
        ([runs[0], "--out", str(out)], "is given twice"),
        (["--out", str(tmp_path / "a.pdf")], "a file that ends in .html"),
        (["--out", str(tmp_path / "none" / "a.html")], "there is no such directory"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["compare", *runs, *bad])
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


def test_line_styles_differ_in_dash_and_marker():
    looks = [line_style(index) for index in range(28)]
    assert len(set(looks)) == 28
    assert len({(each.dash, each.marker) for each in looks[:7]}) == 7
