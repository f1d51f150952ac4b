"""Commands with instructions: `ground`, `play --say`, `control --say`, the interpreter of the page.

The encoder and the policy are random and the grounding is barely trained. The tests check what is
printed about a predicted goal, not whether it is correct.
"""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from kilolayer.agents.base import TaskSpec
from kilolayer.api.sentences import scene_interpreter
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.errors import UserError
from kilolayer.language.encoders.open import own_directory, reopen_encoder
from kilolayer.language.evidence import BOUND, SHUFFLED, Evidence, Score
from kilolayer.language.grounding import open_grounding
from kilolayer.language.interpret import SceneInterpreter, read_picture
from kilolayer.language.scenes import COLOURS
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.tasks.registry import make_task
from pages import assert_alone, read_page
from tiny_grounding import MAZE, refused, write_policy


@pytest.mark.slow
def test_ground_prints_success_by_split_and_the_next_commands(grounded):
    run, directory, printed = grounded
    for condition in ("this grounding", BOUND, SHUFFLED):
        assert re.search(rf"{re.escape(condition)}.*\d\.\d\d \(\d", printed)
    assert f"grounding {directory}" in printed
    assert f"kilolayer play {run} --say '" in printed
    assert f"kilolayer serve {run} --grounding {directory}" in printed
    evidence = Evidence.read(directory)
    assert evidence.score("this grounding", "unseen-goal").episodes == 2
    # The last split has only relative instructions.
    assert evidence.score("this grounding", "unseen-combination", "relative").episodes == 2


def test_report_is_self_contained_and_can_be_rebuilt(grounded):
    _, directory, _ = grounded
    text = (directory / "report.html").read_text()
    page = read_page(text)
    assert_alone(text, page)
    for words in (
        "Success by split",
        "unseen paraphrase",
        "encode picture",
        "predicted goal is correct",
    ):
        assert words in page.text
    assert page.text.count("<video") == 0 < text.count("<video")
    assert "Not shown" not in page.text.replace("Not shown: no instruction", "")
    (directory / "report.html").unlink()
    main(["report", str(directory)])
    assert (directory / "report.html").read_text() == text


def test_play_shows_the_markers_and_prints_the_predicted_goal(grounded, tmp_path, capsys):
    run, directory, _ = grounded
    target = tmp_path / "say.png"
    main(["play", str(run), "--say", "zyzzyva, quux!", "--seed", "3", "--out", str(target)])
    printed = capsys.readouterr().out
    found = re.search(r"understood  x (.+) cell, y (.+) cell   confidence (\d+)%", printed)
    assert found is not None
    maze = make_task(MAZE).maze
    goal = np.array([float(found[1]), float(found[2])])
    assert not maze.walls[tuple(maze.cell_of(goal))]
    assert re.search("unlike the training sentences; the nearest is “[a-z, ]+”", printed)
    # The film shows the markers of the scene.
    colours = {mark.colour for mark in SceneInterpreter(open_grounding(directory), 3).marks}
    film = np.array(Image.open(target)).reshape(-1, 3)
    pixels = {"#" + bytes(pixel).hex().upper() for pixel in np.unique(film, axis=0)}
    assert len(colours) >= 3
    assert colours <= pixels
    # The saved picture gives the same goal again, and has no marks.
    picture = read_picture(tmp_path / "say-picture.png")
    interpreter = SceneInterpreter(open_grounding(directory), 0, picture)
    np.testing.assert_allclose(interpreter.interpret("zyzzyva, quux!").goal, goal)
    assert not interpreter.marks


def test_control_encodes_at_the_rate_of_plans(grounded, tmp_path, capsys):
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


def test_scene_interpreter_rearranges_markers_and_refuses_missing_colours(grounded):
    run, directory, _ = grounded
    interpreter = scene_interpreter(run, directory, seed=0)
    before, interpretation = interpreter.marks, interpreter.interpret(interpreter.example)
    assert {mark.colour[0] for mark in before} == {"#"}
    assert interpretation.goal.shape == (2,)
    assert 0 <= interpretation.confidence <= 1
    interpreter.rearrange()
    assert interpreter.marks != before
    visible = {mark.name for mark in interpreter.marks}
    for colour in COLOURS:
        if colour in visible:
            interpreter.interpret(f"go to the {colour} marker")
        else:
            with pytest.raises(UserError, match=f"there is no {colour} marker in this scene"):
                interpreter.interpret(f"Go to the {colour.upper()} marker!")


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("  ", "the sentence is empty: name a goal"),
        ("x" * 10_000, "the sentence has 10,000 characters"),
        ("push the cube to the middle", "has words of another task .*cube.* do not occur in point"),
    ],
)
def test_invalid_sentences_are_refused(grounded, sentence, words, capsys):
    assert re.search(words, refused(capsys, "play", grounded[0], "--say", sentence))


def test_run_without_a_grounding_is_refused(tmp_path, capsys):
    run = write_policy(tmp_path / "run")
    error = refused(capsys, "play", run, "--say", "go to the red marker")
    assert f"has no grounding yet, which sentences need: `kilolayer ground {run}`" in error


def test_grounding_of_another_task_is_refused(grounded, tmp_path, capsys):
    run = write_policy(tmp_path / "run", "point_big_maze")
    for command in (("play", run, "--say", "go"), ("serve", run, "--port", "0")):
        error = refused(capsys, *command, "--grounding", grounded[1])
        assert "trained for the task point_u_maze and this is point_big_maze" in error


@pytest.mark.parametrize("shape", [(96, 64, 3), (200, 200, 4)])
def test_picture_of_another_shape_is_refused(grounded, shape, tmp_path, capsys):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    error = refused(capsys, "play", grounded[0], "--say", "go", "--picture", path)
    assert f"has {shape[1]} x {shape[0]} pixels, and groundings are trained on 96 x 96" in error
    path.write_text("no picture")
    error = refused(capsys, "play", grounded[0], "--say", "go", "--picture", path)
    assert "cannot be read as a picture" in error


def test_options_without_effect_are_refused(grounded, capsys):
    run, directory, _ = grounded
    error = refused(capsys, "play", run, "--grounding", directory)
    assert "it needs a sentence, add --say SENTENCE" in error
    assert "goal = " in refused(capsys, "play", run, "--say", "go", "--goal", "1,3")
    error = refused(capsys, "control", run, "--say", "go", "--planner", "direct")
    assert "--say sets the goal already, omit one of the two" in error


def test_task_without_instructions_is_refused_before_any_work(tmp_path, capsys):
    spec = ActorSpec(TaskSpec(17, 6, 1), TorsoSpec(depth=4, width=16))
    config, actor = run_config(task="half_cheetah"), jax.jit(spec.init)(jax.random.key(0))
    run = DeployedPolicy(tmp_path, config, spec, actor, "distil", {}).save(tmp_path / "run").path
    assert "task half_cheetah has no instructions" in refused(capsys, "ground", run)
    assert not own_directory(run, make_task("half_cheetah")).exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ground --examples 100000000000", "examples = 100000000000 .*GiB at least"),
        ("ground --episodes 100000000000", "episodes = 100000000000 .*GiB at least"),
        ("ground --width 10000000", r"width = 10000000 .*GiB at least.* valid choice is \d+"),
        ("ground --depth 2000000000", "width = 128 .*its weights take"),
        ("ground --updates -1", "updates = -1 is not allowed"),
        ("ground --episodes 0", "episodes = 0 is not allowed"),
        ("train-vla --width 10000000", r"width = 10000000 .*GiB at least"),
        ("train-vla --experts 1000000000", r"experts = 1000000000 .*GiB at least"),
        ("train-vla --chunk 100000000000", r"chunk = 100000000000 .*at most 2147483647"),
        ("train-vla --chunk 2000000000", r"chunk = 2000000000 .*GiB at least"),
        ("train-vla --chunk 0", "chunk = 0 is not allowed"),
        ("train-vla --execute 9", "execute = 9 is not allowed"),
        ("train-vla --examples 100000000000", "examples = 100000000000 .*GiB at least"),
        ("train-vla --examples 3", "examples = 3 is not allowed: it must be at least 16"),
        ("train-vla --episodes 0", "episodes = 0 is not allowed"),
        ("train-vla --steps 100000000000000", "steps = 100000000000000 .*GiB at least"),
        ("train-vla --grounding g --text minilm", "text = 'minilm' .*has its own encoders"),
        ("train-vla --grounding g --image o/clip", "image = 'o/clip' .*has its own encoders"),
    ],
)
def test_wrong_sizes_are_refused_before_an_encoder_is_trained(command, words, tmp_path, capsys):
    run = write_policy(tmp_path / "run")
    name, *options = command.split()
    assert re.search(words, refused(capsys, name, run, *options))
    assert not own_directory(run, make_task(MAZE)).exists()


def test_moved_run_finds_its_encoder(grounded, tmp_path):
    moved = shutil.copytree(grounded[0].parent, tmp_path / "moved")
    for card in moved.rglob("grounding.json"):
        card.write_text(card.read_text().replace(str(grounded[0].parent), "no/such"))
    interpreter = scene_interpreter(
        moved / "small", moved / "small" / "groundings" / "own-seed0", seed=0
    )
    assert interpreter.grounding.encoder.name == str(moved / f"encoder-{MAZE}")


@pytest.mark.parametrize(("successes", "advised"), [(4, False), (3, True)])
def test_advice_after_short_training(successes, advised):
    """60 % of the bound, 6 in 10, are 3.6."""
    scores = [
        Score("this grounding", "seen", "marker", 10, successes),
        Score(BOUND, "seen", "marker", 10, 6),
    ]
    evidence = Evidence("grounding", MAZE, {}, {}, scores, [], [], {}, {})
    assert ("--encoder-updates" in (evidence.advice or "")) == advised


def test_evidence_of_earlier_versions_has_the_present_names(grounded, tmp_path):
    _, directory, _ = grounded
    text = (directory / "evidence.json").read_text()
    (tmp_path / "evidence.json").write_text(text.replace(BOUND, "told the true goal"))
    assert Evidence.read(tmp_path) == Evidence.read(directory)


def test_damaged_evidence_is_reported(grounded, tmp_path):
    copy = shutil.copytree(grounded[1], tmp_path / "copy")
    (copy / "evidence.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        Evidence.read(copy)
    (copy / "evidence.json").unlink()
    with pytest.raises(UserError, match="was not evaluated"):
        Evidence.read(copy)


def test_a_plus_in_the_path_of_a_run_does_not_divide_the_name_of_its_encoder(grounded, tmp_path):
    beside = shutil.copytree(grounded[0].parent, tmp_path / "c++")
    run, own = beside / "small", str(beside / f"encoder-{MAZE}")
    card = run / "groundings" / "own-seed0" / "grounding.json"
    card.write_text(card.read_text().replace(str(grounded[0].parent), str(beside)))
    assert scene_interpreter(run, card.parent, seed=0).grounding.encoder.name == own
    assert reopen_encoder(f"{own}+{own}", run, make_task(MAZE)).name == f"{own}+{own}"
    moved = reopen_encoder(f"{own}+/c++/encoder-{MAZE}", run, make_task(MAZE))
    assert moved.name == f"{own}+{own}"


def test_encoder_of_a_policy_from_the_hub_lies_in_the_current_directory(tmp_path):
    task = make_task(MAZE)
    cached = tmp_path / "models--me--small" / "snapshots" / "0123"
    for run in (Path("hf:me/small"), Path("hf:me/small@v1"), cached, Path("zoo:ant")):
        assert own_directory(run, task) == Path(f"encoder-{MAZE}")
    assert own_directory(tmp_path / "small", task) == tmp_path / f"encoder-{MAZE}"
