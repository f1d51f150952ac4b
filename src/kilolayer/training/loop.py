"""The life of a run on the host: compile, prefill, rounds, evaluations, checkpoints, resume."""

import dataclasses
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from kilolayer.agents.build import build_agent
from kilolayer.config import TrainConfig
from kilolayer.physics.base import Physics
from kilolayer.physics.build import World, build_physics
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.physics.sharded import ShardedPhysics
from kilolayer.plan import TrainPlan
from kilolayer.runtime import checkpoint
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.mesh import fetch, make_mesh, place, shared_out, whole
from kilolayer.runtime.processes import ONE_PROCESS, Processes
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.runtime.run_dir import RunDirectory
from kilolayer.runtime.tracking import CompositeTracker, Tracker, build_tracker
from kilolayer.tasks.registry import task_of
from kilolayer.training.evaluate import (
    Episodes,
    Evaluator,
    episode_metrics,
    evaluation_key,
    evaluation_start,
)
from kilolayer.training.profile import profile_round
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import UserError, bad_field


def build_trainer(config: TrainConfig, mesh: Mesh | None = None) -> Trainer:
    """Everything that the config describes, by default on one device.

    Raises UserError before anything compiles.
    """
    mesh = mesh or make_mesh(1)
    task = task_of(config)
    plan = TrainPlan.derive(config, task.episode_length, jax.default_backend(), mesh.size)
    physics = physics_on(mesh, task.world, config, config.num_envs)
    return Trainer(config, plan, task, physics, build_agent(config, plan, task), mesh)


def physics_on(mesh: Mesh, world: World, config: TrainConfig, num_worlds: int) -> Physics:
    """The engine that the config names, for `num_worlds` worlds that the devices share."""
    share = build_physics(world, num_worlds // mesh.size, config.physics, config.mjx_impl)
    if mesh.size == 1:
        return share
    if isinstance(world, GymnasiumWorld):
        raise bad_field("devices", mesh.size, "Gymnasium environments live in one process", 1)
    return ShardedPhysics(share, mesh)


def start_run(
    config: TrainConfig,
    directory: Path,
    display: ProgressDisplay,
    devices: int | None = 1,
    processes: Processes = ONE_PROCESS,
) -> RunDirectory:
    """Train from the beginning in a new run directory; returns when the run has finished.

    devices: how many to use, None for all there are. processes: those that train together.
    """
    trainer = build_trainer(config, make_mesh(devices))
    manifest = describe_run(config.seed) | {"devices_used": trainer.mesh.size}
    run = RunDirectory.create(directory, config, manifest, writes=jax.process_index() == 0)
    processes.agree("config", dataclasses.asdict(config))
    _Loop(trainer, run, display, _tracker(run, config, None)).run_all(resume_at=None)
    return run


def resume_run(
    directory: Path,
    display: ProgressDisplay,
    devices: int | None = 1,
    processes: Processes = ONE_PROCESS,
) -> RunDirectory:
    """Continue a killed run at its newest checkpoint, on any number of devices.

    On as many as before the result is the same as that of an unbroken run, bit for bit.
    """
    run = RunDirectory.open(directory, writes=jax.process_index() == 0)
    if run.finished:
        raise UserError(
            f"the run in {directory} has finished: there is nothing to resume. "
            f"`kilolayer report {directory}` shows it."
        )
    config = run.config
    trainer = build_trainer(config, make_mesh(devices))
    resume_at = checkpoint.latest(run.checkpoints) or 0
    processes.agree("config", dataclasses.asdict(config) | {"checkpoint": resume_at})
    steps = resume_at * trainer.plan.steps_per_unroll
    loop = _Loop(trainer, run, display, _tracker(run, config, steps))
    loop.run_all(resume_at=resume_at)
    return run


def _tracker(run: RunDirectory, config: TrainConfig, purge_from: int | None) -> Tracker:
    if not run.writes:
        return CompositeTracker([])
    return build_tracker(run.path, config, purge_from)


@dataclass
class _Loop:
    """The host side of one run: counts seconds and writes events; computes nothing itself.

    seconds: what the run has spent on each phase, killed processes included up to their last
    checkpoint. round_seconds: the newest round's.
    """

    trainer: Trainer
    run: RunDirectory
    display: ProgressDisplay
    tracker: Tracker
    seconds: dict[str, float] = field(default_factory=dict)
    round_seconds: float = 0.0
    success: float = 0.0

    def run_all(self, resume_at: int | None) -> None:
        try:
            state = (
                restore_state(self.run, resume_at, self.trainer)
                if resume_at
                else jax.jit(self.trainer.init, out_shardings=self.trainer.shardings)()
            )
            if resume_at is not None:
                self.run.append_event({"event": "resume", "round": resume_at})
                spent = [e["seconds"] for e in self.run.read_events() if "seconds" in e]
                self.seconds = dict(spent[-1]) if spent else {}
            self._train(state)
            self.run.mark_finished()
        finally:
            self.tracker.close()
            self.display.close()

    def _train(self, state: TrainState) -> None:
        plan = self.trainer.plan
        self.display.note(plan.describe())
        self.display.phase("compile")
        collect, train_round, evaluate = self._timed("compile", self._compile, state)
        rounds = int(state.unrolls)
        if rounds == 0:
            self._evaluate(evaluate, state, rounds)
        self.display.phase("prefill")
        while rounds < plan.prefill_unrolls:
            state = self._timed("prefill", lambda s: jax.block_until_ready(collect(s)), state)
            rounds += 1
            self._advance(rounds)
        due = {plan.prefill_unrolls + count for count in plan.evaluate_after}
        while rounds < plan.prefill_unrolls + plan.training_unrolls:
            self.display.phase("train")
            start = time.perf_counter()
            state, metrics = jax.block_until_ready(train_round(state))
            elapsed = time.perf_counter() - start
            rounds += 1
            self._count("train", elapsed)
            self.round_seconds = elapsed
            values = {name: float(value) for name, value in metrics.items()}
            self._stop_at_nan(rounds, values, state)
            self._log(rounds, "train", values, round_seconds=elapsed)
            self._advance(rounds, elapsed)
            if rounds in due:
                self._evaluate(evaluate, state, rounds)
                self._save(state, rounds)
        self.display.phase("profile")
        parts = profile_round(self.trainer, state, self.round_seconds)
        self._log(rounds, "profile", {}, seconds_per_round=parts, seconds=self.seconds)

    def _compile(self, state: TrainState) -> tuple[Any, Any, Any]:
        config, trainer = self.trainer.config, self.trainer
        evaluator = Evaluator(
            trainer.task,
            physics_on(trainer.mesh, trainer.task.world, config, config.eval_envs),
            trainer.agent,
            trainer.task.episode_length,
            config.samples,
        )
        shardings, one = trainer.shardings, whole(trainer.mesh)
        collect = jax.jit(trainer.collect, out_shardings=shardings, donate_argnums=0)
        train_round = jax.jit(trainer.round, out_shardings=(shardings, one), donate_argnums=0)
        return (
            collect.lower(state).compile(),
            train_round.lower(state).compile(),
            jax.jit(evaluator.run, out_shardings=one),
        )

    @cached_property
    def sample(self) -> Any:
        """Draws one batch, for the report's diagnostics."""
        return jax.jit(self.trainer.sample, out_shardings=whole(self.trainer.mesh))

    def _evaluate(self, evaluate: Any, state: TrainState, rounds: int) -> None:
        self.display.phase("evaluate")
        task, mesh, began = self.trainer.task, self.trainer.mesh, time.perf_counter()
        key = evaluation_key(self.trainer.config.seed, rounds)
        for split in task.splits:
            start = evaluation_start(task, key, self.trainer.config.eval_envs, split)
            start = place(start, shared_out(mesh))
            episodes: Episodes = jax.device_get(evaluate(state.agent, key, start))
            scores = episode_metrics(task, episodes)
            if split == "evaluation":
                self.success = scores["success"]
            name = "evaluation" if split == "evaluation" else "evaluation_training_goals"
            self._log(
                rounds, "evaluation", {f"{name}/{key}": value for key, value in scores.items()}
            )
            self.run.write_episodes(split, vars(episodes))
        if rounds > self.trainer.plan.prefill_unrolls:
            batch = jax.device_get(self.sample(state, key))
            self.run.write_episodes("batch", vars(batch))
        self._count("evaluate", time.perf_counter() - began)

    def _save(self, state: TrainState, rounds: int) -> None:
        self.display.phase("checkpoint")
        start = time.perf_counter()
        size = save_state(self.run, rounds, state)
        elapsed = time.perf_counter() - start
        self._count("checkpoint", elapsed)
        self._log(rounds, "checkpoint", {}, megabytes=size / 1e6, seconds=self.seconds)

    def _stop_at_nan(self, rounds: int, metrics: dict[str, float], state: TrainState) -> None:
        bad = first_nonfinite(metrics, state)
        if bad is None:
            return
        last = checkpoint.latest(self.run.checkpoints)
        kept = f"round {last} in {self.run.checkpoints}" if last else "none was written yet"
        steps = rounds * self.trainer.plan.steps_per_unroll
        self._log(rounds, "nonfinite", {}, tensor=bad)
        raise UserError(
            f"{bad} is not finite after {steps} environment steps (round {rounds}): the run stops. "
            f"The last good checkpoint: {kept}. A smaller learning rate or less depth may help."
        )

    def _log(self, rounds: int, event: str, metrics: dict[str, float], **extra: Any) -> None:
        env_steps = rounds * self.trainer.plan.steps_per_unroll
        updates = max(0, rounds - self.trainer.plan.prefill_unrolls)
        updates *= self.trainer.plan.updates_per_unroll
        counts = {"round": rounds, "env_steps": env_steps, "updates": updates}
        self.run.append_event({"event": event, **counts, "metrics": metrics, **extra})
        self.tracker.log(env_steps, metrics)

    def _advance(self, rounds: int, round_seconds: float | None = None) -> None:
        plan = self.trainer.plan
        figures = {}
        if round_seconds:
            figures["env_steps/s"] = plan.steps_per_unroll / round_seconds
            figures["updates/s"] = plan.updates_per_unroll / round_seconds
        figures["success"] = self.success
        total = plan.prefill_unrolls + plan.training_unrolls
        self.display.advance(rounds, total, **figures)

    def _timed(self, part: str, function: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        self._count(part, time.perf_counter() - start)
        return result

    def _count(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds


def save_state(run: RunDirectory, rounds: int, state: TrainState) -> int:
    """Write the checkpoint after `rounds`; returns its size in bytes, 0 where nothing is written.

    Every process must call this.
    """
    agent = fetch(state.agent)
    loop = fetch((state.buffer, state.worlds, state.key, state.unrolls))
    return checkpoint.save(run.checkpoints, rounds, agent, loop) if run.writes else 0


def restore_state(run: RunDirectory, rounds: int, trainer: Trainer) -> TrainState:
    """The state of a checkpoint, on the trainer's devices, whatever devices it was saved from."""
    like = jax.eval_shape(trainer.init)
    loop = (like.buffer, like.worlds, like.key, like.unrolls)
    agent = checkpoint.restore(run.checkpoints, rounds, checkpoint.AGENT, like.agent)
    loop = checkpoint.restore(run.checkpoints, rounds, checkpoint.LOOP, loop)
    return place(TrainState(agent, *loop), trainer.shardings)


def first_nonfinite(metrics: dict[str, float], state: TrainState) -> str | None:
    """The name of the first metric, parameter or world tensor with a NaN or an infinity."""
    checked = (state.worlds, state.agent)  # a broken world breaks the agent, so it is named first
    for (path, _), finite in zip(
        jax.tree_util.tree_flatten_with_path(checked)[0],
        np.asarray(_finite_leaves(checked)),
        strict=True,
    ):
        if not finite:
            return ("worlds", "agent")[path[0].idx] + jax.tree_util.keystr(path[1:])
    return next((name for name, value in metrics.items() if not np.isfinite(value)), None)


@jax.jit
def _finite_leaves(tree: Any) -> jax.Array:
    """Whether each leaf is finite throughout, `[leaves]`."""
    return jax.numpy.stack([jax.numpy.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])
