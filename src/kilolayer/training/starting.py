"""What a run that goes on from another one begins with, and whether the two fit together."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.averaging import AveragedAgent, actor_of
from kilolayer.config import RunConfig
from kilolayer.plan import TrainPlan
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.mesh import place
from kilolayer.settings import values_of
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import UserError, bad_field

# In the manifest: which checkpoint a run began with.
MANIFEST_KEY = "start_from"
# How a network's gradient is computed, and depths, which are compared as the plan derives them.
WITHOUT_EFFECT = ("rematerialisation", "scan_unroll", "compute_dtype", "branch_scale")
DEPTHS = ("depth", "actor_depth", "critic_depth")
# Settings of agents with which the same weights compute something else.
AGENT_FIELDS = ("representation_dim", "energy", "collector_depth")


@dataclass(frozen=True)
class StartingPoint:
    """The newest agent of another run, in host memory.

    learnt: the agent and what its average begins as, None where no average is kept. origin: the
    run, its round and the checksum of that checkpoint, for the manifest.
    """

    learnt: AveragedAgent
    origin: dict[str, Any]


def starting_point(path: Path, trainer: Trainer) -> StartingPoint:
    """What a run of this trainer begins with if it goes on from the run in `path`.

    Raises UserError if there is no checkpoint, or if the run had another task, another agent, other
    networks or another initial temperature.
    """
    source = RunDirectory.open(path)
    config = source.config
    _require_same_networks(path, config, trainer)
    newest = checkpoint.latest(source.checkpoints)
    if newest is None:
        raise bad_field(MANIFEST_KEY, str(path), "it has no checkpoint yet")
    like = jax.eval_shape(trainer.agent.init, jax.random.key(0))
    averages = config.agent.average_decay > 0
    kept = AveragedAgent(like, actor_of(like)) if averages else like
    try:
        learnt = checkpoint.restore(source.checkpoints, newest, checkpoint.AGENT, kept)
    except UserError as error:
        allowed = f"task, agent and sizes of its networks must be those of this run ({error})"
        raise bad_field(MANIFEST_KEY, str(path), allowed) from error
    agent, average = (learnt.agent, learnt.average) if averages else (learnt, None)
    agent = _at_full_rate(agent)
    if trainer.config.agent.average_decay == 0:
        average = None
    elif average is None:
        average = actor_of(agent)
    origin = {
        "run": str(path),
        "round": newest,
        "sha256": checkpoint.fingerprint(source.checkpoints, newest, checkpoint.AGENT),
    }
    return StartingPoint(AveragedAgent(agent, average), origin)


def same_starting_point(run: RunDirectory, trainer: Trainer) -> StartingPoint | None:
    """What a run that is begun once more starts from: the same as at first, None if from nothing.

    Raises UserError if the run that it went on from has trained further, or is no longer there.
    """
    source = run.config.start_from
    if source is None:
        return None
    start = starting_point(Path(source), trainer)
    began_with = json.loads((run.path / "manifest.json").read_text(encoding="utf-8")).get(
        MANIFEST_KEY
    )
    if began_with is not None and start.origin["sha256"] != began_with["sha256"]:
        raise UserError(
            f"the run in {run.path} began with round {began_with['round']} of {source}, whose "
            f"newest checkpoint is now another (round {start.origin['round']}), and it has no "
            "checkpoint of its own to go on from: start a new run with --start-from."
        )
    return start


def started_from(
    start: StartingPoint, state: TrainState, trainer: Trainer, seeds: Seeds
) -> TrainState:
    """A state before the first step that begins with a starting point, the same for all seeds."""
    agent, average = (
        place(seeds.stack([tree] * len(seeds.values)), shardings)
        for tree, shardings in (
            (start.learnt.agent, trainer.shardings.agent),
            (start.learnt.average, trainer.shardings.average),
        )
    )
    return dataclasses.replace(state, agent=agent, average=average)


def _require_same_networks(path: Path, theirs: RunConfig, trainer: Trainer) -> None:
    """Raises UserError naming the first setting in which the two runs' networks differ."""
    ours = trainer.config
    which = next(name for name in ("mjcf", "gym", "task") if getattr(ours.task, name) is not None)
    _require_same(path, which, ours.task.name, theirs.task.name)
    for field in ("goal_site", "goal_body"):
        _require_same(path, field, getattr(ours.task, field), getattr(theirs.task, field))
    _require_same(path, "agent", ours.agent_name, theirs.agent_name)
    own, other = values_of(ours.agent), values_of(theirs.agent)
    for field in AGENT_FIELDS:
        _require_same(path, field, own.get(field), other.get(field))
    for field, value in values_of(ours.network).items():
        if field not in (*WITHOUT_EFFECT, *DEPTHS):
            _require_same(path, field, value, getattr(theirs.network, field))
    # The length of an episode changes no network.
    plan, before = trainer.plan, TrainPlan.derive(theirs, task_episode_length=2)
    for part in ("actor", "critic"):
        name = "depth" if getattr(ours.network, f"{part}_depth") is None else f"{part}_depth"
        now, then = (getattr(each, f"{part}_torso") for each in (plan, before))
        _require_same(path, name, now.depth, then.depth)
        if now.branch_scale != then.branch_scale:
            scales = ours.network.branch_scale, theirs.network.branch_scale
            _require_same(path, "branch_scale", *scales)
    if other.get("initial_temperature") != own.get("initial_temperature"):
        allowed = (
            "with start_from the temperature goes on from where that run left it, and that run "
            "began with another one"
        )
        nearest = other["initial_temperature"]
        raise bad_field("initial_temperature", own["initial_temperature"], allowed, nearest)


def _require_same(path: Path, field: str, ours: Any, theirs: Any) -> None:
    if ours != theirs:
        allowed = f"the run to start from, {path}, has {field} = {theirs!r}"
        raise bad_field(field, ours, allowed, theirs)


def _at_full_rate(agent: Any) -> Any:
    """The agent with its learning rates, if they fall, where they begin; all else as it was."""

    def begun(part: Any) -> Any:
        falls = isinstance(part, optax.ScaleByScheduleState)
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)) if falls else part

    return jax.tree.map(
        begun, agent, is_leaf=lambda part: isinstance(part, optax.ScaleByScheduleState)
    )
