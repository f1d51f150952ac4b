"""Several processes as one program: where they meet, what they must agree on, and losing one."""

import os
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from kilolayer.errors import UserError
from kilolayer.runtime.processes import Address, find_address

pytestmark = pytest.mark.slow

SLURM = ("NTASKS", "PROCID", "STEP_NODELIST", "JOB_ID")


@pytest.fixture(autouse=True)
def without_slurm(monkeypatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(f"SLURM_{name}", raising=False)


def test_single_process_has_no_coordinator_address() -> None:
    assert find_address(None, None, None) is None


def test_explicit_coordinator_address() -> None:
    assert find_address("node0:4321", 2, 1) == Address("node0:4321", 2, 1)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("a1,b2", "a1"),
        ("node[003-007,012]", "node003"),
        ("gpu-[9,11],x", "gpu-9"),
    ],
)
def test_slurm_coordinator_is_the_first_node(nodes, first, monkeypatch) -> None:
    for name, value in zip(SLURM, ("4", "3", nodes, "120045"), strict=True):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert find_address(None, None, None) == Address(f"{first}:20045", 4, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("NTASKS", text) for text in ("x", "4(x2)", "")),
        *(("PROCID", text) for text in ("-1", "4", "")),
        *(("STEP_NODELIST", text) for text in ("", "[1-2]")),
        ("JOB_ID", "7_1"),
    ],
)
def test_a_variable_that_slurm_would_not_set_is_told(name, text, monkeypatch) -> None:
    for each, value in zip(SLURM, ("4", "3", "node7", "120045"), strict=True):
        monkeypatch.setenv(f"SLURM_{each}", text if each == name else value)
    with pytest.raises(UserError, match=f"SLURM_{name} = .*srun, or unset it"):
        find_address(None, None, None)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("node0:70000", 2, 0), "coordinator = 'node0:70000' .* port from 1 to 65535"),
        (("node0:0", 2, 0), "coordinator = 'node0:0' .* port"),
        ((None, 2, None), "num_processes = 2 .* needs --coordinator"),
        (("node0", 2, 0), "coordinator = 'node0' .* host:port"),
        (("node0:1", None, 0), "num_processes = None"),
        (("node0:1", 2, 2), r"process_id = 2 .* must lie in \[0, 2\)"),
    ],
)
def test_an_incomplete_address_is_refused(given, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        find_address(*given)


MEET = """
    import os, signal, sys, time
    from kilolayer.runtime.processes import Address, Processes
    from kilolayer.errors import UserError

    number = int(sys.argv[2])
    with Processes(Address(sys.argv[1], 2, number)) as processes:
        processes.agree("options", {"depth": 4})
        try:
            processes.agree("config", {"depth": 4, "width": 16 + number})
        except UserError as error:
            print(error, flush=True)
        time.sleep(2)
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
"""


def test_processes_report_disagreement_and_a_lost_process() -> None:
    """The one that dies is the one whom the others rely on: process 0."""
    address, code = f"localhost:{free_port()}", textwrap.dedent(MEET)
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", code, address, str(number)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE if number else subprocess.DEVNULL,
            text=True, env=os.environ,
        )
        for number in range(2)
    ]  # fmt: skip
    first, _ = pair[0].communicate(timeout=60)
    died = time.monotonic()
    second, errors = pair[1].communicate(timeout=60)
    assert time.monotonic() - died < 30
    assert pair[1].returncode == 2
    assert "disagree on the config: width is 16 in process 0 and 17 in process 1" in first
    assert "disagree on the config: width is 17 in process 1 and 16 in process 0" in second
    assert "error: process 0 of 2 is lost" in errors
    assert "--resume" in errors


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
