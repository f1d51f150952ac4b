"""What a control loop leaves behind: a line for every step and plan, and what they add up to."""

import dataclasses
import json
import queue
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kilolayer.runtime.progress import ProgressDisplay, Silent
from kilolayer.types import UserError

# Seconds between two writes, and between two signs of life.
WRITE_EVERY = 0.5


class StepRecord(NamedTuple):
    """A control step. late: seconds between the time that it was due and its begin. took: its own
    seconds. plan: the number of the plan acted on, plan_age in seconds since what it was made from
    was sensed, and subgoal in it; None where there was none. safe: why the safe action was taken,
    None where the controller acted. missed: whether it ended after the next step was due. skipped:
    steps that were left out behind it, for their time had passed."""

    tick: int
    late: float
    took: float
    plan: int | None = None
    plan_age: float | None = None
    subgoal: int | None = None
    safe: str | None = None
    missed: bool = False
    skipped: int = 0


class PlanRecord(NamedTuple):
    """An attempt to plan. at: seconds since the loop began. outcome: `made`, `late` (made, but took
    longer than there is between two plans), `malformed` or `failed`. error: what was wrong."""

    number: int
    at: float
    took: float
    outcome: str
    error: str | None = None
    subgoals: list[list[float]] | None = None


@dataclass(frozen=True)
class Spread:
    """Of a quantity in milliseconds."""

    median: float
    percentile_99: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median:.2f}, {self.percentile_99:.2f}, {self.largest:.2f}"

    @staticmethod
    def of(seconds: list[float]) -> "Spread | None":
        """None where there was nothing to measure."""
        if not seconds:
            return None
        values = 1e3 * np.array(seconds)
        return Spread(*(float(value) for value in np.quantile(values, (0.5, 0.99, 1.0))))


@dataclass(frozen=True)
class Summary:
    """What happened: ticks = steps + skipped, each step safe or the controller's.

    deadline_misses: steps that ended after the next was due. safe: steps with the safe action, by
    reason. plans: attempts by outcome. late, took, plan_age: of the steps, in ms. first_error: of
    planner, controller or robot. rate: steps a second that were asked for.
    """

    rate: float
    ticks: int
    steps: int
    skipped: int
    deadline_misses: int
    safe: dict[str, int]
    plans: dict[str, int]
    late: Spread | None
    took: Spread | None
    plan_age: Spread | None
    planning: Spread | None
    first_error: str | None

    @staticmethod
    def of(
        rate: float,
        steps: list[StepRecord],
        plans: list[PlanRecord],
        first_error: str | None,
    ) -> "Summary":
        skipped = sum(step.skipped for step in steps)
        return Summary(
            rate=rate,
            ticks=len(steps) + skipped,
            steps=len(steps),
            skipped=skipped,
            deadline_misses=sum(step.missed for step in steps),
            safe=dict(Counter(step.safe for step in steps if step.safe is not None)),
            plans=dict(Counter(plan.outcome for plan in plans)),
            late=Spread.of([step.late for step in steps]),
            took=Spread.of([step.took for step in steps]),
            plan_age=Spread.of([step.plan_age for step in steps if step.plan_age is not None]),
            planning=Spread.of([plan.took for plan in plans]),
            first_error=first_error,
        )


class ControlLog:
    """Keeps records, and writes them as JSON lines from a thread of its own: whoever adds one never
    waits for the disk. A step is `{"event": "step", ...}`, a plan `{"event": "plan", ...}`."""

    def __init__(
        self, path: Path | None = None, ticks: int = 0, display: ProgressDisplay | None = None
    ):
        self.steps: list[StepRecord] = []
        self.plans: list[PlanRecord] = []
        self.first_error: str | None = None
        self._misses = self._safe = 0
        self._errors: set[str] = set()
        self._ticks, self._display = ticks, display or Silent()
        self._lines: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write, name="control log", daemon=True)
        try:
            self._file = None if path is None else path.open("w")
        except OSError as error:
            raise UserError(f"cannot write the log {path}: {error.strerror}.") from error

    def step(self, record: StepRecord) -> None:
        self.steps.append(record)
        self._misses += record.missed
        self._safe += record.safe is not None
        self._lines.put(("step", record))

    def plan(self, record: PlanRecord) -> None:
        self.plans.append(record)
        self._lines.put(("plan", record))

    def error(self, what: str) -> None:
        """An exception that was caught, as its traceback: written once, and the first is told."""
        self.first_error = self.first_error or what.strip().splitlines()[-1]
        if what in self._errors:
            return
        self._errors.add(what)
        self._lines.put(("error", {"error": what}))

    def open(self) -> None:
        self._writer.start()

    def summary(self, rate: float) -> Summary:
        return Summary.of(rate, self.steps, self.plans, self.first_error)

    def close(self, summary: Summary) -> None:
        """Write what is left, and the summary as the last line, `{"event": "summary", ...}`."""
        self._stop.set()
        self._writer.join()
        self._lines.put(("summary", dataclasses.asdict(summary)))
        self._drain()
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        while not self._stop.wait(WRITE_EVERY):
            self._drain()
            if self.steps and self._ticks:
                done = min(self.steps[-1].tick + 1, self._ticks)
                figures = {"misses": self._misses, "safe_actions": self._safe}
                self._display.advance(done, self._ticks, **figures)

    def _drain(self) -> None:
        while not self._lines.empty():
            event, record = self._lines.get()
            if self._file is None:
                continue
            fields = record if isinstance(record, dict) else record._asdict()
            rounded = {name: _short(value) for name, value in fields.items()}
            self._file.write(json.dumps({"event": event, **rounded}) + "\n")


def _short(value: Any) -> Any:
    """Microseconds are enough."""
    return round(value, 6) if isinstance(value, float) else value
