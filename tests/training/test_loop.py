"""A complete small run: the files that it writes, and the errors that stop it."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kilolayer.analysis.load import load
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.mesh import make_mesh
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.training.build import build_trainer
from kilolayer.training.loop import start_run
from kilolayer.training.saving import first_nonfinite
from kilolayer.training.seeds import Seeds, open_members
from kilolayer.training.starting import load_starting_point

SMALL = run_config(
    total_steps=6_000,
    num_envs=8,
    unroll_length=20,
    layers_per_block=1,
    depth=2,
    width=16,
    batch_size=32,
    eval_envs=8,
    num_evaluations=3,
    replay_steps_per_env=200,
    min_replay_steps_per_env=40,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    return start_run(SMALL, tmp_path_factory.mktemp("runs") / "small", SilentDisplay())


def test_run_directory_is_complete(finished) -> None:
    path = finished.path
    assert finished.finished
    assert finished.config == SMALL
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert manifest["versions"]["jax"]
    assert list((path / "tensorboard").glob("events*"))
    assert {file.name for file in (path / "episodes").iterdir()} == {
        "evaluation.npz",
        "training.npz",
        "batch.npz",
    }


def test_counts_match_the_plan(finished) -> None:
    schedule = build_trainer(SMALL).schedule
    events = finished.read_events()
    train = [event for event in events if event["event"] == "train"]
    assert len(train) == schedule.training_unrolls
    assert train[-1]["env_steps"] == schedule.total_steps
    assert train[-1]["updates"] == schedule.training_unrolls * schedule.updates_per_unroll


def rounds_with(run: RunDirectory, metric: str) -> list[int]:
    return [event["round"] for event in run.read_events() if metric in event.get("metrics", {})]


def test_training_goals_are_evaluated_last_or_always(finished, tmp_path) -> None:
    evaluated = rounds_with(finished, "evaluation/success")
    assert len(evaluated) == 1 + SMALL.evaluation.num_evaluations
    assert rounds_with(finished, "evaluation_training_goals/success") == evaluated[-1:]
    always = SMALL.having(evaluate_training_goals=True)
    run = start_run(always, tmp_path / "run", SilentDisplay())
    evaluated = rounds_with(run, "evaluation/success")
    assert rounds_with(run, "evaluation_training_goals/success") == evaluated
    assert len(evaluated) > 1


@pytest.mark.parametrize(
    ("keep", "scores", "kept"),
    [
        (1, [0, 5, 2, 3, 1, 0], [1, 5]),
        (2, [0, 5, 2, 3, 1, 0], [1, 4, 5]),
        (2, [0, 1, 3, 3, 1, 0], [3, 4, 5]),  # the later of two that are as good
        (2, [0, 1, 2, 3, 4, 5], [4, 5]),
        (2, [9, 5, 2, 3, 1, 0], [1, 4, 5]),  # the evaluation at the start has no checkpoint
        (9, [0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
    ],
)
def test_the_newest_checkpoints_and_the_best_are_kept(keep, scores, kept, tmp_path) -> None:
    """Also where the run was killed and resumed; numbers are those of the evaluations."""
    run = RunDirectory.create(tmp_path / "run", SMALL.having(tensorboard=False), {})
    (member,) = open_members(run, None, 1)
    for number, score in enumerate(scores):
        if number == 3:
            (member,) = open_members(run, resume_at=2, steps_per_round=1)
        run.append_event(
            {
                "event": "evaluation",
                **dict.fromkeys(("round", "env_steps", "updates"), number),
                "metrics": {"evaluation/time_at_goal": float(score)},
            }
        )
        member.note_score(score, number)
        if number > 0:
            checkpoint.save(run.checkpoints, number, {"weight": np.ones(3)}, {"key": np.ones(2)})
            checkpoint.remove_old(run.checkpoints, keep, member.best_round())
    assert checkpoint.steps(run.checkpoints) == kept


@pytest.mark.slow
def test_old_checkpoints_are_thinned(tmp_path: Path) -> None:
    config = SMALL.having(
        total_steps=1600, num_evaluations=5, keep_checkpoints=1, tensorboard=False, profile=False
    )
    run = start_run(config, tmp_path / "run", SilentDisplay(), seeds=2)
    events = run.members[0].read_events()
    saved = [event["round"] for event in events if event["event"] == "checkpoint"]
    assert len(saved) == 5
    assert checkpoint.steps(run.checkpoints) == saved[-1:]
    for member in run.members:
        scored = [
            (event["metrics"]["evaluation/time_at_goal"], event["round"])
            for event in member.read_events()
            if event["round"] > 0 and "evaluation/time_at_goal" in event.get("metrics", {})
        ]
        assert checkpoint.steps(member.checkpoints) == sorted({max(scored)[1], saved[-1]})


@pytest.mark.parametrize(("evaluations", "checkpoints"), [(2, 6), (6, 2)])
def test_checkpoint_interval_is_independent_of_evaluations(
    tmp_path: Path, evaluations, checkpoints
) -> None:
    config = SMALL.having(
        num_evaluations=evaluations, num_checkpoints=checkpoints,
        keep_checkpoints=1, tensorboard=False, profile=False,
    )  # fmt: skip
    run = start_run(config, tmp_path / "run", SilentDisplay())
    saved = [event["round"] for event in run.read_events() if event["event"] == "checkpoint"]
    evaluated = rounds_with(run, "evaluation/success")[1:]
    schedule = build_trainer(config).schedule
    assert (len(saved), len(evaluated)) == (checkpoints, evaluations)
    assert saved[-1] == evaluated[-1] == schedule.prefill_unrolls + schedule.training_unrolls
    scores = {
        event["round"]: event["metrics"]["evaluation/time_at_goal"]
        for event in run.read_events()
        if event["round"] in saved and "evaluation/time_at_goal" in event.get("metrics", {})
    }
    best = max(scores, key=lambda each: (scores[each], each))
    assert checkpoint.steps(run.checkpoints) == sorted({best, saved[-1]})


def test_no_metric_is_constant(finished) -> None:
    values: dict[str, list[float]] = {}
    for event in finished.read_events():
        if event["event"] == "train":
            for name, value in event["metrics"].items():
                values.setdefault(name, []).append(value)
    assert len(values) > 8
    assert [name for name, series in values.items() if len(set(series)) < 2] == []


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    def losses(seed: int, name: str) -> list[float]:
        run = start_run(SMALL.having(seed=seed), tmp_path / name, SilentDisplay())
        events = run.read_events()
        return [e["metrics"]["critic/loss"] for e in events if e["event"] == "train"]

    first = losses(0, "a")
    assert first == losses(0, "b")
    assert first != losses(1, "c")


def test_nan_metric_stops_the_run_and_is_named(tmp_path: Path) -> None:
    """The first update overflows every parameter."""
    wild = SMALL.having(critic_learning_rate=1e38, actor_learning_rate=1e38)
    with pytest.raises(UserError, match=r"agent\.\S+ is not finite after \d+ env.*checkpoint"):
        start_run(wild, tmp_path / "run", SilentDisplay())
    events = RunDirectory.open(tmp_path / "run").read_events()
    assert events[-1]["event"] == "nonfinite"
    assert events[-1]["tensor"].startswith("agent.")


def test_nan_parameter_is_named() -> None:
    trainer = build_trainer(SMALL)
    state = jax.jit(trainer.init)()
    assert first_nonfinite({"loss": 1.0}, state) is None
    assert first_nonfinite({"critic/loss": float("nan")}, state) == "critic/loss"
    poisoned = jax.tree.map(lambda leaf: leaf, state)
    parameters = dataclasses.replace(state.agent.parameters, log_temperature=jnp.float32(np.inf))
    poisoned = dataclasses.replace(
        state, agent=dataclasses.replace(state.agent, parameters=parameters)
    )
    assert first_nonfinite({}, poisoned) == "agent.parameters.log_temperature"


def test_existing_run_directory_is_refused(finished) -> None:
    with pytest.raises(UserError, match=r"exists already.*--out.*--resume"):
        start_run(SMALL, finished.path, SilentDisplay())


GOING_ON = [((0.0, 0.0), 1), ((0.9, 1 - 1e-6), 1), ((0.0, 0.9), 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("decays", "seeds"), GOING_ON)
def test_run_starts_from_the_networks_of_another(decays, seeds, finished, tmp_path) -> None:
    """With steps too small to change a weight, the final parameters equal the initial ones."""
    first, second = (SMALL.having(average_decay=decay, profile=False) for decay in decays)
    source = finished
    if decays[0] > 0:
        source = start_run(first.having(total_steps=400), tmp_path / "first", SilentDisplay())
    continued = second.having(
        start_from=str(source.path),
        seed=7,
        total_steps=400,
        episode_length=50,
        actor_learning_rate=1e-30,
        critic_learning_rate=1e-30,
    )
    run = start_run(continued, tmp_path / "second", SilentDisplay(), seeds=seeds)
    before = load(source.path)
    for member in run.members:
        after = load(member.path)
        for goal in ((1.0, 1.0), (3.0, 1.0)):
            expected = before.policy(np.ones(4), np.array(goal))
            np.testing.assert_allclose(
                after.policy(np.ones(4), np.array(goal)), expected, atol=1e-5
            )
    assert len(run.members) == seeds


def rate_counts(state) -> list[int]:
    """How far the schedules of the learning rates are."""
    is_schedule = lambda part: isinstance(part, optax.ScaleByScheduleState)  # noqa: E731
    parts = jax.tree.leaves(state, is_leaf=is_schedule)
    return [int(part.count) for part in parts if is_schedule(part)]


def test_learning_rate_schedule_restarts_with_a_new_run(tmp_path) -> None:
    scheduled = SMALL.having(total_steps=400, final_learning_rate_share=0.1, profile=False)
    source = start_run(scheduled, tmp_path / "first", SilentDisplay())
    run = load(source.path)
    updates = run.schedule.training_unrolls * run.schedule.updates_per_unroll
    assert rate_counts(run.agent_state) == [updates, updates]
    rate = run.agent.schedule(run.agent.critic_learning_rate)
    assert float(rate(0)) == pytest.approx(scheduled.agent.critic_learning_rate)
    assert float(rate(updates // 2)) == pytest.approx(
        0.55 * scheduled.agent.critic_learning_rate, rel=0.1
    )
    assert float(rate(updates)) == pytest.approx(0.1 * scheduled.agent.critic_learning_rate)
    late = scheduled.having(constant_share=0.5).agent.on(run.agent.bound)
    rate = late.schedule(1.0)
    shares = [float(rate(round(updates * done))) for done in (0, 0.5, 0.75, 1)]
    np.testing.assert_allclose(shares, [1, 1, 0.55, 0.1], rtol=0.1)
    continued = scheduled.having(start_from=str(source.path))
    trainer = build_trainer(continued, make_mesh(1), Seeds((0,)))
    assert rate_counts(load_starting_point(source.path, trainer).agent) == [0, 0]


def test_invalid_starting_point_is_refused_before_a_run_is_made(finished, tmp_path) -> None:
    deeper = SMALL.having(depth=4, start_from=str(finished.path))
    with pytest.raises(UserError, match=r"depth = 4 is not allowed: the run to start from"):
        start_run(deeper, tmp_path / "run", SilentDisplay())
    nowhere = SMALL.having(start_from=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="is not a run directory"):
        start_run(nowhere, tmp_path / "run", SilentDisplay())
    assert not (tmp_path / "run").exists()
