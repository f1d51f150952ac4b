"""Memory, disk, garbage, priority: nothing grows, and refusals of the system are noted."""

import contextlib
import gc
import json
import os
import select
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from kilolayer_robot import log as log_module
from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError
from kilolayer_robot.log import MAX_NEWEST, MAX_WAITING, ControlLog
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.planning import PlannerThread, direct_planner
from kilolayer_robot.realtime import IdleCollector, Realtime, controlled_gc
from kilolayer_robot.records import PlanRecord, StepRecord, Summary
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Timing, WallClock


@pytest.fixture(autouse=True)
def write_often(monkeypatch) -> None:
    monkeypatch.setattr(log_module, "WRITE_INTERVAL", 0.005)


def record_steps(log: ControlLog, first: int, count: int) -> None:
    for tick in range(first, first + count):
        log.step(StepRecord(tick, 1e-6 * (tick % 977), 1e-3, tick, 0.1, 0, None))
        log.plan(PlanRecord(tick, 0.1, 0.01, "made", None, [[1.0, 2.0]]))
        log.error(f"ValueError: {tick % 5}")
    while log._lines and log._writer.is_alive():
        time.sleep(0.001)


def end(log: ControlLog) -> Summary:
    summary = log.summary(
        rate=1.0, stalls=0, watchdog_actions=0, actions=0, longest_pause=0.0, stopped_by="time",
        ended_safely=True,
    )  # fmt: skip
    return log.close(summary)


def test_memory_does_not_grow_with_time(tmp_path) -> None:
    log = ControlLog(tmp_path / "log.jsonl")
    log.open()
    record_steps(log, 0, 2000)
    gc.collect()
    tracemalloc.start()
    # So that what replaces the untraced records in the rings is counted already.
    for first in range(2000, 4000, 500):
        record_steps(log, first, 500)
    before, _ = tracemalloc.get_traced_memory()
    for first in range(4000, 8000, 500):
        record_steps(log, first, 500)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    end(log)
    # 4,000 steps and as many plans, each some 200 bytes, would be 1.6 MB.
    assert after - before < 100_000
    assert (len(log.steps), len(log.plans)) == (MAX_NEWEST, MAX_NEWEST)
    assert (log.tally.steps, log.tally.late.count) == (8000, 8000)


def test_slow_disk_loses_records_and_counts_them(tmp_path) -> None:
    log = ControlLog(tmp_path / "log.jsonl")  # whose writer was not started
    record_steps(log, 0, MAX_WAITING)
    assert len(log._lines) <= MAX_WAITING
    assert log.lost > MAX_WAITING / 2
    assert log.tally.steps == MAX_WAITING
    log._writer.start()
    assert f"lacks {log.lost:,} records: the disk was too slow" in end(log).notes[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_does_not_stop_the_loop() -> None:
    log = ControlLog()
    log._path = Path("/dev/full")
    log.open()
    record_steps(log, 0, 10)
    record_steps(log, 10, 10)
    summary = end(log)
    assert any("No space left" in note for note in summary.notes)
    assert summary.steps == 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_log_that_fails_only_at_the_end_is_reported(monkeypatch) -> None:
    class Idle:
        def observe(self) -> Sensed:
            return Sensed(np.zeros(1), np.zeros(1))

        def act(self, action: np.ndarray) -> None: ...

        def safe_action(self) -> np.ndarray:
            return np.zeros(1)

    monkeypatch.setattr(log_module, "WRITE_INTERVAL", 60.0)
    log = ControlLog(Path("/dev/full"))
    card = Card.plain(1, 1, 1)
    summary = ControlLoop(Idle(), card, lambda *_: np.zeros(1), goal=[0.0], log=log).run(0.1)
    assert "the log /dev/full ends early: No space left on device" in summary.notes


def test_pipe_that_nobody_reads_does_not_hold_up_the_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(log_module, "CLOSE_TIMEOUT", 0.1)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:  # until the pipe is full
            os.write(writer, bytes(select.PIPE_BUF))
    log = ControlLog(tmp_path / "pipe")
    log.open()
    for tick in range(2000):
        log.step(StepRecord(tick, 0.0, 0.0))
    began = time.monotonic()
    (note,) = end(log).notes
    assert time.monotonic() - began < 5
    assert note.endswith("pipe is not complete: writing it took too long")
    assert log._writer.is_alive()
    os.close(reader)
    os.close(writer)
    log._writer.join(10)


def test_log_goes_to_a_pipe_that_is_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = ControlLog(tmp_path / "pipe")
    log.open()
    written = b""
    for first in (0, 10):
        record_steps(log, first, 10)
        deadline = time.monotonic() + 20
        while written.count(b"\n") < first + 10:
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError):
                written += os.read(reader, 65536)
            time.sleep(0.001)
    assert end(log).notes == ()
    os.close(reader)


def test_waking_the_planner_takes_no_memory() -> None:
    """The robot's goal changes at every step, and the planner hangs."""
    timing, clock = Timing(), WallClock()
    plans = PlannerThread(direct_planner, 1, timing, clock, ControlLog())
    for errand in range(1000):
        plans.set_measurement(Sensed(np.zeros(1), np.zeros(1), np.zeros(1), errand), 0.0)
    assert plans._wake.qsize() == 1


def test_a_note_is_kept_once() -> None:
    log = ControlLog()
    for _ in range(3):
        log.note("not permitted")
    assert log.notes == ["not permitted"]


def test_large_log_is_rotated(tmp_path) -> None:
    log = ControlLog(tmp_path / "log.jsonl", largest_file=20_000)
    log.open()
    for first in range(0, 1000, 50):
        record_steps(log, first, 50)
    end(log)
    sizes = [each.stat().st_size for each in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 50_000
    lines = (tmp_path / "log.jsonl.1").read_text().splitlines()
    assert all(json.loads(line)["event"] in ("step", "plan", "error") for line in lines)


class Cycle:
    def __init__(self) -> None:
        self.me = self


def test_garbage_is_collected_only_in_idle_time(monkeypatch) -> None:
    with controlled_gc() as collector:
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
        before = gc.get_count()[0]
        garbage = [Cycle() for _ in range(5000)]
        garbage.clear()
        assert gc.get_count()[0] > before + 4000  # nothing was collected
        collector._last = dict.fromkeys(collector._last, time.monotonic())
        collector.collect(1.0)  # not yet: a second has not passed
        assert collector.longest == 0.0
        collector._last = {0: time.monotonic() - 2, 2: time.monotonic()}
        collector.collect(1.0)
        assert collector.longest > 0
        assert gc.get_count()[0] < 100
    assert gc.isenabled()


def test_long_collection_waits_for_idle_time() -> None:
    collector = IdleCollector()
    now = time.monotonic()
    collector._took, collector._last = {0: 0.02, 2: 0.02}, {0: now - 5, 2: now - 5}
    collector.collect(0.005)
    assert collector.longest == 0.0
    # For so long that it is made nevertheless: garbage has no bound.
    collector._last[0] = now - 25
    collector.collect(0.005)
    assert collector.longest > 0


def test_priority_is_set_or_its_refusal_noted() -> None:
    """Set or refused, depending on this machine."""
    policy, cores = os.sched_getscheduler(0), os.sched_getaffinity(0)
    try:
        refused = Realtime(priority=5, cpu=min(cores)).apply()
        if os.sched_getscheduler(0) == os.SCHED_FIFO:
            assert os.sched_getparam(0).sched_priority == 5
            assert not any("priority" in sentence for sentence in refused)
        else:
            assert any("no real-time priority 5" in sentence for sentence in refused)
        if not any("pinned" in sentence for sentence in refused):
            assert os.sched_getaffinity(0) == {min(cores)}
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, cores)


def test_planner_keeps_the_ordinary_priority() -> None:
    """A thread inherits the priority and the cores of the thread that starts it."""
    before, found = (os.sched_getscheduler(0), os.sched_getaffinity(0)), []

    class Still:
        def observe(self) -> Sensed:
            return Sensed(np.zeros(1), np.zeros(1))

        def act(self, action: np.ndarray) -> None:
            acting.append((os.sched_getscheduler(0), os.sched_getaffinity(0)))

        def safe_action(self) -> np.ndarray:
            return np.zeros(1)

    def planner(sensed: Sensed) -> np.ndarray:
        found.append((os.sched_getscheduler(0), os.sched_getaffinity(0)))
        return direct_planner(sensed)

    acting: list = []
    card, core = Card.plain(1, 1, 1), min(os.sched_getaffinity(0))
    realtime = Realtime(priority=5, cpu=core)
    loop = ControlLoop(Still(), card, lambda *_: np.zeros(1), planner, [0.0], realtime=realtime)
    notes = loop.run(0.1).notes
    if any("no real-time priority" in note for note in notes):
        pytest.skip("this system permits no real-time priority")
    assert found
    assert found == [before] * len(found)
    assert acting == [(os.SCHED_FIFO, {core})] * len(acting)
    # And the caller has its own again.
    assert (os.sched_getscheduler(0), os.sched_getaffinity(0)) == before


@pytest.mark.parametrize(("field", "value"), [("priority", 99), ("priority", -1), ("cpu", 9999)])
def test_invalid_priority_or_core_is_refused(field, value) -> None:
    with pytest.raises(UserError, match=f"{field} = {value} is not allowed"):
        Realtime(**{field: value})
