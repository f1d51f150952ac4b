"""Run `kilolayer-robot run` for long, with faults and signals, and check that it kept its promises.

    python -m benchmarks.robot_soak results/robot_loop --minutes 60 --kills 50 --priority 50

The loop runs at 100 Hz in processes of its own around a simulated cart that stalls, goes blind and
raises at random. The time is cut by two SIGTERMs at random moments. Then short runs are each ended
by a random signal at a random moment. A broken promise is an error; the figures go to soak.json.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cart import received, write_policy

RATE = 100.0
FAULTS = {"nan": 0.001, "wrong_shape": 0.001, "late": 0.001, "raising": 0.001, "stall": 0.001}
STALL_SECONDS = 0.6
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")


class Running:
    """One process with the loop, and what it leaves in its directory."""

    def __init__(
        self, directory: Path, policy: Path, seed: int, faults: dict[str, float], priority: int
    ):
        directory.mkdir(parents=True)
        self.record, self.log = directory / "record", directory / "log.jsonl"
        settings = {"record": self.record, "seed": seed, "stall_seconds": STALL_SECONDS, **faults}
        command = [sys.executable, "-m", "kilolayer_robot.cli", "run", str(policy)]
        command += ["--robot", "benchmarks.cart:Cart", "--goal", "0.5", "--out", str(self.log)]
        command += ["--lock", f"soak-{os.getpid()}", "--priority", str(priority)]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not (self.record.exists() and self.record.stat().st_size):
            if self.process.poll() is not None:
                raise SystemExit("the loop did not begin")
            time.sleep(0.002)
        self.began = time.monotonic()

    def resident(self) -> float:
        """MB of resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1e3
        return float("nan")

    def stop(self, name: str) -> dict[str, Any]:
        """Send a signal; checks of what came last."""
        at = time.monotonic()
        self.process.send_signal(getattr(signal, name))
        code = self.process.wait(30)
        actions = received(self.record)
        last = actions[-1]
        return {
            "signal": name,
            "exit_code": code,
            "last_action_safe": last.safe,
            "signal_to_safe_ms": 1e3 * (last.at - at),
            "actions_received": len(actions),
            "largest_action": max(abs(each.action) for each in actions),
            "finite": bool(np.isfinite([each.action for each in actions]).all()),
        }


def soak(
    directory: Path,
    policy: Path,
    seconds: float,
    cuts: list[float],
    seed: int,
    priority: int,
) -> list[dict]:
    """Run from cut to cut, each ended by a SIGTERM; a row for each part."""
    rows, edges = [], [0.0, *cuts, seconds]
    for index, length in enumerate(np.diff(edges)):
        running = Running(directory / f"part{index}", policy, seed + index, FAULTS, priority)
        memory = []
        while time.monotonic() - running.began < length:
            time.sleep(min(1.0, max(0.0, length - (time.monotonic() - running.began))))
            memory.append(running.resident())
        row = running.stop("SIGTERM")
        summary = json.loads(running.log.read_text().splitlines()[-1])
        # The first seconds still import and allocate.
        settled = memory[min(10, len(memory) - 1) :]
        row |= {
            "seconds": float(length),
            "memory_start_mb": settled[0],
            "memory_end_mb": settled[-1],
            "summary": summary,
        }
        require(row["last_action_safe"], "the last action is the safe one")
        require(row["finite"] and row["largest_action"] <= 1, "actions are finite and bounded")
        require(summary["ticks"] == summary["steps"] + summary["skipped"], "ticks add up")
        require(summary["actions"] == row["actions_received"], "every action is accounted for")
        require(abs(summary["ticks"] - RATE * length) <= 0.05 * RATE + 60, "every period is there")
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def kills(
    directory: Path, policy: Path, count: int, random: np.random.Generator, priority: int
) -> list[dict]:
    """Short runs, each ended by a signal at a random moment; a stall is likely then."""
    rows = []
    for index in range(count):
        faults = FAULTS | {"stall": 0.02}
        running = Running(directory / f"kill{index}", policy, index, faults, priority)
        time.sleep(random.uniform(0.0, 1.5))
        rows.append(running.stop(str(random.choice(SIGNALS))))
        print(f"{index + 1:3d} {rows[-1]}", flush=True)
    return rows


class Witness(threading.Thread):
    """Another thread of another process, at ordinary priority: if it too stood still, the machine
    did, and not the loop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gaps: list[dict[str, float]] = []  # each longer than a second

    def run(self) -> None:
        last, suspended = time.monotonic(), _suspended()
        while True:
            time.sleep(0.05)
            now = time.monotonic()
            if now - last > 1:
                self.gaps.append({"seconds": now - last, "suspended": _suspended() - suspended})
            last, suspended = now, _suspended()


def _suspended() -> float:
    """Seconds that the machine has slept, by the difference of two clocks."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def require(kept: bool, promise: str) -> None:
    if not kept:
        raise SystemExit(f"broken promise: {promise}")


def startup() -> dict[str, dict[str, float]]:
    """Import time in s and resident memory in MB of both packages, the median of three each."""
    source = (
        "import resource, time; begun = time.perf_counter(); import {}; "
        "took = time.perf_counter() - begun; "
        "print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)"
    )
    found = {}
    for name, modules in (
        ("kilolayer_robot", "kilolayer_robot.loop, kilolayer_robot.policy, onnxruntime"),
        ("kilolayer", "kilolayer.api, kilolayer.deploy.control, kilolayer.deploy.policy"),
    ):
        rows = []
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", source.format(modules)],
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append([float(each) for each in done.stdout.split()[-2:]])
        seconds, memory = np.median(rows, axis=0)
        found[name] = {"import_s": float(seconds), "resident_mb": float(memory)}
    return found


def step_latency(policy: Path) -> dict[str, float]:
    """Milliseconds of one action on one core, in a process of its own."""
    source = (
        "import sys, time; import numpy as np; from kilolayer_robot import Policy\n"
        "policy, times = Policy.open(sys.argv[1]), []\n"
        "card = policy.card\n"
        "rows = [np.zeros(len(each), np.float32) for each in (card.observation, card.goal)]\n"
        "for _ in range(5000):\n"
        "    begun = time.perf_counter()\n"
        "    policy(*rows)\n"
        "    times.append(time.perf_counter() - begun)\n"
        "print(*np.quantile(times, (0.5, 0.99)) * 1e3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, str(policy)], capture_output=True, text=True, check=True
    )
    median, late = (float(each) for each in done.stdout.split())
    return {"median_ms": median, "percentile_99_ms": late}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--priority", type=int, default=0)
    parser.add_argument("--policy", type=Path, action="append", default=[])
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    seconds = 60 * options.minutes
    cuts = sorted(random.uniform(0.2, 0.8, 2) * seconds) if seconds else []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        policy = write_policy(directory / "policy", 1 / RATE)
        found: dict[str, Any] = {
            "minutes": options.minutes,
            "priority": options.priority,
            "load_average": os.getloadavg(),
            "startup": startup(),
            "step_latency": {each.name: step_latency(each) for each in options.policy},
        }
        common = options.seed, options.priority
        witness = Witness()
        witness.start()
        found["parts"] = soak(directory, policy, seconds, cuts, *common) if seconds else []
        found["kills"] = kills(directory, policy, options.kills, random, options.priority)
    found["witness_gaps"] = witness.gaps
    safe = sum(each["last_action_safe"] for each in found["kills"])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"{safe} of {options.kills} kills ended with the safe action")
    require(safe == options.kills, "every kill ends with the safe action")


if __name__ == "__main__":
    main()
