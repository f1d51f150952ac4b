"""The rounds of a run on the host: compile, prefill, train, evaluate, save, leave when asked."""

import dataclasses
import time
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.background import Background
from kilolayer.runtime.files import shell
from kilolayer.runtime.mesh import fetch, place, shared_out, whole
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.runtime.stopping import Stop, held_back
from kilolayer.training.build import physics_on
from kilolayer.training.divergence import (
    DIVERGED_METRIC,
    LARGEST_SHARE,
    most_forgiven,
    way_out_of_divergence,
)
from kilolayer.training.evaluate import (
    HEADLINE,
    Episodes,
    Evaluator,
    batch_key,
    episode_metrics,
    evaluation_key,
    evaluation_start,
    split_key,
)
from kilolayer.training.members import Member, OnEvaluation
from kilolayer.training.offline import filled_buffer
from kilolayer.training.profile import profile_round
from kilolayer.training.saving import first_nonfinite, restore_state, without_dataset, write_state
from kilolayer.training.seeds import Seeds
from kilolayer.training.standing import standing
from kilolayer.training.starting import StartingPoint, started_from
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import UserError


@dataclass
class Rounds:
    """The host side of one run: counts seconds and hands on what to write; computes nothing itself.

    run: where the loop's state is kept; members: where each seed's traces go. start: what the agent
    begins with, by default drawn from the seed. seconds: what the run
    has spent on each phase, killed processes included up to their last checkpoint. round_seconds:
    the newest round's.
    """

    trainer: Trainer
    seeds: Seeds
    run: RunDirectory
    members: list[Member]
    display: ProgressDisplay
    start: StartingPoint | None = None
    on_evaluation: OnEvaluation | None = None
    background: Background = field(default_factory=Background)
    saving: Future | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    round_seconds: float = 0.0

    def run_all(self, resume_at: int | None) -> None:
        try:
            state = self._resumed(resume_at) if resume_at else self._begun()
            if resume_at is not None:
                for member in self.members:
                    member.run.append_event({"event": "resume", "round": resume_at})
                self._read_times()
            self._train(state)
            self.background.wait()
            for member in self.members:
                member.run.mark_finished()
            self.run.mark_finished()
        finally:
            self.background.close()
            for member in self.members:
                member.tracker.close()
            self.display.close()

    def _read_times(self) -> None:
        """Go on from the times that the killed process has written."""
        for event in self.members[0].run.read_events():
            self.seconds = dict(event.get("seconds", self.seconds))
            self.round_seconds = event.get("round_seconds", self.round_seconds)

    def _begun(self) -> TrainState:
        init = self.seeds.lift(self.trainer.init)
        state = jax.jit(init, out_shardings=self.trainer.shardings)(self.seeds.array())
        if self.start is not None:
            state = started_from(self.start, state, self.trainer, self.seeds)
        return self._with_dataset(state)

    def _resumed(self, rounds: int) -> TrainState:
        return self._with_dataset(restore_state(self.run, rounds, self.trainer, self.seeds))

    def _with_dataset(self, state: TrainState) -> TrainState:
        """The state with the dataset, if there is one, in its buffer."""
        trainer = self.trainer
        if trainer.dataset is None:
            return state
        parts = trainer.config, trainer.task, trainer.dataset, self.display
        buffer = self._timed("dataset", filled_buffer, *parts)
        buffer = self.seeds.stack([buffer] * len(self.seeds.values))
        return dataclasses.replace(state, buffer=place(buffer, trainer.shardings.buffer))

    def _train(self, state: TrainState) -> None:
        """Ctrl-C while this compiles ends the run at once; later, after the round it is in."""
        plan = self.trainer.plan
        self.display.note(plan.describe())
        self.display.phase("compile")
        programs = self._timed("compile", self._compile, state)
        # Several processes would be asked at different rounds, and can only save together.
        alone = jax.process_count() == 1
        with held_back(self.display.note) if alone else nullcontext(Stop()) as stop:
            self._play_rounds(programs, state, stop)

    def _play_rounds(self, programs: tuple[Any, Any, Any], state: TrainState, stop: Stop) -> None:
        collect, train_round, evaluate = programs
        plan = self.trainer.plan
        rounds = int(np.max(state.unrolls))
        due, saved = (
            {plan.prefill_unrolls + count for count in counts}
            for counts in (plan.evaluate_after, plan.save_after)
        )
        if rounds == 0 or (rounds in due and not self._evaluated(rounds)):
            self._evaluate(evaluate, state, rounds)
        while rounds < plan.prefill_unrolls:
            self.display.phase("prefill")
            collected = self._timed("prefill", lambda s: jax.block_until_ready(collect(s)), state)
            state, metrics = collected
            rounds += 1
            self._tell_diverged(rounds, jax.device_get(metrics))
            self._advance(rounds)
            if stop.asked is not None:  # nothing was learnt yet
                raise stop.asked
        while rounds < plan.prefill_unrolls + plan.training_unrolls:
            self.display.phase("train")
            start = time.perf_counter()
            state, metrics = jax.block_until_ready(train_round(state))
            elapsed = time.perf_counter() - start
            rounds += 1
            self._count("train", elapsed)
            self.round_seconds = elapsed
            metrics = jax.device_get(metrics)
            self._stop_at_nan(rounds, metrics, state)
            self._tell_diverged(rounds, metrics)
            self._log(rounds, "train", self.seeds.split(metrics), round_seconds=elapsed)
            self._advance(rounds, elapsed)
            if rounds in due:
                self._evaluate(evaluate, state, rounds)
            if rounds in saved or stop.asked is not None:
                self._save(state, rounds)
            if rounds in due:
                self._tell_scores(rounds)
            if stop.asked is not None:
                self._leave(stop.asked)
        parts = {}
        if self.trainer.config.tracking.profile:
            self.display.phase("profile")
            seconds = self.round_seconds / len(self.members)
            parts = profile_round(self.trainer, self.seeds.first(state), seconds)
        self._log(rounds, "profile", seconds_per_round=parts, seconds=dict(self.seconds))

    def _evaluated(self, rounds: int) -> bool:
        """Whether the evaluation of a resumed run's checkpoint is still in its metrics."""
        return all(
            any((each["event"], each["round"]) == ("evaluation", rounds) for each in events)
            for events in (member.run.read_events() for member in self.members)
        )

    def _compile(self, state: TrainState) -> tuple[Any, Any, Any]:
        config, trainer, lift = self.trainer.config, self.trainer, self.seeds.lift
        evaluator = Evaluator(
            trainer.task,
            physics_on(trainer.mesh, trainer.task.world, config, config.evaluation.eval_envs),
            trainer.agent,
            trainer.task.episode_length,
            config.evaluation.samples,
        )
        shardings, one = trainer.shardings, whole(trainer.mesh)
        collect, train_round = (
            jax.jit(lift(function), out_shardings=(shardings, one), donate_argnums=0)
            for function in (trainer.collect, trainer.round)
        )
        return (
            collect.lower(state).compile() if trainer.plan.prefill_unrolls else None,
            train_round.lower(state).compile(),
            jax.jit(lift(evaluator.run), out_shardings=one),
        )

    @cached_property
    def sample(self) -> Any:
        """Draws one batch, for the report's diagnostics."""
        return jax.jit(self.seeds.lift(self.trainer.sample), out_shardings=whole(self.trainer.mesh))

    def _evaluate(self, evaluate: Any, state: TrainState, rounds: int) -> None:
        """Play the episodes; what they are worth is worked out while training goes on."""
        self.display.phase("evaluate")
        task, mesh, began = self.trainer.task, self.trainer.mesh, time.perf_counter()
        keys = [evaluation_key(seed, rounds) for seed in self.seeds.values]
        config, plan = self.trainer.config, self.trainer.plan
        last = rounds == plan.prefill_unrolls + plan.training_unrolls
        every = config.evaluation.evaluate_training_goals or last
        for split in task.splits if every else task.splits[:1]:
            count = config.evaluation.eval_envs
            own_keys = [split_key(key, split) for key in keys]
            starts = [evaluation_start(task, key, count, split) for key in own_keys]
            start = place(self.seeds.stack(starts), shared_out(mesh))
            played = evaluate(state.acting, self.seeds.stack(own_keys), start)
            episodes: Episodes = jax.device_get(played)
            for member, own in zip(self.members, self.seeds.split(episodes), strict=True):
                self.background.submit(self._score, member, rounds, split, own)
        if rounds > plan.prefill_unrolls:
            key = self.seeds.stack([batch_key(key) for key in keys])
            batch = self.seeds.split(jax.device_get(self.sample(state, key)))
            for member, own in zip(self.members, batch, strict=True):
                self.background.submit(member.run.write_episodes, "batch", vars(own))
        self._count("evaluate", time.perf_counter() - began)

    def _score(self, member: Member, rounds: int, split: str, episodes: Episodes) -> None:
        scores = episode_metrics(self.trainer.task, episodes)
        name = "evaluation"
        if split == "evaluation":
            member.scores = scores
            member.note_score(scores[HEADLINE], rounds)
        else:
            name = "evaluation_training_goals"
        metrics = {f"{name}/{key}": value for key, value in scores.items()}
        member.log(self._counts(rounds), "evaluation", metrics, {})
        member.run.write_episodes(split, vars(episodes))

    def _tell_scores(self, rounds: int) -> None:
        """Hand the newest scores of the first seed to whoever asked for them."""
        if self.on_evaluation is None:
            return
        self.background.wait()
        counts = self._counts(rounds)
        self.on_evaluation(counts["env_steps"] or counts["updates"], self.members[0].scores)

    def _save(self, state: TrainState, rounds: int) -> None:
        """Copy the state to the host; it is written while training goes on."""
        self.display.phase("checkpoint")
        start = time.perf_counter()
        if self.saving is not None:
            self.saving.result()  # two copies at once would be one too many
        copy = fetch(without_dataset(self.trainer, state))
        self._count("checkpoint", time.perf_counter() - start)
        self.saving = self.background.submit(self._write, copy, rounds, dict(self.seconds))

    def _write(self, state: TrainState, rounds: int, seconds: dict[str, float]) -> None:
        size = 0
        keep = self.trainer.config.checkpoints.keep_checkpoints
        for member, own in zip(self.members, self.seeds.split(state.learnt), strict=True):
            if self.seeds.many and member.run.writes:
                size += checkpoint.save(member.run.checkpoints, rounds, own)
        # The seeds' own are written first: what a resume goes by is written last.
        size += write_state(self.run, rounds, state)
        if self.seeds.many and self.run.writes:
            checkpoint.thin(self.run.checkpoints, keep, best=None)
        for member in self.members:
            if member.run.writes:
                checkpoint.thin(member.run.checkpoints, keep, member.best_round())
            extra = {"megabytes": size / 1e6, "seconds": seconds}
            member.log(self._counts(rounds), "checkpoint", {}, extra)

    def _leave(self, asked: KeyboardInterrupt) -> None:
        """End the run once all that is on its way has been written."""
        self.background.wait()
        asked.add_note(f"`kilolayer train --resume {shell(self.run.path)}` goes on")
        raise asked

    def _stop_at_nan(self, rounds: int, metrics: dict[str, Any], state: TrainState) -> None:
        bad = first_nonfinite(metrics, state)
        if bad is None:
            return
        self._log(rounds, "nonfinite", tensor=bad)
        raise UserError(
            f"{bad} is not finite {self._when(rounds)}: the run stops. {self._last_checkpoint()} "
            "A smaller learning rate or less depth may help."
        )

    def _tell_diverged(self, rounds: int, metrics: dict[str, Any]) -> None:
        """Take out of the metrics how often environments diverged in this unroll, and log it where
        some did: in every round it would mostly be the same zero. UserError if too many did."""
        if DIVERGED_METRIC not in metrics:  # a dataset is learnt from
            return
        envs = self.trainer.config.collection.num_envs
        found = [int(count) for count in self.seeds.split(metrics.pop(DIVERGED_METRIC))]
        stops = [count > most_forgiven(envs) for count in found]
        for member, count, stop in zip(self.members, found, stops, strict=True):
            if count > 0:
                metric, extra = {DIVERGED_METRIC: float(count)}, {"stopped": True} if stop else {}
                counts = self._counts(rounds)
                self.background.submit(member.log, counts, "diverged", metric, extra)
        if any(stops):
            count = max(found)
            raise UserError(
                f"task {self.trainer.task.name}: environments diverged {count} times in one unroll "
                f"of {envs} environments ({count / envs:.0%}, more than {LARGEST_SHARE:.0%}) "
                f"{self._when(rounds)}: the run stops. {self._last_checkpoint()} "
                f"{way_out_of_divergence(self.trainer.task)}"
            )

    def _when(self, rounds: int) -> str:
        steps = rounds * self.trainer.plan.steps_per_unroll
        return f"after {steps} environment steps (round {rounds})"

    def _last_checkpoint(self) -> str:
        """A sentence on where to go on from, once all that is on its way has been written."""
        self.background.wait()
        last = checkpoint.latest(self.run.checkpoints)
        kept = f"round {last} in {self.run.checkpoints}" if last else "none was written yet"
        return f"The last good checkpoint: {kept}."

    def _counts(self, rounds: int) -> dict[str, int]:
        updates = max(0, rounds - self.trainer.plan.prefill_unrolls)
        return {
            "round": rounds,
            "env_steps": rounds * self.trainer.plan.steps_per_unroll,
            "updates": updates * self.trainer.plan.updates_per_unroll,
        }

    def _log(
        self, rounds: int, event: str, metrics: list[dict[str, Any]] | None = None, **extra: Any
    ) -> None:
        """An event of every seed, after all that was given to the background before."""
        for member, own in zip(self.members, metrics or [{}] * len(self.members), strict=True):
            values = {name: float(value) for name, value in own.items()}
            self.background.submit(member.log, self._counts(rounds), event, values, extra)

    def _advance(self, rounds: int, round_seconds: float | None = None) -> None:
        plan = self.trainer.plan
        figures = standing(plan, self.members, rounds, round_seconds)
        self.display.advance(rounds, plan.prefill_unrolls + plan.training_unrolls, **figures)

    def _timed(self, part: str, function: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        self._count(part, time.perf_counter() - start)
        return result

    def _count(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds
