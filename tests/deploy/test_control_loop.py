"""The control loop under faults that are injected, with counts computed by hand."""

import gc
import json
import math
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError
from kilolayer_robot.log import ControlLog
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.planning import Pursuit, validated_subgoals
from kilolayer_robot.realtime import controlled_gc
from kilolayer_robot.records import Histogram, Spread
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Timing, WallClock

CARD = Card.plain(observation=3, goal=2, action=2, radius=0.1)
# Exact in binary, so that multiples are exact too.
PERIOD = 0.125
TICKS = 100


class FakeClock:
    """Stands still but for `sleep_until` and `pass_`."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, instant: float) -> None:
        self.time = max(self.time, instant)

    def pass_(self, seconds: float) -> None:
        self.time += seconds


class FakeRobot:
    """Observes what `sense` returns and records the sent actions."""

    def __init__(self, sense: Callable[[], Any] | None = None):
        self.sense = sense or (lambda: sensed())
        self.actions: list[np.ndarray] = []

    def observe(self) -> Sensed:
        return self.sense()

    def act(self, action: np.ndarray) -> None:
        self.actions.append(np.asarray(action))

    def safe_action(self) -> np.ndarray:
        return np.zeros(2)


class SafeRobot(FakeRobot):
    def safe_action(self) -> np.ndarray:
        return np.array([-0.5, -0.5])


def sensed(errand: int = 0, place: float = 0.0) -> Sensed:
    return Sensed(np.zeros(3), np.full(2, place), np.full(2, 9.0), errand)


def two_subgoals(_: Sensed) -> np.ndarray:
    return np.array([[1.0, 1.0], [2.0, 2.0]])


def toward(_: np.ndarray, subgoal: np.ndarray) -> np.ndarray:
    """An action that encodes its subgoal."""
    return subgoal / 10


def near(achieved_goal: np.ndarray, subgoal: np.ndarray) -> bool:
    return bool(np.abs(achieved_goal - subgoal).max() < 0.1)


def make_loop(robot=None, planner=two_subgoals, controller=toward, **others) -> ControlLoop:
    timing = Timing(rate=1 / PERIOD, plan_rate=2.0, plan_limit=1.0)
    others = {"clock": FakeClock(), "timing": timing, "pursuit": Pursuit(20, 2, 2, 50)} | others
    return ControlLoop(robot or FakeRobot(), CARD, controller, planner, reached=near, **others)


def run_steps(loop: ControlLoop, count: int, first: int = 0) -> list[str | None]:
    """Steps that are due when they begin; reason each was safe, None where the controller acted."""
    for tick in range(first, first + count):
        loop.clock.sleep_until(tick * PERIOD)
        loop.control_step(tick, tick * PERIOD, TICKS)
    return [step.safe for step in list(loop.log.steps)[-count:]]


def test_plan_subgoals_are_pursued_in_order() -> None:
    places = iter([0.0, 0.5, 1.0, 1.5, 2.0, 2.0])
    robot = FakeRobot(lambda: sensed(place=next(places)))
    loop = make_loop(robot)
    assert run_steps(loop, 1) == ["no plan"]
    loop.plans.plan_once()
    assert run_steps(loop, 5, first=1) == [None] * 5
    sent = [action[0] for action in robot.actions]
    # Held in safety, then the first subgoal until it is reached, then the last.
    np.testing.assert_allclose(sent, [0, 0.1, 0.2, 0.2, 0.2, 0.2])
    assert [step.subgoal for step in loop.log.steps] == [None, 0, 1, 1, 1, 1]


def test_next_subgoal_follows_after_patience() -> None:
    loop = make_loop(pursuit=Pursuit(20, 2, 2, patience=3))
    run_steps(loop, 1)
    loop.plans.plan_once()
    run_steps(loop, 5, first=1)
    assert [step.subgoal for step in list(loop.log.steps)[1:]] == [0, 0, 0, 1, 1]


def test_goal_is_pursued_within_its_radius() -> None:
    robot = FakeRobot(lambda: sensed(place=9.05))
    loop = make_loop(robot)
    run_steps(loop, 1)
    loop.plans.plan_once()
    run_steps(loop, 1, first=1)
    np.testing.assert_allclose(robot.actions[-1], 0.9)


def test_old_plan_is_used_until_its_limit_then_the_safe_action() -> None:
    robot = SafeRobot()
    loop = make_loop(robot)
    run_steps(loop, 1)
    loop.plans.plan_once()
    # Made from what was sensed at 0 s and young enough until 1 s: ticks 1 to 8 of 1/8 s.
    assert run_steps(loop, 10, first=1) == [None] * 8 + ["old plan"] * 2
    np.testing.assert_allclose(robot.actions[-1], [-0.5, -0.5])
    episode_steps = [step.plan_age for step in list(loop.log.steps)[1:]]
    assert episode_steps == [tick * PERIOD for tick in range(1, 11)]
    loop.plans.plan_once()
    assert run_steps(loop, 1, first=11) == [None]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\) in place of \[chunk, 2\]"),
        (np.zeros(2), r"shape \(2,\)"),
        (np.zeros((0, 2)), "no subgoals"),
        (np.array([[0.0, np.nan]]), "not finite"),
        (None, "not an array of numbers"),
        ([[1.0, 2.0], [3.0]], "not an array of numbers"),
        ("left", "not an array of numbers"),
    ],
)
def test_malformed_plan_is_counted_and_the_previous_kept(found, reason) -> None:
    plans = iter([two_subgoals(sensed()), found])
    loop = make_loop(planner=lambda _: next(plans))
    run_steps(loop, 1)
    loop.plans.plan_once()
    loop.plans.plan_once()
    assert run_steps(loop, 1, first=1) == [None]
    assert loop.log.steps[-1].plan == 0
    assert [plan.outcome for plan in loop.log.plans] == ["made", "malformed"]
    assert re.search(reason, str(loop.log.plans[1].error))


def test_plans_are_immutable() -> None:
    mine = two_subgoals(sensed())
    subgoals, _ = validated_subgoals(mine, 2)
    assert subgoals is not None
    mine[:] = 7
    np.testing.assert_array_equal(subgoals, two_subgoals(sensed()))
    with pytest.raises(ValueError, match="read-only"):
        subgoals[0] = 0


def test_late_plan_is_counted_and_used_with_its_age() -> None:
    clock = FakeClock()

    def slow(_: Sensed) -> np.ndarray:
        clock.pass_(0.75)  # there is half a second between two plans
        return two_subgoals(sensed())

    loop = make_loop(planner=slow, clock=clock)
    run_steps(loop, 1)
    loop.plans.plan_once()
    assert run_steps(loop, 1, first=6) == [None]
    assert loop.log.steps[-1].plan_age == 0.75
    assert [(plan.outcome, plan.took) for plan in loop.log.plans] == [("late", 0.75)]


def test_planner_delay_delays_plans() -> None:
    timing = Timing(rate=1 / PERIOD, plan_rate=2.0, planner_delay=0.3)
    loop = make_loop(timing=timing)
    run_steps(loop, 1)
    loop.plans.plan_once()
    assert loop.log.plans[0].took == pytest.approx(0.3)
    assert loop.log.plans[0].outcome == "made"


def test_a_plan_for_an_earlier_errand_is_not_followed() -> None:
    errands = iter([0, 0, 1, 1])
    loop = make_loop(FakeRobot(lambda: sensed(next(errands))))
    run_steps(loop, 1)
    loop.plans.plan_once()
    assert run_steps(loop, 2, first=1) == [None, "no plan"]
    loop.plans.plan_once()
    assert run_steps(loop, 1, first=3) == [None]


@pytest.mark.parametrize(
    "broken",
    [
        Sensed(np.zeros(4), np.zeros(2), np.zeros(2)),
        Sensed(np.full(3, np.nan), np.zeros(2), np.zeros(2)),
        Sensed(np.zeros(3), np.full(2, np.inf), np.zeros(2)),
        Sensed(np.zeros(3), np.zeros(2), np.zeros(1)),
        None,
    ],
)
def test_invalid_observation_gives_the_safe_action(broken) -> None:
    robot = SafeRobot()
    loop = make_loop(robot)
    run_steps(loop, 1)
    loop.plans.plan_once()
    robot.sense = lambda: broken
    assert run_steps(loop, 3, first=1) == ["bad observation"] * 3
    np.testing.assert_allclose(robot.actions[1:], -0.5)
    robot.sense = sensed
    assert run_steps(loop, 1, first=4) == [None]


def test_errors_are_reported() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the planner's map is gone")

    loop = make_loop(planner=broken)
    run_steps(loop, 1)
    loop.plans.plan_once()
    loop.plans.plan_once()
    assert [plan.outcome for plan in loop.log.plans] == ["failed"] * 2
    assert loop.log.first_error == "RuntimeError: the planner's map is gone"
    loop = make_loop(controller=broken)
    run_steps(loop, 1)
    loop.plans.plan_once()
    assert run_steps(loop, 1, first=1) == ["controller failed"]
    assert "map is gone" in str(loop.log.first_error)


@pytest.mark.parametrize("action", [np.zeros(3), np.array([np.nan, 0.0])])
def test_invalid_action_is_not_sent(action) -> None:
    robot = FakeRobot()
    loop = make_loop(robot, controller=lambda *_: action)
    run_steps(loop, 1)
    loop.plans.plan_once()
    assert run_steps(loop, 1, first=1) == ["bad action"]
    np.testing.assert_array_equal(robot.actions[-1], np.zeros(2))


@pytest.mark.parametrize(
    ("takes", "missed", "skipped"),
    [(0.5, False, 0), (1.0, False, 0), (1.5, True, 0), (2.0, True, 1), (3.5, True, 2)],
)
def test_deadline_misses_and_skipped_steps(takes, missed, skipped) -> None:
    clock = FakeClock()

    def slow(*_: Any) -> np.ndarray:
        clock.pass_(takes * PERIOD)
        return np.zeros(2)

    loop = make_loop(controller=slow, clock=clock)
    run_steps(loop, 1)
    loop.plans.plan_once()
    clock.sleep_until(PERIOD)
    onward = loop.control_step(1, PERIOD, TICKS)
    step = loop.log.steps[-1]
    assert (step.took, step.missed, step.skipped) == (takes * PERIOD, missed, skipped)
    assert onward == 2 + skipped


def test_steps_and_skipped_steps_add_up() -> None:
    """A complete run on a clock that advances only on request: the planner's thread finds no time
    between steps, so every step is safe."""
    clock, calls = FakeClock(), iter(range(TICKS))

    def sense() -> Sensed:
        clock.pass_(PERIOD * (2.5 if next(calls) % 10 == 9 else 0.25))
        return Sensed(np.zeros(1), np.zeros(1), np.zeros(1))

    robot = FakeRobot(sense)
    loop = make_loop(robot, clock=clock)
    summary = loop.run(TICKS * PERIOD)
    # Every tenth step ends 2.5 periods on: one is left out, and the next ends 0.75 periods late.
    assert summary.steps + summary.skipped == summary.ticks == TICKS
    assert summary.skipped == summary.steps // 10
    assert summary.deadline_misses == summary.skipped
    assert summary.safe == {"bad observation": summary.steps}
    # And one more safe action to end with.
    assert len(robot.actions) == summary.steps + 1


def test_log_matches_the_summary(tmp_path) -> None:
    """Real threads, half a second."""
    looks = iter(range(1000))

    def sense() -> Sensed:
        return Sensed(np.full(3, np.nan), *sensed()[1:]) if next(looks) % 10 == 5 else sensed()

    log = ControlLog(tmp_path / "control.jsonl")
    timing = Timing(rate=50.0, plan_rate=20.0)
    loop = make_loop(FakeRobot(sense), timing=timing, log=log, clock=WallClock())
    summary = loop.run(0.5)
    lines = [json.loads(line) for line in (tmp_path / "control.jsonl").read_text().splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds.count("step") == summary.steps
    assert kinds.count("plan") == sum(summary.plans.values()) > 0
    assert kinds[-1] == "summary"
    assert lines[-1]["deadline_misses"] == summary.deadline_misses
    assert summary.steps + summary.skipped == summary.ticks == 25
    assert summary.safe["bad observation"] == (summary.steps + 4) // 10
    unsafe = sum(line["event"] == "step" and line["safe"] is None for line in lines)
    assert unsafe == summary.steps - sum(summary.safe.values()) > 0
    assert not any(thread.name == "planner" for thread in threading.enumerate())


def test_failing_robot_ends_the_loop_and_its_threads() -> None:
    class Broken(FakeRobot):
        def act(self, action: np.ndarray) -> None:
            raise OSError("the cable is out")

    loop = make_loop(Broken())
    with pytest.raises(OSError, match="the cable is out"):
        loop.run(1.0)
    assert not any(thread.name == "planner" for thread in threading.enumerate())


def test_the_spread_of_times() -> None:
    """The median and the percentile to the width of a bin, the largest exactly."""
    times = Histogram()
    for seconds in [0.001] * 98 + [0.004, 0.1]:
        times.add(seconds)
    about = [pytest.approx(1.0, rel=0.02), pytest.approx(4.0, rel=0.02)]
    assert times.spread() == Spread(*about, 100.0)
    assert Histogram().spread() is None
    never_late = Histogram()
    never_late.add(0.0)
    assert never_late.spread() == Spread(0.0, 0.0, 0.0)
    for seconds in (1e-9, 1e9):  # beyond the bins at either end
        times.add(seconds)
    assert times.count == 102


def test_interpreter_settings_are_restored() -> None:
    interval = sys.getswitchinterval()
    with controlled_gc():
        assert sys.getswitchinterval() < interval
        assert gc.get_freeze_count() > 0
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (interval, 0)


@pytest.mark.parametrize(
    ("field", "value"), [("rate", 0.0), ("plan_rate", -1.0), ("planner_delay", -0.1)]
)
def test_rate_out_of_range_is_refused(field, value) -> None:
    with pytest.raises(UserError, match=f"{field} = {value} is not allowed"):
        Timing(**{field: value})
    for seconds in (0, -1.0, math.nan, math.inf, 1e308):
        with pytest.raises(UserError, match=re.escape(f"seconds = {seconds} is not allowed")):
            make_loop().run(seconds)
    with pytest.raises(UserError, match="cannot write the log"):
        ControlLog(Path("no/such/place.jsonl"))
