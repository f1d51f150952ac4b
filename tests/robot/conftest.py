"""A policy folder for the cart, and `kilolayer-robot run` with it in a separate process."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.cart import received, write_policy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory) -> Path:
    """At 20 Hz: a period is long enough to tell one from two on a busy machine."""
    return write_policy(tmp_path_factory.mktemp("robot") / "policy", control_step=0.05)


@pytest.fixture
def start_loop(policy_folder, tmp_path) -> Iterator[Callable[..., tuple[subprocess.Popen, Path]]]:
    """`start_loop(*options, **settings)`: a process that has begun to act, and the cart's record.

    options: of the command; settings: of the cart.
    """
    processes: list[subprocess.Popen] = []

    def start(
        *options: str, goal: str = "0.5", acted: int = 5, **settings: object
    ) -> tuple[subprocess.Popen, Path]:
        record = tmp_path / f"record{len(processes)}"
        command = [sys.executable, "-m", "kilolayer_robot.cli", "run", str(policy_folder)]
        command += ["--robot", "benchmarks.cart:Cart", "--goal", goal, "--set", f"record={record}"]
        command += ["--lock", f"test-{os.getpid()}-{len(processes)}", *options]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        deadline = time.monotonic() + 60
        while not (record.exists() and len(received(record)) >= acted):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return process, record

    yield start
    for process in processes:
        process.kill()
        process.communicate()
