"""The watchdog and the gate: what a late controller computed is never sent."""

import threading
import time

import numpy as np
import pytest

from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError
from kilolayer_robot.gate import Gate, Handling
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Timing

CARD = Card.plain(observation=3, goal=2, action=2)
SAFE = np.array([-0.5, -0.5], np.float32)
PERIOD = 0.125
TIMING = Timing(rate=1 / PERIOD, watchdog=2.0)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, instant: float) -> None:
        self.time = max(self.time, instant)


class Robot:
    """Records the sent actions and their times."""

    def __init__(self) -> None:
        self.actions: list[tuple[float, np.ndarray]] = []
        self.safe = SAFE

    def observe(self) -> Sensed:
        return Sensed(np.zeros(3), np.zeros(2), np.full(2, 9.0))

    def act(self, action: np.ndarray) -> None:
        self.actions.append((time.monotonic(), np.array(action)))

    def safe_action(self) -> np.ndarray:
        return self.safe

    @property
    def last(self) -> np.ndarray:
        return self.actions[-1][1]


@pytest.fixture
def robot() -> Robot:
    return Robot()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(robot, clock) -> Gate:
    return Gate(robot, CARD, clock, TIMING)


ACTION = np.array([0.25, 0.25])


class OnAccelerator:
    """Like a tensor of another library that cannot become an array."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("requires grad")


def test_an_action_in_time_is_sent(gate, robot, clock) -> None:
    step = gate.begin_step()
    clock.time += 3 * PERIOD  # its own period and the two that the watchdog allows
    assert gate.send(step, ACTION) == (None, False)
    np.testing.assert_array_equal(robot.last, ACTION)


def test_a_stale_action_is_replaced_even_if_the_watchdog_slept(gate, robot, clock) -> None:
    step = gate.begin_step()
    clock.time += 3.1 * PERIOD
    assert gate.send(step, ACTION) == ("stalled", False)
    np.testing.assert_array_equal(robot.last, SAFE)
    assert (gate.stalls, gate.watchdog_actions, gate.sent) == (1, 0, 1)


def test_the_watchdog_sends_the_safe_action_and_counts(gate, robot, clock) -> None:
    step = gate.begin_step()
    assert gate.send(step, ACTION) == (None, False)
    step = gate.begin_step()
    clock.time = 2.5 * PERIOD
    assert gate.watch() == pytest.approx(0.5 * PERIOD)  # until it is due
    assert gate.watchdog_actions == 0
    clock.time = 3 * PERIOD
    assert gate.watch() == PERIOD
    np.testing.assert_array_equal(robot.last, SAFE)
    clock.time = 4 * PERIOD
    gate.watch()  # and again every period, as one stall
    assert (gate.stalls, gate.watchdog_actions) == (1, 2)
    assert gate.send(step, ACTION) == ("stalled", False)
    np.testing.assert_array_equal(robot.last, SAFE)
    # The next step is as any other.
    assert gate.send(gate.begin_step(), ACTION) == (None, False)
    assert (gate.stalls, gate.sent) == (1, 5)


def test_nothing_is_sent_before_the_first_step(gate, robot, clock) -> None:
    clock.time = 1e6
    assert gate.watch() == PERIOD
    assert robot.actions == []


def test_after_closing_nothing_is_sent(gate, robot) -> None:
    step = gate.begin_step()
    assert gate.close()
    assert gate.send(step, ACTION) == ("closed", False)
    assert gate.watch() == float("inf")
    assert gate.close()
    assert len(robot.actions) == 1
    np.testing.assert_array_equal(robot.last, SAFE)


@pytest.mark.parametrize(
    ("action", "handling", "outcome", "sent"),
    [
        ([333.0, 0.5], "clip", (None, True), [1.0, 0.5]),
        ([-7.0, 7.0], "clip", (None, True), [-1.0, 1.0]),
        ([333.0, 0.5], "safe", ("action out of bounds", False), SAFE),
        ([np.nan, 0.5], "clip", ("bad action", False), SAFE),
        ([np.inf, 0.5], "clip", ("bad action", False), SAFE),
        ([0.5], "clip", ("bad action", False), SAFE),
        ([10**400, 0.5], "clip", ("bad action", False), SAFE),
        (["0.5", "0.5"], "clip", ("bad action", False), SAFE),
        ([0.5j, 0.5], "clip", ("bad action", False), SAFE),
        ([1e300, 0.5], "clip", ("bad action", False), SAFE),
        (OnAccelerator(), "clip", ("bad action", False), SAFE),
        ("left", "clip", ("bad action", False), SAFE),
        ([[0.5, 0.5]], "safe", ("bad action", False), SAFE),
        (None, "clip", (None, False), SAFE),
    ],
)
def test_invalid_actions_are_not_sent(action, handling, outcome, sent, robot, clock) -> None:
    gate = Gate(robot, CARD, clock, TIMING, handling)
    assert gate.send(gate.begin_step(), action) == outcome
    np.testing.assert_array_equal(robot.last, np.float32(sent))


@pytest.mark.parametrize(
    ("safe", "reason"),
    [
        (np.zeros(3), r"has shape \(3,\) and the policy's actions have \(2,\)"),
        (np.array([0.0, np.nan]), "is not finite"),
        (np.array([0.0, 2.0]), "is outside the bounds"),
        (None, "is not an array of numbers"),
        ([10**400, 0.0], "is not an array of numbers"),
    ],
)
def test_the_safe_action_is_checked_before_the_first_step(safe, reason, robot) -> None:
    robot.safe = safe
    with pytest.raises(UserError, match=reason):
        ControlLoop(robot, CARD, lambda *_: ACTION).run(1.0)
    assert robot.actions == []


def test_failing_safe_action_falls_back_to_the_newest_valid_one(gate, robot) -> None:
    gate.check_safe_action()
    robot.safe = np.array([0.125, 0.125])
    gate.send(gate.begin_step(), None)
    robot.safe = np.full(2, np.nan)
    gate.send(gate.begin_step(), None)
    np.testing.assert_array_equal(robot.last, [0.125, 0.125])
    assert gate.safe_failures == 1


def test_stalled_controller_triggers_the_watchdog_in_real_time(robot) -> None:
    """One step of 1.5 s at 20 Hz: safe within three periods, and its action never comes."""
    stale, calls, stalled_at = np.array([0.75, 0.75], np.float32), iter(range(10**6)), []

    def controller(*_: np.ndarray) -> np.ndarray:
        if next(calls) == 20:
            stalled_at.append(time.monotonic())
            time.sleep(1.5)
            return stale
        return ACTION

    loop = ControlLoop(robot, CARD, controller, timing=Timing(rate=20))
    summary = loop.run(3.0)
    after = [(at - stalled_at[0], action) for at, action in robot.actions if at > stalled_at[0]]
    # 150 ms after the last action; the rest is for a busy machine.
    assert after[0][0] < 0.4
    np.testing.assert_array_equal(after[0][1], SAFE)
    assert not any((action == stale).all() for _, action in robot.actions)
    assert summary.stalls >= 1
    assert summary.watchdog_actions > 10
    assert summary.safe["stalled"] >= 1
    assert summary.steps + summary.skipped == summary.ticks == 60
    assert summary.actions == len(robot.actions) == summary.steps + summary.watchdog_actions + 1
    np.testing.assert_array_equal(robot.last, SAFE)


def test_hanging_act_is_reported() -> None:
    """The last safe action cannot be sent then, and the summary says so."""
    hanging, release = threading.Event(), threading.Event()

    class Hanging(Robot):
        def act(self, action: np.ndarray) -> None:
            super().act(action)
            if len(self.actions) == 5:
                hanging.set()
                release.wait()

    robot = Hanging()
    loop = ControlLoop(robot, CARD, lambda *_: ACTION, timing=Timing(rate=100))
    found = []
    thread = threading.Thread(target=lambda: found.append(loop.run(None)))
    thread.start()
    assert hanging.wait(60)
    deadline = time.monotonic() + 20
    while loop.gate.blocked <= 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not loop.gate.close()
    release.set()
    thread.join(5)
    assert found[0].ended_safely
    assert any("made the watchdog wait" in note for note in found[0].notes)


@pytest.mark.parametrize("name", ["bad_action", "bad_observation"])
def test_invalid_handling_is_refused(name) -> None:
    with pytest.raises(UserError, match=f"{name} = 'hope' is not allowed"):
        Handling(**{name: "hope"})
