"""Telling an agent where to go: `ground`, `play --say`, `control --say`, the page's listener.

The encoder and the policy are drawn at random and the grounding is barely trained: what is said of
an answer is tested here, not whether it is right.
"""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from kilolayer.agents.base import TaskSpec
from kilolayer.api.sentences import listener
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.language.choose import own_directory
from kilolayer.language.evidence import BOUND, Evidence, Score
from kilolayer.language.grounding import open_grounding
from kilolayer.language.say import Ear, read_picture
from kilolayer.language.scenes import COLOURS
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.tasks.registry import make_task
from kilolayer.types import UserError
from pages import assert_alone, read_page
from tiny_grounding import MAZE, refused, write_policy


def test_ground_tells_success_by_split_and_what_to_do_next(grounded):
    run, directory, printed = grounded
    for who in ("this grounding", "told the true goal", "hearing another instruction"):
        assert re.search(rf"{who}.*\d\.\d\d \(\d", printed)
    assert f"grounding {directory}" in printed
    assert f"kilolayer play {run} --say '" in printed
    assert f"kilolayer serve {run} --grounding {directory}" in printed
    evidence = Evidence.read(directory)
    assert evidence.score("this grounding", "unseen-goal").episodes == 2
    # What is withheld in the last split are relations.
    assert evidence.score("this grounding", "unseen-combination", "relative").episodes == 2


def test_the_report_stands_alone_and_is_made_anew(grounded):
    _, directory, _ = grounded
    text = (directory / "report.html").read_text()
    page = read_page(text)
    assert_alone(text, page)
    for words in ("Success by split", "unseen paraphrase", "picture encoded", "goal understood"):
        assert words in page.text
    assert page.text.count("<video") == 0 < text.count("<video")
    assert "Not shown" not in page.text.replace("Not shown: no instruction", "")
    (directory / "report.html").unlink()
    main(["report", str(directory)])
    assert (directory / "report.html").read_text() == text


def test_play_shows_the_markers_and_tells_what_was_understood(grounded, tmp_path, capsys):
    run, directory, _ = grounded
    target = tmp_path / "say.png"
    main(["play", str(run), "--say", "zyzzyva, quux!", "--seed", "3", "--out", str(target)])
    printed = capsys.readouterr().out
    found = re.search(r"understood  x (.+) cell, y (.+) cell   confidence (\d+)%", printed)
    assert found is not None
    maze = make_task(MAZE).maze
    goal = np.array([float(found[1]), float(found[2])])
    assert not maze.walls[tuple(maze.cell_of(goal))]
    assert re.search("unlike those that were learnt; the nearest of them is “[a-z, ]+”", printed)
    # The film shows the markers of the scene.
    colours = {mark.colour for mark in Ear(open_grounding(directory), 3).marks}
    film = np.array(Image.open(target)).reshape(-1, 3)
    pixels = {"#" + bytes(pixel).hex().upper() for pixel in np.unique(film, axis=0)}
    assert len(colours) >= 3
    assert colours <= pixels
    # The picture that was looked at can be given again: it is understood alike, and has no marks.
    ear = Ear(open_grounding(directory), 0, read_picture(tmp_path / "say-picture.png"))
    np.testing.assert_allclose(ear.hear("zyzzyva, quux!").goal, goal)
    assert not ear.marks


def test_the_loop_encodes_at_the_rate_of_plans(grounded, tmp_path, capsys):
    run, _, _ = grounded
    log = tmp_path / "control.jsonl"
    options = "--seconds 0.5 --rate 20 --plan-rate 10 --say"
    main(["control", str(run), *options.split(), "go to row one", "--out", str(log)])
    printed = capsys.readouterr().out
    assert "understood  x " in printed
    assert "deadline misses" in printed
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    plans = [line["subgoals"] for line in lines if line["event"] == "plan"]
    # Always the one goal that the sentence means.
    assert len(plans) >= 2
    assert all(plan == plans[0] for plan in plans)
    assert np.shape(plans[0]) == (1, 2)
    # The picture and the sentence, each encoded once.
    assert len(list((run / "features").rglob("*.safetensors"))) == 2


def test_the_page_has_a_listener(grounded):
    run, directory, _ = grounded
    ear = listener(run, directory, seed=0)
    before, heard = ear.marks, ear.hear(ear.example)
    assert {mark.colour[0] for mark in before} == {"#"}
    assert heard.goal.shape == (2,)
    assert 0 <= heard.confidence <= 1
    ear.rearrange()
    assert ear.marks != before
    there = {mark.name for mark in ear.marks}
    for colour in COLOURS:
        if colour in there:
            ear.hear(f"go to the {colour} marker")
        else:
            with pytest.raises(UserError, match=f"there is no {colour} marker in this scene"):
                ear.hear(f"Go to the {colour.upper()} marker!")


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("  ", "the sentence is empty: say where to go"),
        ("x" * 10_000, "the sentence has 10,000 characters"),
        ("push the cube to the middle", "speaks of another task .*cube.* nothing of that in point"),
    ],
)
def test_what_is_no_sentence_for_this_task(grounded, sentence, words, capsys):
    assert re.search(words, refused(capsys, "play", grounded[0], "--say", sentence))


def test_a_run_that_understands_nothing_yet(tmp_path, capsys):
    run = write_policy(tmp_path / "run")
    error = refused(capsys, "play", run, "--say", "go to the red marker")
    assert (
        f"has no grounding yet, so nobody understands sentences: `kilolayer ground {run}`" in error
    )


def test_a_grounding_of_another_task(grounded, tmp_path, capsys):
    run = write_policy(tmp_path / "run", "point_big_maze")
    for command in (("play", run, "--say", "go"), ("serve", run, "--port", "0")):
        error = refused(capsys, *command, "--grounding", grounded[1])
        assert "speaks of the task point_u_maze and this is point_big_maze" in error


@pytest.mark.parametrize("shape", [(96, 64, 3), (200, 200, 4)])
def test_a_picture_of_another_shape(grounded, shape, tmp_path, capsys):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    error = refused(capsys, "play", grounded[0], "--say", "go", "--picture", path)
    assert f"has {shape[1]} x {shape[0]} pixels, and groundings learn on 96 x 96" in error
    path.write_text("no picture")
    error = refused(capsys, "play", grounded[0], "--say", "go", "--picture", path)
    assert "cannot be read as a picture" in error


def test_options_that_would_do_nothing(grounded, capsys):
    run, directory, _ = grounded
    error = refused(capsys, "play", run, "--grounding", directory)
    assert "it goes with a sentence, add --say SENTENCE" in error
    assert "goal = " in refused(capsys, "play", run, "--say", "go", "--goal", "1,3")
    error = refused(capsys, "control", run, "--say", "go", "--planner", "direct")
    assert "--say says where to go, leave one of them away" in error


def test_a_task_without_instructions_is_refused_before_any_work(tmp_path, capsys):
    spec = ActorSpec(TaskSpec(17, 6, 1), TorsoSpec(depth=4, width=16))
    config, actor = run_config(task="half_cheetah"), jax.jit(spec.init)(jax.random.key(0))
    run = DeployedPolicy(tmp_path, config, spec, actor, "distil", {}).save(tmp_path / "run").path
    assert "task half_cheetah has no instructions" in refused(capsys, "ground", run)
    assert not own_directory(run, make_task("half_cheetah")).exists()


def test_a_run_that_was_moved_takes_its_encoder_along(grounded, tmp_path):
    moved = shutil.copytree(grounded[0].parent, tmp_path / "moved")
    for card in moved.rglob("grounding.json"):
        card.write_text(card.read_text().replace(str(grounded[0].parent), "no/such"))
    ear = listener(moved / "small", moved / "small" / "groundings" / "own-seed0", seed=0)
    assert ear.grounding.encoder.name == str(moved / f"encoder-{MAZE}")


@pytest.mark.parametrize(("successes", "advised"), [(4, False), (3, True)])
def test_a_training_that_was_too_short_is_told(successes, advised):
    """Of a bound of 6 in 10, 60 % are 3.6."""
    scores = [
        Score("this grounding", "seen", "marker", 10, successes),
        Score(BOUND, "seen", "marker", 10, 6),
    ]
    evidence = Evidence("grounding", MAZE, {}, {}, scores, [], [], {}, {})
    assert ("--encoder-updates" in (evidence.advice or "")) == advised


def test_a_damaged_grounding_is_told(grounded, tmp_path):
    copy = shutil.copytree(grounded[1], tmp_path / "copy")
    (copy / "evidence.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        Evidence.read(copy)
    (copy / "evidence.json").unlink()
    with pytest.raises(UserError, match="never tried out"):
        Evidence.read(copy)
