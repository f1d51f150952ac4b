"""The zoo: every policy in it opens, fits into git and reaches the score that its card states."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from benchmarks.zoo import MOST_BYTES, Training, add, page, portable, training_of, without_paths
from scipy import stats

from kilolayer.api import collect, evaluate, play
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.export.write import export
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy, open_policy
from kilolayer.deploy.smaller.distil import distil
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.deploy.zoo_entry import open_zoo_entry, score_policy, zoo_entries
from kilolayer.errors import UserError
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.runtime.zoo import default_output, resolve, zoo_directories, zoo_name
from kilolayer.tasks.registry import TASKS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2] / "zoo"
NAMES = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
EPISODES = 16
TRAINING = Training(("kilolayer train",), 0, 640, 10, 0.1, "a core", {"jax": "0.10"})


def test_the_zoo_holds_the_directories_of_the_repository():
    assert {"ant", "point_u_maze"} <= set(NAMES)
    assert list(zoo_directories()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_zoo_policy_reaches_the_score_of_its_card(name):
    entry, policy = open_zoo_entry(ROOT / name), open_policy(f"zoo:{name}")
    assert entry.task in TASKS
    assert policy.task.name == entry.task
    files = list((ROOT / name).iterdir())
    assert {file.name for file in files} == {"policy.json", "policy.safetensors"}
    assert sum(file.stat().st_size for file in files) == entry.bytes <= MOST_BYTES
    stated = entry.score.success
    assert 0 <= stated.low <= stated.value <= stated.high <= 1
    found = score_policy(policy, EPISODES, seed=entry.score.seed + 1)
    reached = round(found.success.value * EPISODES)
    # One in a hundred of such policies would do worse by chance.
    assert stats.binomtest(reached, EPISODES, stated.low, "less").pvalue > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_zoo_cards_contain_no_local_directories(name):
    card = (ROOT / name / "policy.json").read_text()
    assert "/root" not in card
    assert "/home" not in card
    assert "--out" not in card


def test_the_page_of_the_zoo_is_current():
    assert (ROOT / "README.md").read_text() == page(zoo_entries()), "run: python -m benchmarks.zoo"


def test_unknown_zoo_name_is_refused_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["play", "zoo:antt"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "one of zoo:ant, " in message
    assert "nearest valid choice is zoo:ant." in message
    with pytest.raises(UserError, match="one of zoo:ant, "):
        open_policy("zoo:")


def test_commands_that_need_a_run_refuse_a_policy(capsys):
    for command in ("report zoo:ant", "hierarchy zoo:ant", "train --resume zoo:ant"):
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        assert stop.value.code == 2
        assert "is a policy on its own" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["control", "zoo:ant", "--planner", "waypoints"])
    assert "the nearest valid choice is direct" in capsys.readouterr().err


def test_other_paths_are_unchanged(tmp_path):
    assert resolve(tmp_path) == tmp_path
    assert zoo_name(tmp_path) is None
    assert default_output(tmp_path, "media/play.mp4") == tmp_path / "media" / "play.mp4"
    # By its directory too, so that nothing is ever written into the zoo.
    assert default_output(ROOT / "ant", "media/play.mp4") == Path("play_ant.mp4")
    assert default_output("zoo:ant", "policies") == Path("policies_ant")


def test_a_policy_of_the_zoo_writes_into_the_current_directory(tmp_path, monkeypatch):
    before = sorted(ROOT.rglob("*"))
    monkeypatch.chdir(tmp_path)
    name = "zoo:point_u_maze"
    assert play(name, ["3,1"]) == Path("play_point_u_maze.mp4")
    assert export(name, formats=["safetensors"]).path == Path("export_point_u_maze")
    recipe = Recipe(steps=6_400, batch_size=16, updates_per_step=1 / 640)
    (student,) = distil(name, [4], [8], recipe=recipe, episodes=2, progress=False)
    assert student.path.parent == Path("policies_point_u_maze")
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"play_point_u_maze.mp4", "export_point_u_maze", "policies_point_u_maze"}
    assert sorted(ROOT.rglob("*")) == before


def test_a_policy_of_the_zoo_plays_into_a_dataset(tmp_path):
    dataset = collect("zoo:point_u_maze", tmp_path / "steps.npz", 400, progress=False)
    assert dataset.steps == 400


def test_zoo_policy_is_controlled_and_listed(capsys):
    main(["control", "zoo:point_u_maze", "--seconds", "0.5", "--goal", "3,1"])
    main(["zoo"])
    printed = capsys.readouterr().out
    assert "steps taken" in printed
    for each in zoo_entries():
        assert f"zoo:{each.name}" in printed
        assert f"{each.score.success.value:.3f}" in printed
        assert all(command in printed for command in each.training.commands)


def test_a_run_is_added_and_replaced(tiny_run, tmp_path):
    training = training_of(tiny_run, "a core")
    assert (training.env_steps, training.seed) == (tiny_run.schedule.total_steps, 0)
    assert training.minutes >= 0
    place = tmp_path / "tiny"
    first = add(tiny_run.path, place, training, episodes=4)
    assert first == open_zoo_entry(place)
    assert (first.task, first.depth, first.width) == ("point_u_maze", 8, 16)
    assert (first.training, first.score.episodes) == (training, 4)
    opened = open_policy(place)
    observation, goal = np.ones((3, 4), np.float32), np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(
        opened.policy(observation, goal), tiny_run.policy(observation, goal)
    )
    again = add(tiny_run.path, place, training, episodes=8)
    assert (again.score.episodes, list(tmp_path.iterdir())) == (8, [place])
    assert f"| {again.bytes / 1e6:.2f} MB |" in page([again])


def test_a_score_counts_the_episodes_that_evaluate_counts(tiny_run):
    policy = open_policy(tiny_run.path)
    found = score_policy(policy, 6, seed=3)
    metrics = evaluate(policy, 6, seed=3)["evaluation goals"]
    for name in ("success", "time_at_goal", "final_distance"):
        assert getattr(found, name).value == pytest.approx(metrics[name])
        assert getattr(found, name).low <= metrics[name] <= getattr(found, name).high


def test_policies_unusable_for_others_are_refused(tmp_path):
    with pytest.raises(UserError, match="only a policy of one of this package's tasks"):
        portable(run_config(task="mine:make"))
    with pytest.raises(UserError, match="only a policy of one of this package's tasks"):
        portable(run_config(mjcf="/home/me/robot.xml"))
    config = run_config(width=512)
    spec = ActorSpec(open_policy("zoo:point_u_maze").spec.task, TorsoSpec(depth=4, width=512))
    large = DeployedPolicy(tmp_path, config, spec, spec.init(jax.random.key(0)), "prune", {})
    saved = large.save(tmp_path / "large")
    with pytest.raises(UserError, match=r"takes 2 at most.*kilolayer distil .* --width 256"):
        add(saved.path, tmp_path / "added", TRAINING, episodes=2)
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_cards_and_configs_lose_local_directories():
    config = portable(run_config(start_from="/home/me/runs/first"))
    assert config == run_config(start_from="first")
    command = "kilolayer train --out /a/b --preset laptop --start-from=/a/c --seed 1"
    assert without_paths(command) == "kilolayer train --preset laptop --start-from RUN --seed 1"
    command = "kilolayer train --start_from /a/b --dataset /a/c.npz --config=/a/d.json"
    assert (
        without_paths(command) == "kilolayer train --start-from RUN --dataset c.npz --config d.json"
    )
    minari = "minari:D4RL/pointmaze/umaze-v2"
    assert portable(run_config(dataset=minari)) == run_config(dataset=minari)
    command = f"kilolayer train --dataset {minari}"
    assert without_paths(command) == command


def test_incomplete_card_is_refused(tmp_path):
    copied = shutil.copytree(ROOT / "point_u_maze", tmp_path / "copied")
    card = json.loads((copied / "policy.json").read_text())
    other = {**card, "details": {"zoo": {**card["details"]["zoo"], "version": 2}}}
    (copied / "policy.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="version 2, and this package reads 1"):
        open_zoo_entry(copied)
    (copied / "policy.json").write_text(json.dumps({**card, "details": {}}))
    with pytest.raises(UserError, match="no whole policy directory"):
        open_zoo_entry(copied)


def test_card_lists_all_commands_of_a_chain_of_runs(run_copy, tiny_run):
    config = dataclasses.replace(run_copy.config, start_from=str(tiny_run.path))
    (run_copy.path / "config.json").write_text(config.to_json())
    found = training_of(type(run_copy)(run_copy.directory), "a core")
    alone = training_of(tiny_run, "a core")
    assert found.commands == alone.commands * 2
    assert found.env_steps == 2 * (alone.env_steps or 0)
