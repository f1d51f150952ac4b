"""Records of steps and plans, and their statistics, which take the same memory for any count."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class StepRecord(NamedTuple):
    """A control step.

    late: seconds from the time at which it was due to its start. took: its duration in seconds.
    plan: number of the plan acted on; plan_age: seconds since the measurement from which the plan
    was made; subgoal: index in the plan; all None without a plan. safe: why the safe action was
    sent; None if the controller's action was sent. flaw: the flaw of the observation, if it had
    one. clipped: whether the action was clipped. missed: whether the step ended after the next was
    due. skipped: steps skipped after it because their time had passed.
    """

    tick: int
    late: float
    took: float
    plan: int | None = None
    plan_age: float | None = None
    subgoal: int | None = None
    safe: str | None = None
    flaw: str | None = None
    clipped: bool = False
    missed: bool = False
    skipped: int = 0


class PlanRecord(NamedTuple):
    """An attempt to plan. at: seconds since the loop began. outcome: `made`, `late` (made, but
    slower than the time between two plans), `malformed` or `failed`. error: the cause."""

    number: int
    at: float
    took: float
    outcome: str
    error: str | None = None
    subgoals: list[list[float]] | None = None


@dataclass(frozen=True)
class Spread:
    """A quantity in milliseconds; median and percentile are within 1 %, the largest is exact."""

    median: float
    percentile_99: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median:.2f}, {self.percentile_99:.2f}, {self.largest:.2f}"


class Histogram:
    """Seconds in bins whose edges grow by 2 %, from 1 microsecond to about 1,000 seconds."""

    SMALLEST, RATIO, BINS = 1e-6, 1.02, 1048

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS, np.int64)
        self._log_ratio = math.log(self.RATIO)
        self.count, self.largest = 0, 0.0

    def add(self, seconds: float) -> None:
        place = 0
        if seconds > self.SMALLEST:
            place = 1 + int(math.log(seconds / self.SMALLEST) / self._log_ratio)
        self._counts[min(place, self.BINS - 1)] += 1
        self.count += 1
        self.largest = max(self.largest, seconds)

    def spread(self) -> Spread | None:
        """The spread of all values; None if there are none."""
        if self.count == 0:
            return None
        median, p99 = (1e3 * self._quantile(share) for share in (0.5, 0.99))
        return Spread(median, p99, 1e3 * self.largest)

    def _quantile(self, share: float) -> float:
        place = int(np.searchsorted(np.cumsum(self._counts), share * self.count))
        middle = self.SMALLEST * self.RATIO ** (place - 0.5)
        return 0.0 if place == 0 else min(middle, self.largest)


@dataclass(frozen=True)
class Summary:
    """Summary of a loop: ticks = steps + skipped; each step sent the safe action or the
    controller's.

    rate: requested steps per second. deadline_misses: steps that ended after the next was due.
    safe: steps with the safe action, by reason. flaws: bad observations and clipped actions, by
    kind. plans: attempts by outcome. late, took, plan_age, planning: in ms. stalls: how often the
    controller was later than the watchdog allows; watchdog_actions: safe actions that the watchdog
    sent then. actions: number sent, including the last one. longest_pause: the longest garbage
    collection in ms. records_lost: records for which the disk was too slow. stopped_by: `time`, a
    signal, `stop` or an exception. ended_safely: whether the last action was the safe one.
    first_error: of planner, controller or robot. notes: settings that the system did not permit.
    """

    rate: float
    ticks: int
    steps: int
    skipped: int
    deadline_misses: int
    safe: dict[str, int]
    flaws: dict[str, int]
    plans: dict[str, int]
    late: Spread | None
    took: Spread | None
    plan_age: Spread | None
    planning: Spread | None
    stalls: int
    watchdog_actions: int
    actions: int
    longest_pause: float
    records_lost: int
    stopped_by: str
    ended_safely: bool
    first_error: str | None
    notes: tuple[str, ...]


class Tally:
    """Counts of all records; its memory is fixed."""

    def __init__(self) -> None:
        self.steps = self.skipped = self.misses = 0
        self.safe: Counter[str] = Counter()
        self.flaws: Counter[str] = Counter()
        self.plans: Counter[str] = Counter()
        self.late, self.took = Histogram(), Histogram()
        self.plan_age, self.planning = Histogram(), Histogram()

    def step(self, record: StepRecord) -> None:
        self.steps += 1
        self.skipped += record.skipped
        self.misses += record.missed
        if record.safe is not None:
            self.safe[record.safe] += 1
        if record.flaw is not None:
            self.flaws[record.flaw] += 1
        if record.clipped:
            self.flaws["action clipped"] += 1
        self.late.add(record.late)
        self.took.add(record.took)
        if record.plan_age is not None:
            self.plan_age.add(record.plan_age)

    def plan(self, record: PlanRecord) -> None:
        self.plans[record.outcome] += 1
        self.planning.add(record.took)

    def summary(self, **others: Any) -> Summary:
        """others: the fields of `Summary` that are not counted here."""
        return Summary(
            ticks=self.steps + self.skipped,
            steps=self.steps,
            skipped=self.skipped,
            deadline_misses=self.misses,
            safe=dict(self.safe),
            flaws=dict(self.flaws),
            plans=dict(self.plans),
            late=self.late.spread(),
            took=self.took.spread(),
            plan_age=self.plan_age.spread(),
            planning=self.planning.spread(),
            **others,
        )
