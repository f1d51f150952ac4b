"""A policy directory: it round-trips, and damage is detected."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.api import evaluate, play
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy, open_policy
from kilolayer.errors import UserError
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec

SPEC = ActorSpec(
    TaskSpec(observation_dim=4, action_dim=2, goal_dim=2),
    TorsoSpec(depth=8, width=16, branch_scale=0.25, architecture=Architecture(norm="rms")),
)


@pytest.fixture
def saved(tmp_path) -> DeployedPolicy:
    actor = SPEC.init(jax.random.key(3))
    made = DeployedPolicy(tmp_path, run_config(), SPEC, actor, "prune", {"kept": [0, 1]})
    return made.save(tmp_path / "small")


def test_saved_policy_round_trips(saved, normal):
    opened = open_policy(saved.path)
    assert (opened.spec, opened.config) == (SPEC, run_config())
    assert (opened.method, opened.details) == ("prune", {"kept": [0, 1]})
    observation, goal = np.asarray(normal(0, 5, 4)), np.asarray(normal(1, 5, 2))
    np.testing.assert_array_equal(opened.policy(observation, goal), saved.policy(observation, goal))


def test_policy_is_evaluated_and_filmed_like_a_run(saved):
    scores = evaluate(saved.path, episodes=2, goal="3,1")["goal 3,1"]
    assert 0 <= scores["success"] <= 1
    with pytest.raises(UserError, match="no critic"):
        evaluate(saved.path, episodes=2, samples=2)
    picture = play(saved.path, ["3,1"], saved.path.parent / "play.png")
    assert picture.stat().st_size > 1_000


def test_steps_option_sets_the_episode_length(saved, capsys):
    start = "1,1"
    times = [
        evaluate(saved.path, episodes=2, goal=start, steps=steps)[f"goal {start}"]["time_at_goal"]
        for steps in (1, 3)
    ]
    assert times == [1, 3]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(saved.path), "--steps", "0"])
    assert stop.value.code == 2
    assert "steps = 0 is not allowed: it must be at least 1" in capsys.readouterr().err


def test_existing_output_is_not_overwritten(saved):
    with pytest.raises(UserError, match="exists already"):
        saved.save(saved.path)


def test_flipped_byte_is_detected(saved):
    tensors = saved.path / "policy.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with pytest.raises(UserError, match="checksum"):
        open_policy(saved.path)


def test_card_of_another_network_is_refused(saved):
    card = json.loads((saved.path / "policy.json").read_text())
    card["actor"] = dataclasses.asdict(
        dataclasses.replace(SPEC, torso=dataclasses.replace(SPEC.torso, depth=12))
    )
    (saved.path / "policy.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="does not hold the arrays"):
        open_policy(saved.path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card["actor"]["torso"].update(width="wide"), "wide"),
        (lambda card: card["actor"]["torso"].update(layers_per_block=0), "division"),
        (lambda card: card["actor"]["torso"].update(compute_dtype="float12"), "compute_dtype is"),
        (
            lambda card: card["actor"]["torso"]["architecture"].update(activation="swoosh"),
            "activation is 'swoosh'",
        ),
        (lambda card: card.update(details=None), "NoneType"),
    ],
)
def test_card_that_describes_no_actor_is_refused(change, words, saved):
    card_path = saved.path / "policy.json"
    card = json.loads(card_path.read_text())
    change(card)
    card_path.write_text(json.dumps(card))
    with pytest.raises(UserError, match=f"is no whole policy directory: .*{words}"):
        open_policy(saved.path)


def test_directory_without_run_or_policy_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        open_policy(tmp_path)
