"""The starting point of a run with --start-from, and the check that the two runs are compatible."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import Agent
from kilolayer.agents.crl import CRL, CRLState
from kilolayer.agents.optimiser import AveragedAgent
from kilolayer.config import RunConfig
from kilolayer.errors import UserError, bad_field
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.mesh import put_on_devices
from kilolayer.runtime.tensors import named_leaves
from kilolayer.schedule import TrainSchedule
from kilolayer.settings import values_of
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer, TrainState

# Key of the manifest's entry on the checkpoint that a run started from.
MANIFEST_KEY = "start_from"
# Network settings that change only how gradients are computed, and the depths, which are compared
# as the schedule derives them.
COMPUTATION_FIELDS = ("rematerialisation", "scan_unroll", "compute_dtype", "branch_scale")
DEPTH_FIELDS = ("depth", "actor_depth", "critic_depth")
# Agent settings that change what the same weights compute.
AGENT_FIELDS = ("representation_dim", "energy", "collector_depth")


@dataclass(frozen=True)
class StartingPoint:
    """The newest agent of another run, in host memory.

    agent: the agent and the initial running average, None without an average. origin: the run, its
    round and the checksum of that checkpoint, for the manifest.
    """

    agent: AveragedAgent
    origin: dict[str, Any]


def load_starting_point(path: Path, trainer: Trainer) -> StartingPoint:
    """The starting point of a run of this trainer that continues from the run in `path`.

    Raises UserError if that run has no checkpoint, or another task, agent, network or temperature.
    """
    source = RunDirectory.open(path)
    config = source.config
    _require_same_networks(path, config, trainer)
    newest = checkpoint.latest(source.checkpoints)
    if newest is None:
        raise bad_field(MANIFEST_KEY, str(path), "it has no checkpoint")
    like = jax.eval_shape(trainer.agent.init, jax.random.key(0))
    stored = jax.eval_shape(config.agent.on(trainer.agent.bound).init, jax.random.key(0))
    averages = config.agent.average_decay > 0
    if _sizes(stored) != _sizes(like):
        try:
            source.restore_agent(newest, like, averages)  # names what differs
        except UserError as error:
            allowed = "task, agent and sizes of its networks must be those of this run"
            why = str(error).rstrip(".")
            raise bad_field(MANIFEST_KEY, str(path), f"{allowed} ({why})") from error
    found = source.restore_agent(newest, stored, averages)
    agent = _restart_target_entropy(trainer.agent, _restart_schedules(like, found.agent))
    average = None
    if trainer.config.agent.average_decay > 0:
        average = agent.parameters.actor if found.average is None else found.average
    origin = {
        "run": str(path),
        "round": newest,
        "sha256": checkpoint.fingerprint(source.checkpoints, newest, checkpoint.AGENT),
    }
    return StartingPoint(AveragedAgent(agent, average), origin)


def reload_starting_point(run: RunDirectory, trainer: Trainer) -> StartingPoint | None:
    """The starting point of a run that is resumed without a checkpoint; None without --start-from.

    Raises UserError if the other run has trained further or no longer exists.
    """
    source = run.config.start_from
    if source is None:
        return None
    start = load_starting_point(Path(source), trainer)
    recorded = run.recorded(MANIFEST_KEY)
    if recorded is not None and start.origin["sha256"] != recorded["sha256"]:
        raise UserError(
            f"the run in {run.path} began with round {recorded['round']} of {source}, whose "
            f"newest checkpoint is now another (round {start.origin['round']}), and it has no "
            "checkpoint of its own to go on from: start a new run with --start-from."
        )
    return start


def apply_starting_point(
    start: StartingPoint, state: TrainState, trainer: Trainer, seeds: Seeds
) -> TrainState:
    """The initial state with the agent of a starting point, the same for all seeds."""
    shardings = trainer.shardings
    started = seeds.stack([(start.agent.agent, start.agent.average)] * len(seeds.values))
    agent, average = put_on_devices(started, (shardings.agent, shardings.average))
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
        if field not in (*COMPUTATION_FIELDS, *DEPTH_FIELDS):
            _require_same(path, field, value, getattr(theirs.network, field))
    # The length of an episode changes no network.
    schedule, before = trainer.schedule, TrainSchedule.derive(theirs, task_episode_length=2)
    for part in ("actor", "critic"):
        name = "depth" if getattr(ours.network, f"{part}_depth") is None else f"{part}_depth"
        now, then = (getattr(each, f"{part}_torso") for each in (schedule, before))
        _require_same(path, name, now.depth, then.depth)
        if now.branch_scale != then.branch_scale:
            scales = ours.network.branch_scale, theirs.network.branch_scale
            _require_same(path, "branch_scale", *scales)
    if other.get("initial_temperature") != own.get("initial_temperature"):
        allowed = (
            "with start_from the temperature continues from that run, whose initial temperature "
            "differs"
        )
        nearest = other["initial_temperature"]
        raise bad_field("initial_temperature", own["initial_temperature"], allowed, nearest)


def _require_same(path: Path, field: str, ours: Any, theirs: Any) -> None:
    if ours != theirs:
        allowed = f"the run to start from, {path}, has {field} = {theirs!r}"
        raise bad_field(field, ours, allowed, theirs)


def _restart_schedules(like: Any, agent: Any) -> Any:
    """The agent in the structure of `like`, whose optimisers may have schedules where its own have
    none, or the other way round. All schedules begin anew."""
    parts = jax.tree.leaves(agent, is_leaf=_is_schedule)
    others = iter([part for part in parts if not _is_schedule(part)])

    def fill(part: Any) -> Any:
        zero = jnp.zeros((), jnp.int32)
        return optax.ScaleByScheduleState(zero) if _is_schedule(part) else next(others)

    return jax.tree.map(fill, like, is_leaf=_is_schedule)


def _restart_target_entropy(agent: Agent, state: Any) -> Any:
    """The state with a falling target entropy set back to its beginning.

    The target falls with the number of the temperature's updates, which its Adam counts. Adam's
    moments fit only their own number of updates, so they begin anew too.
    """
    if not isinstance(agent, CRL) or agent.final_target_entropy_per_action is None:
        return state
    optimiser = agent.optimisers["log_temperature"]

    def restart(part: Any) -> Any:
        if not isinstance(part, CRLState):
            return part
        fresh = optimiser.init(part.parameters.log_temperature)
        return CRLState(part.parameters, part.optimiser | {"log_temperature": fresh})

    return jax.tree.map(restart, state, is_leaf=lambda part: isinstance(part, CRLState))


def _sizes(agent: Any) -> dict[str, Any]:
    """Shape and type of each leaf by its path, without the counts of the schedules."""
    bare = jax.tree.map(lambda p: None if _is_schedule(p) else p, agent, is_leaf=_is_schedule)
    return {name: (leaf.shape, leaf.dtype) for name, leaf in named_leaves(bare).items()}


def _is_schedule(part: Any) -> bool:
    return isinstance(part, optax.ScaleByScheduleState)
