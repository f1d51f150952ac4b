"""The life of a run on the host: compile, prefill, rounds, evaluations, checkpoints, resume."""

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.agents.build import build_agent
from kilolayer.config import TrainConfig
from kilolayer.physics.build import build_physics
from kilolayer.plan import TrainPlan
from kilolayer.runtime import checkpoint
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.runtime.run_dir import RunDirectory
from kilolayer.runtime.tracking import Tracker, build_tracker
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
from kilolayer.types import UserError


def build_trainer(config: TrainConfig) -> Trainer:
    """Everything that the config describes; raises UserError before anything compiles."""
    task = task_of(config)
    plan = TrainPlan.derive(config, task.episode_length, jax.default_backend())
    physics = build_physics(task.world, config.num_envs, config.physics, config.mjx_impl)
    return Trainer(config, plan, task, physics, build_agent(config, plan, task))


def start_run(config: TrainConfig, directory: Path, display: ProgressDisplay) -> RunDirectory:
    """Train from the beginning in a new run directory; returns when the run has finished."""
    trainer = build_trainer(config)
    run = RunDirectory.create(directory, config, describe_run(config.seed))
    _Loop(trainer, run, display, build_tracker(run.path, config, None)).run_all(resume_at=None)
    return run


def resume_run(directory: Path, display: ProgressDisplay) -> RunDirectory:
    """Continue a killed run at its newest checkpoint; the result is the same, bit for bit."""
    run = RunDirectory.open(directory)
    if run.finished:
        raise UserError(
            f"the run in {directory} has finished: there is nothing to resume. "
            f"`kilolayer report {directory}` shows it."
        )
    trainer = build_trainer(run.config)
    resume_at = checkpoint.latest(run.checkpoints)
    steps = (resume_at or 0) * trainer.plan.steps_per_unroll
    loop = _Loop(trainer, run, display, build_tracker(run.path, run.config, steps))
    loop.run_all(resume_at=resume_at if resume_at is not None else 0)
    return run


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
            state = self._restore(resume_at) if resume_at else jax.jit(self.trainer.init)()
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
            build_physics(trainer.task.world, config.eval_envs, config.physics, config.mjx_impl),
            trainer.agent,
            trainer.task.episode_length,
            config.samples,
        )
        collect = jax.jit(trainer.collect, donate_argnums=0).lower(state).compile()
        train_round = jax.jit(trainer.round, donate_argnums=0).lower(state).compile()
        return collect, train_round, jax.jit(evaluator.run)

    @cached_property
    def sample(self) -> Any:
        """Draws one batch, for the report's diagnostics."""
        return jax.jit(self.trainer.sample)

    def _evaluate(self, evaluate: Any, state: TrainState, rounds: int) -> None:
        self.display.phase("evaluate")
        task, began = self.trainer.task, time.perf_counter()
        key = evaluation_key(self.trainer.config.seed, rounds)
        for split in task.splits:
            start = evaluation_start(task, key, self.trainer.config.eval_envs, split)
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
        loop = (state.buffer, state.worlds, state.key, state.unrolls)
        size = checkpoint.save(self.run.checkpoints, rounds, state.agent, loop)
        elapsed = time.perf_counter() - start
        self._count("checkpoint", elapsed)
        self._log(rounds, "checkpoint", {}, megabytes=size / 1e6, seconds=self.seconds)

    def _restore(self, rounds: int) -> TrainState:
        like = jax.eval_shape(self.trainer.init)
        loop = (like.buffer, like.worlds, like.key, like.unrolls)
        root = self.run.checkpoints
        agent = checkpoint.restore(root, rounds, checkpoint.AGENT, like.agent)
        loop = checkpoint.restore(root, rounds, checkpoint.LOOP, loop)
        return jax.tree.map(jax.numpy.asarray, TrainState(agent, *loop))

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


def first_nonfinite(metrics: dict[str, float], state: TrainState) -> str | None:
    """The name of the first metric, parameter or world tensor with a NaN or an infinity."""
    checked = (state.worlds, state.agent)  # a broken world breaks the agent, so it is named first
    finite = all(np.isfinite(value) for value in metrics.values())
    if finite and bool(_all_finite(checked)):
        return None
    for path, leaf in jax.tree_util.tree_flatten_with_path(checked)[0]:
        if not np.isfinite(np.asarray(leaf)).all():
            return ("worlds", "agent")[path[0].idx] + jax.tree_util.keystr(path[1:])
    return next(name for name, value in metrics.items() if not np.isfinite(value))


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    leaves = [jax.numpy.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jax.numpy.stack(leaves).all()
