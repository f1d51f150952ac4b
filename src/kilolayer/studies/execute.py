"""Finish the runs of a study: several at a time, with restarts of interrupted runs.

A run that ends early is resumed. A run fails when it ends twice in a row without a new checkpoint.
Therefore a run of several days continues after every time limit of its queue.
"""

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from kilolayer.analysis.study import Study, StudyRun, load_study
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.files import write_atomically
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.studies.executors import Executor, Job

ATTEMPTS = 2  # without progress
POLL_SECONDS = 1.0
LOG_LINES = 40  # of a run's output, in its failure file


@dataclass
class Execution:
    """The state of one pass over a study.

    attempts: starts of each run since its last progress. updates_at_start: updates in the run's
    newest checkpoint at its last start.
    """

    study: Study
    executor: Executor
    display: ProgressDisplay
    waiting: deque[StudyRun]
    running: dict[str, tuple[StudyRun, Job]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    updates_at_start: dict[str, int] = field(default_factory=dict)
    failed: int = 0

    def run_all(self) -> None:
        """Return when every run has finished or failed; stop all running jobs on an interrupt."""
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.executor.jobs:
                    self._start(self.waiting.popleft())
                self._show_progress()
                time.sleep(POLL_SECONDS)
                for name, (run, job) in list(self.running.items()):
                    code = job.poll()
                    if code is not None:
                        del self.running[name]
                        self._handle_exit(run, code)
            self._show_progress()
        finally:
            for _, job in self.running.values():
                job.stop()

    def _start(self, run: StudyRun) -> None:
        self.attempts[run.name] = self.attempts.get(run.name, 0) + 1
        self.updates_at_start[run.name] = checkpointed_updates(run)
        # Absolute, since a remote worker starts in another folder.
        command = worker_command(self.study.path.resolve(), run.name)
        self.running[run.name] = (run, self.executor.start(command, self._log_path(run)))

    def _handle_exit(self, run: StudyRun, code: int) -> None:
        if is_finished(run):
            return
        if checkpointed_updates(run) > self.updates_at_start[run.name]:
            self.attempts[run.name] = 0
        if self.attempts[run.name] < ATTEMPTS:
            self.display.note(f"{run.name} ended with exit code {code} and is resumed")
            self.waiting.appendleft(run)
            return
        log, output = self._log_path(run), "none: the job ended before its command began"
        if log.exists():  # a remote job may be cancelled before it opens the file
            output = log.read_text(encoding="utf-8", errors="replace")
        failure = self.study.path / "failures" / f"{run.name}.txt"
        failure.parent.mkdir(exist_ok=True)
        reason = (
            f"{run.name} failed {ATTEMPTS} times without progress, the last time with exit code "
            f"{code}. The end of its output:"
        )
        lines = [reason, "", *output.splitlines()[-LOG_LINES:]]
        write_atomically(failure, "\n".join(lines) + "\n")
        self.failed += 1
        self.display.note(f"{run.name} failed twice: see {failure}")

    def _log_path(self, run: StudyRun) -> Path:
        folder = self.study.path.resolve() / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{run.name}.txt"

    def _show_progress(self) -> None:
        total = len(self.study.runs)
        ended = total - len(self.waiting) - len(self.running)
        partial = sum(progress_share(run) for run, _ in self.running.values())
        self.display.advance(
            round(100 * (ended + partial)),
            100 * total,
            finished=ended - self.failed,
            running=len(self.running),
            failed=self.failed,
        )


def execute(path: Path, executor: Executor, display: ProgressDisplay) -> None:
    """Finish every run of a study; runs that failed in an earlier pass are tried again."""
    for failure in (path / "failures").glob("*.txt"):
        failure.unlink()
    study = load_study(path)
    waiting = deque(run for run in study.runs if not is_finished(run))
    display.phase("study")
    Execution(study, executor, display, waiting).run_all()


def worker_command(study: Path, name: str) -> list[str]:
    """The command that finishes one run of a study, on any machine."""
    return [sys.executable, "-m", "kilolayer.studies.worker", str(study), name]


def checkpointed_updates(run: StudyRun) -> int:
    """Updates in the newest checkpoint, 0 before the first."""
    events = RunDirectory(run.path).read_events()
    saved = [event.get("updates", 0) for event in events if event["event"] == "checkpoint"]
    return max(saved, default=0)


def is_finished(run: StudyRun) -> bool:
    return RunDirectory(run.path).finished


def progress_share(run: StudyRun) -> float:
    """Share of a run's environment steps that are logged, 0 to 1.

    The largest count, since some events, such as a resume, have none."""
    events = RunDirectory(run.path).read_events()
    steps = max((event.get("env_steps", 0) for event in events), default=0)
    return min(1.0, steps / run.planned_config.collection.total_steps)
