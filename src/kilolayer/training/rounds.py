"""The training loop on the host: compile, prefill, train, evaluate, save, end on a signal."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.background import Background
from kilolayer.runtime.files import shell_quoted
from kilolayer.runtime.mesh import data_sharded, fetch_to_host, put_on_devices
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.runtime.stopping import StopRequest, defer_signals
from kilolayer.training.evaluate import (
    HEADLINE,
    Episodes,
    batch_key,
    episode_metrics,
    evaluation_key,
    evaluation_start,
    split_key,
)
from kilolayer.training.offline import buffer_from_dataset
from kilolayer.training.programs import Programs, profile_round, programs_of
from kilolayer.training.rollout import (
    DIVERGED_METRIC,
    MAX_DIVERGED_SHARE,
    divergence_remedy,
    max_divergences,
)
from kilolayer.training.saving import first_nonfinite, restore_state, without_dataset, write_state
from kilolayer.training.seeds import Member, OnEvaluation, Seeds, display_figures
from kilolayer.training.starting import StartingPoint, apply_starting_point
from kilolayer.training.step import Trainer, TrainState


@dataclass
class TrainingLoop:
    """The host side of one run: runs compiled programs, measures times and writes results.

    run: the directory of the loop's state; members: the directories and trackers of each seed.
    start: the initial agent; None: drawn from the seed. seconds: total duration of each phase,
    including that of killed processes up to their last checkpoint. round_seconds: duration of the
    newest round.
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
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    round_seconds: float = 0.0

    def execute(self, resume_at: int | None) -> None:
        """Train to the end of the schedule. resume_at: a checkpoint's round, 0: none; None: new."""
        try:
            state = self._with_dataset(
                restore_state(self.run, resume_at, self.trainer, self.seeds)
                if resume_at
                else self._initial_state()
            )
            if resume_at is not None:
                for member in self.members:
                    member.run.append_event({"event": "resume", "round": resume_at})
                self._read_times()
                self._tell_gaps(resume_at)
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

    def _tell_gaps(self, resume_at: int) -> None:
        """Tell of a metrics file that was damaged: what it lacks is missing in the curves."""
        expected = range(self.trainer.schedule.prefill_unrolls + 1, resume_at + 1)
        for member in self.members:
            trained = {e["round"] for e in member.run.read_events() if e["event"] == "train"}
            lacking = len(set(expected) - trained)
            if lacking and member.run.writes:
                self.display.note(
                    f"{member.run.path / 'metrics.jsonl'} lacks {lacking} of the {len(expected)} "
                    "rounds before the checkpoint: it was damaged, and the curves have a gap."
                )

    def _read_times(self) -> None:
        """Read the times that the killed process has logged."""
        for event in self.members[0].run.read_events():
            self.seconds |= event.get("seconds", {})
            self.round_seconds = event.get("round_seconds", self.round_seconds)

    def _initial_state(self) -> TrainState:
        state = self.programs.init(self.seeds.array())
        if self.start is not None:
            state = apply_starting_point(self.start, state, self.trainer, self.seeds)
        return state

    def _with_dataset(self, state: TrainState) -> TrainState:
        """The state with the dataset, if there is one, as its buffer."""
        trainer = self.trainer
        if trainer.dataset is None:
            return state
        with self._phase("dataset"):
            buffer = buffer_from_dataset(
                trainer.config, trainer.task, trainer.dataset, self.display
            )
        buffer = self.seeds.stack([buffer] * len(self.seeds.values))
        return dataclasses.replace(state, buffer=put_on_devices(buffer, trainer.shardings.buffer))

    def _train(self, state: TrainState) -> None:
        """Compile, then run all rounds. Ctrl-C ends compilation at once, and a round at its end."""
        schedule = self.trainer.schedule
        self.display.note(schedule.describe())
        programs = self.programs
        with self._phase("compile"):
            prefills = schedule.prefill_unrolls > 0
            collect = programs.collect.lower(state).compile() if prefills else None
            train_round = programs.train_round.lower(state).compile()
        # Several processes would get the signal in different rounds, but they must save together.
        single = jax.process_count() == 1
        with defer_signals(self.display.note) if single else nullcontext(StopRequest()) as stop:
            self._run_rounds(collect, train_round, state, stop)

    def _run_rounds(
        self, collect: Any, train_round: Any, state: TrainState, stop: StopRequest
    ) -> None:
        schedule = self.trainer.schedule
        rounds = int(np.max(state.unrolls))
        due, saved = (
            {schedule.prefill_unrolls + count for count in counts}
            for counts in (schedule.evaluate_after, schedule.save_after)
        )
        if rounds == 0 or (rounds in due and not self._has_evaluation(rounds)):
            self._evaluate(state, rounds)
        while rounds < schedule.prefill_unrolls:
            with self._phase("prefill"):
                state, metrics = jax.block_until_ready(collect(state))
            rounds += 1
            self._check_divergence(rounds, jax.device_get(metrics))
            self._update_display(rounds)
            if stop.interrupt is not None:  # there is nothing to save yet
                raise stop.interrupt
        while rounds < schedule.rounds:
            self.display.phase("train")
            start = time.perf_counter()
            state, metrics = jax.block_until_ready(train_round(state))
            elapsed = time.perf_counter() - start
            rounds += 1
            self.seconds["train"] += elapsed
            self.round_seconds = elapsed
            metrics = jax.device_get(metrics)
            self._require_finite(rounds, metrics, state)
            self._check_divergence(rounds, metrics)
            self._log(rounds, "train", self.seeds.split(metrics), round_seconds=elapsed)
            self._update_display(rounds, elapsed)
            if rounds in due:
                self._evaluate(state, rounds)
            if rounds in saved or stop.interrupt is not None:
                self._save(state, rounds)
            if rounds in due:
                self._call_on_evaluation(rounds)
            if stop.interrupt is not None:
                self._end_on_signal(stop.interrupt)
        parts = {}
        if self.trainer.config.tracking.profile:
            self.display.phase("profile")
            seconds = self.round_seconds / len(self.members)
            parts = profile_round(self.programs.timed_parts, self.seeds.first(state), seconds)
        self._log(rounds, "profile", seconds_per_round=parts, seconds=dict(self.seconds))

    def _has_evaluation(self, rounds: int) -> bool:
        """Whether the metrics of all seeds contain the evaluation after this round."""
        return all(
            any((each["event"], each["round"]) == ("evaluation", rounds) for each in events)
            for events in (member.run.read_events() for member in self.members)
        )

    @cached_property
    def programs(self) -> Programs:
        return programs_of(self.trainer, self.seeds)

    def _evaluate(self, state: TrainState, rounds: int) -> None:
        """Play the episodes; their scores are computed in the background."""
        task, mesh = self.trainer.task, self.trainer.mesh
        keys = [evaluation_key(seed, rounds) for seed in self.seeds.values]
        config, schedule = self.trainer.config, self.trainer.schedule
        last = rounds == schedule.rounds
        all_splits = config.evaluation.evaluate_training_goals or last
        with self._phase("evaluate"):
            for split in task.splits if all_splits else task.splits[:1]:
                count = config.evaluation.eval_envs
                own_keys = [split_key(key, split) for key in keys]
                starts = [evaluation_start(task, key, count, split) for key in own_keys]
                start = put_on_devices(self.seeds.stack(starts), data_sharded(mesh))
                played = self.programs.evaluate(state.evaluated, self.seeds.stack(own_keys), start)
                episodes: Episodes = jax.device_get(played)
                for member, own in zip(self.members, self.seeds.split(episodes), strict=True):
                    self.background.submit(self._score, member, rounds, split, own)
            if rounds > schedule.prefill_unrolls:
                key = self.seeds.stack([batch_key(key) for key in keys])
                batch = self.seeds.split(jax.device_get(self.programs.sample(state, key)))
                for member, own in zip(self.members, batch, strict=True):
                    self.background.submit(member.run.write_episodes, "batch", vars(own))

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

    def _call_on_evaluation(self, rounds: int) -> None:
        """Call `on_evaluation` with the newest scores of the first seed."""
        if self.on_evaluation is None:
            return
        self.background.wait()
        counts = self._counts(rounds)
        self.on_evaluation(counts["env_steps"] or counts["updates"], self.members[0].scores)

    def _save(self, state: TrainState, rounds: int) -> None:
        """Copy the state to the host; the background thread writes it."""
        with self._phase("checkpoint"):
            if self.saving is not None:
                self.saving.result()  # only one copy fits into memory
            copy = fetch_to_host(without_dataset(self.trainer, state))
        self.saving = self.background.submit(
            self._write_checkpoint, copy, rounds, dict(self.seconds)
        )

    def _write_checkpoint(self, state: TrainState, rounds: int, seconds: dict[str, float]) -> None:
        size = 0
        keep = self.trainer.config.checkpoints.keep_checkpoints
        for member, own in zip(self.members, self.seeds.split(state.checkpointed), strict=True):
            if self.seeds.several and member.run.writes:
                size += checkpoint.save(member.run.checkpoints, rounds, own)
        # A resume needs the checkpoint of the whole run, so it is written last.
        size += write_state(self.run, rounds, state)
        if self.seeds.several and self.run.writes:
            checkpoint.remove_old(self.run.checkpoints, keep, best=None)
        for member in self.members:
            if member.run.writes:
                checkpoint.remove_old(member.run.checkpoints, keep, member.best_round())
            extra = {"megabytes": size / 1e6, "seconds": seconds}
            member.log(self._counts(rounds), "checkpoint", {}, extra)

    def _end_on_signal(self, interrupt: KeyboardInterrupt) -> None:
        """End the run after all pending writes."""
        self.background.wait()
        interrupt.add_note(f"`kilolayer train --resume {shell_quoted(self.run.path)}` goes on")
        raise interrupt

    def _require_finite(self, rounds: int, metrics: dict[str, Any], state: TrainState) -> None:
        bad = first_nonfinite(metrics, state)
        if bad is None:
            return
        self._log(rounds, "nonfinite", tensor=bad)
        raise UserError(
            f"{bad} is not finite {self._progress(rounds)}: the run stops. "
            f"{self._last_checkpoint()} A smaller learning rate or less depth may help."
        )

    def _check_divergence(self, rounds: int, metrics: dict[str, Any]) -> None:
        """Remove the number of divergences from the metrics and log it if it is not 0.

        Raises UserError if it exceeds `max_divergences`.
        """
        if DIVERGED_METRIC not in metrics:  # with a dataset
            return
        envs = self.trainer.config.collection.num_envs
        divergences = [int(count) for count in self.seeds.split(metrics.pop(DIVERGED_METRIC))]
        exceeded = [count > max_divergences(envs) for count in divergences]
        for member, count, stop in zip(self.members, divergences, exceeded, strict=True):
            if count > 0:
                metric, extra = {DIVERGED_METRIC: float(count)}, {"stopped": True} if stop else {}
                counts = self._counts(rounds)
                self.background.submit(member.log, counts, "diverged", metric, extra)
        if any(exceeded):
            count = max(divergences)
            raise UserError(
                f"task {self.trainer.task.name}: environments diverged {count} times in one unroll "
                f"of {envs} environments ({count / envs:.0%}, more than {MAX_DIVERGED_SHARE:.0%}) "
                f"{self._progress(rounds)}: the run stops. {self._last_checkpoint()} "
                f"{divergence_remedy(self.trainer.task)}"
            )

    def _progress(self, rounds: int) -> str:
        counts = self._counts(rounds)
        done = f"{counts['env_steps']} environment steps"
        if self.trainer.dataset is not None:
            done = f"{counts['updates']} updates"
        return f"after {done} (round {rounds})"

    def _last_checkpoint(self) -> str:
        """A sentence that names the last checkpoint, after all pending writes."""
        self.background.wait()
        last = checkpoint.latest(self.run.checkpoints)
        where = f"round {last} in {self.run.checkpoints}" if last else "none was written yet"
        return f"The last good checkpoint: {where}."

    def _counts(self, rounds: int) -> dict[str, int]:
        updates = max(0, rounds - self.trainer.schedule.prefill_unrolls)
        return {
            "round": rounds,
            "env_steps": rounds * self.trainer.schedule.steps_per_unroll,
            "updates": updates * self.trainer.schedule.updates_per_unroll,
        }

    def _log(
        self, rounds: int, event: str, metrics: list[dict[str, Any]] | None = None, **extra: Any
    ) -> None:
        """Log an event of every seed in the background."""
        for member, own in zip(self.members, metrics or [{}] * len(self.members), strict=True):
            values = {name: float(value) for name, value in own.items()}
            self.background.submit(member.log, self._counts(rounds), event, values, extra)

    def _update_display(self, rounds: int, round_seconds: float | None = None) -> None:
        schedule = self.trainer.schedule
        figures = display_figures(schedule, self.members, rounds, round_seconds)
        self.display.advance(rounds, schedule.rounds, **figures)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Show the phase, and add the time that it takes to `seconds`."""
        self.display.phase(name)
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start
