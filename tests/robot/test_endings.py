"""Exceptions anywhere, bad observations and the lock."""

import gc
import os
import time

import numpy as np
import pytest

from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError
from kilolayer_robot.gate import Handling
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.robot import Robot, Sensed
from kilolayer_robot.timing import Timing

CARD = Card.plain(observation=1, goal=1, action=1)
SAFE, GO = np.array([-0.5], np.float32), np.array([0.5], np.float32)


class Recorder:
    """A robot that raises on request and records the sent actions."""

    def __init__(self) -> None:
        self.actions: list[float] = []
        self.looks = 0
        self.act_fails_at: int | None = None

    def observe(self) -> Sensed:
        self.looks += 1
        return Sensed(np.zeros(1), np.zeros(1))

    def act(self, action: np.ndarray) -> None:
        if len(self.actions) == self.act_fails_at:
            self.act_fails_at = None
            raise OSError("the cable is out")
        self.actions.append(float(action[0]))

    def safe_action(self) -> np.ndarray:
        return SAFE


def loop_of(robot: Robot, controller=lambda *_: GO, **others) -> ControlLoop:
    others = {"goal": [9.0], "timing": Timing(rate=100.0)} | others
    return ControlLoop(robot, CARD, controller, **others)


def test_an_act_that_raises_ends_the_loop_with_the_safe_action() -> None:
    robot = Recorder()
    robot.act_fails_at = 20
    with pytest.raises(OSError, match="cable is out"):
        loop_of(robot).run(10.0)
    assert len(robot.actions) == 21
    assert robot.actions[-1] == SAFE


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_program_ending_exception_in_the_controller_ends_the_loop_safely(error) -> None:
    robot = Recorder()

    def controller(*_: np.ndarray) -> np.ndarray:
        if robot.looks > 20:
            raise error
        return GO

    loop = loop_of(robot, controller)
    if error is KeyboardInterrupt:
        assert loop.run(10.0).stopped_by == "SIGINT"
    else:
        with pytest.raises(error):
            loop.run(10.0)
    assert 0.5 in robot.actions
    assert robot.actions[-1] == SAFE


def test_planner_that_ends_the_program_is_counted() -> None:
    def planner(_: Sensed) -> np.ndarray:
        raise SystemExit

    robot = Recorder()
    summary = loop_of(robot, planner=planner).run(0.2)
    assert summary.plans["failed"] >= 1
    assert set(robot.actions) == {SAFE[0]}


def test_last_action_precedes_automatic_garbage_collection() -> None:
    """It may take longer than a period."""
    collected: list[bool] = []

    class Watching(Recorder):
        def act(self, action: np.ndarray) -> None:
            super().act(action)
            collected.append(gc.isenabled())

    robot = Watching()

    def controller(*_: np.ndarray) -> np.ndarray:
        if robot.looks > 5:
            raise SystemExit
        return GO

    with pytest.raises(SystemExit):
        loop_of(robot, controller).run(10.0)
    assert robot.actions[-1] == SAFE
    assert not any(collected)


@pytest.mark.parametrize("where", ["observe", "controller", "planner"])
def test_exception_in_a_step_gives_the_safe_action(where) -> None:
    robot = Recorder()

    def fail(*_: object) -> np.ndarray:
        raise RuntimeError(f"no {where}")

    options = {} if where == "observe" else {where: fail}
    if where == "observe":
        robot.observe = fail  # type: ignore[method-assign]
    summary = loop_of(robot, **options).run(0.2)
    assert set(robot.actions) == {SAFE[0]}
    assert summary.first_error == f"RuntimeError: no {where}"
    assert summary.steps + summary.skipped == summary.ticks == 20
    assert summary.stopped_by == "time"


class Seeing(Recorder):
    """Sees what `sights` give, one after the other, and the last one for ever."""

    def __init__(self, *sights: Sensed) -> None:
        super().__init__()
        self.sights = list(sights)

    def observe(self) -> Sensed:
        return self.sights.pop(0) if len(self.sights) > 1 else self.sights[0]


def run_steps(loop: ControlLoop, count: int) -> list[tuple[str | None, str | None]]:
    """Why each step was safe, and its observation's flaw; planned after the first."""
    for tick in range(count):
        loop.control_step(tick, loop.clock.now())
        if tick == 0:
            loop.plans.plan_once()
    return [(step.safe, step.flaw) for step in loop.log.steps]


def good() -> Sensed:
    return Sensed(np.zeros(1), np.zeros(1))


def test_a_late_observation_gives_the_safe_action() -> None:
    now = time.monotonic()
    robot = Seeing(
        good(),
        good(),
        good()._replace(measured_at=now - 0.2),  # and 0.1 s is allowed
        good()._replace(measured_at=float("nan")),
        good()._replace(measured_at=now + 1e6),  # of another clock
        good()._replace(measured_at=now - 0.01),
    )
    assert run_steps(loop_of(robot), 6) == [
        ("no plan", None),
        (None, None),
        ("late observation", "late observation"),
        ("late observation", "late observation"),
        ("late observation", "late observation"),
        (None, None),
    ]


def test_last_good_observation_is_used_until_its_limit() -> None:
    blind = Sensed(np.full(1, np.nan), np.zeros(1))
    robot = Seeing(good(), good(), blind)
    loop = loop_of(robot, handling=Handling(bad_observation="last"))
    assert run_steps(loop, 4) == [
        ("no plan", None),
        (None, None),
        (None, "bad observation"),
        (None, "bad observation"),
    ]
    time.sleep(0.12)
    loop.control_step(4, loop.clock.now())
    assert loop.log.steps[-1].safe == "bad observation"
    assert loop.log.tally.flaws["bad observation"] == 3


@pytest.mark.parametrize("odd", [["0.5"], [0.5j], [None], [10**400], [1e300], "left", object()])
def test_observation_of_no_real_numbers_gives_the_safe_action(odd) -> None:
    for sensed in (good()._replace(observation=odd), good()._replace(achieved_goal=odd)):
        assert run_steps(loop_of(Seeing(sensed)), 1) == [("bad observation", "bad observation")]


def test_safe_action_without_an_earlier_observation() -> None:
    loop = loop_of(
        Seeing(Sensed(np.zeros(7), np.zeros(1))), handling=Handling(bad_observation="last")
    )
    assert run_steps(loop, 1) == [("bad observation", "bad observation")]


def test_a_second_loop_on_the_same_robot_is_refused() -> None:
    # The lock is the whole machine's, and another session may run these tests.
    name, refused = f"arm-{os.getpid()}", []

    class Curious(Recorder):
        def observe(self) -> Sensed:
            if not refused:
                with pytest.raises(UserError, match=f"another loop drives the robot {name}"):
                    loop_of(Recorder(), lock=name).run(0.05)
                refused.append(True)
            return super().observe()

    loop_of(Curious(), lock=name).run(0.2)
    assert refused
    # And it is free again.
    assert loop_of(Recorder(), lock=name).run(0.05).ended_safely


def test_stop_from_another_thread_ends_the_loop() -> None:
    robot = Recorder()
    loop = loop_of(robot, lambda *_: loop.stop() or GO)
    assert loop.run(None).stopped_by == "stop"
    assert robot.actions[-1] == SAFE


def test_a_loop_runs_once() -> None:
    robot = Recorder()
    loop = loop_of(robot)
    loop.run(0.05)
    sent = len(robot.actions)
    with pytest.raises(UserError, match="has run before: make a new ControlLoop"):
        loop.run(0.05)
    assert len(robot.actions) == sent


def test_goal_of_the_wrong_dimension_is_refused() -> None:
    with pytest.raises(UserError, match=r"goal = \[1.0, 2.0\] is not allowed: policy takes 1"):
        loop_of(Recorder(), goal=[1.0, 2.0])
    for goal in ("north", [10**400], [1e300]):
        with pytest.raises(UserError, match="policy takes 1 numbers"):
            loop_of(Recorder(), goal=goal)


def test_robot_without_a_method_is_refused() -> None:
    class Half:
        def observe(self) -> Sensed:
            return good()

    with pytest.raises(UserError, match="has no method act, safe_action"):
        loop_of(Half())  # type: ignore[arg-type]
