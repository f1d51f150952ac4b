"""`prune` and `distil` on the command line: what they print and what they refuse."""

import re

import jax
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.analysis.statistics import Estimate
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.control import ControlResult
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.deploy.score import PairedScores
from kilolayer.deploy.smaller.prune import Curve, Point, Pruned, SelectionRule
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.networks.encoders import TorsoSpec
from kilolayer_robot.log import ControlLog

SPEC = ActorSpec(TaskSpec(4, 2, 2), TorsoSpec(depth=8, width=16))


def scores(time_at_goal: float) -> dict[str, float]:
    return {"time_at_goal": time_at_goal, "success": 0.75}


@pytest.fixture
def policy(tmp_path) -> DeployedPolicy:
    actor = SPEC.init(jax.random.key(0))
    details = {
        "seed": 3,
        "divergence": 0.25,
        "scores": scores(76.0),
        "teacher_scores": scores(80.0),
        "change": {"value": -4.0, "low": -6.0, "high": -2.0, "seeds": 128},
    }
    made = DeployedPolicy(tmp_path, run_config(), SPEC, actor, "distil", details)
    return made.save(tmp_path / "made")


def test_distil_prints_students_beside_the_teacher(policy, monkeypatch, capsys):
    calls = []

    def take(path, depths, widths, seeds, recipe, episodes, out):
        calls.append((str(path), depths, widths, list(seeds), recipe, episodes, out))
        return [policy]

    monkeypatch.setattr("kilolayer.api.distil", take)
    command = (
        "distil runs/a --depth 4 8 --width 64 --seeds 2 --seed 3 --steps 1000 --critic-weighted"
    )
    main(command.split())
    recipe = Recipe(steps=1000, critic_weighted=True)
    assert calls == [("runs/a", (4, 8), (64,), [3, 4], recipe, 128, None)]
    printed = capsys.readouterr().out
    assert "teacher: time at goal 80.0" in printed
    assert re.search(r"8\D+16\D+3\D+76\.0\D+95%\D+4\.0", printed)
    assert re.search(r"0\.75\D+0\.25", printed)


def test_prune_prints_the_curve_with_the_chosen_point(policy, monkeypatch, capsys):
    points = [
        Point("greedy", [0, 1], False, 0.0, 0.2, scores(80.0)),
        Point("greedy", [1], False, 0.5, 0.1, scores(40.0)),
        Point("greedy", [1], True, 0.1, 0.1, scores(78.0)),
    ]
    influence = {"divergence": [0.5, 0.7]}
    fresh = PairedScores(scores(75.0), scores(80.0), Estimate(-5.0, -9.0, -1.0, 128))
    curve = Curve("runs/a", 0, 128, 1024, 100, SelectionRule(), influence, points, 2, fresh)
    monkeypatch.setattr("kilolayer.api.prune", lambda *_: Pruned(policy, curve))
    main(["prune", "runs/a", "--heal", "100"])
    printed = capsys.readouterr().out
    assert "1 of 2 blocks removed; on 128 new episodes the time at goal is 75.0 of 80.0" in (
        printed
    )
    assert "a change of -5.0 (95 %: -9.0 to -1.0)" in printed
    assert f"picture {policy.path / 'prune.png'}" in printed.replace("\n", "")


def test_control_prints_the_notes_of_the_loop(monkeypatch, capsys):
    log = ControlLog()
    log.note("the log control.jsonl ends early: No space left on device")
    summary = log.summary(
        rate=100.0, stalls=0, watchdog_actions=0, actions=1, longest_pause=0.0, stopped_by="time",
        ended_safely=True,
    )  # fmt: skip
    monkeypatch.setattr(
        "kilolayer.api.deployment.control", lambda *_: ControlResult(summary, [], 1.0)
    )
    main(["control", "runs/a", "--out", "control.jsonl"])
    assert "note: the log control.jsonl ends early: No space left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("distil no-such-run", "no-such-run is not a run directory"),
        ("distil no-such-run --learning-rate 0", "learning_rate = 0.0 is not allowed"),
        ("prune no-such-run", "no-such-run is not a run directory"),
        ("prune no-such-run --keep-score 2", "keep_score = 2.0 is not allowed"),
        ("prune no-such-run --measure norm", "measure = 'norm' is not allowed: it needs --order"),
        ("latency no-such-run --plan-run a", "plan_run = 'a' is not allowed: it needs --planner"),
        ("latency no-such-run --nodes 8", "nodes = 8 is not allowed: it needs --planner"),
        ("control no-such-run --say go --chunk 3", "chunk = 3 is not allowed: with --say"),
        ("control no-such-run --say go --nodes 8", "nodes = 8 is not allowed: with --say"),
        (
            "control no-such-run --say go --module a --controller b",
            "controller = 'b' is not allowed: --module acts in its place",
        ),
    ],
)
def test_invalid_options_give_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sentence in error


@pytest.mark.parametrize("command", ["prune", "distil"])
def test_help_explains_every_option(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "Look for" in capsys.readouterr().out
