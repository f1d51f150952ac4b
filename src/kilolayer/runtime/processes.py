"""Several processes as one program: connection, agreement on settings, and heartbeats.

The processes share a key-value store, JAX's coordination service. Each process writes a heartbeat
count to it and watches the others, because a collective operation with a lost process would never
return.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jax
from jax._src import distributed  # the store has no public name

from kilolayer.errors import UserError, bad_field
from kilolayer.runtime import coordinator

HEARTBEAT_INTERVAL = 1.0  # seconds
LOST_AFTER = 15.0  # seconds without a heartbeat
STARTUP_TIMEOUT = 120  # seconds to wait for all processes to start
FINISHED = "left"  # the last heartbeat of a process that ended without an error
# The variables that Slurm sets for each task, and what they look like.
SLURM = {
    "SLURM_NTASKS": r"[0-9]+",
    "SLURM_PROCID": r"[0-9]+",
    "SLURM_JOB_ID": r"[0-9]+",
    "SLURM_STEP_NODELIST": r"[^\[,].*",
}
WITHOUT_SLURM = "Slurm sets it otherwise: start this with srun, or unset it to train in one process"


@dataclass(frozen=True)
class Address:
    """Address of the coordinator, number of processes, and number of this process."""

    coordinator: str
    count: int
    number: int


def find_address(coordinator: str | None, count: int | None, number: int | None) -> Address | None:
    """The address from the options or from Slurm's environment; None for a single process.

    Raises UserError if it is incomplete.
    """
    given = {"num_processes": count, "process_id": number}
    if coordinator is None:
        for field, value in given.items():
            if value is not None:
                raise bad_field(field, value, "it needs --coordinator host:port")
        return _slurm_address()
    host_and_port = re.fullmatch(r".+:([0-9]+)", coordinator)
    if host_and_port is None or not 0 < int(host_and_port[1][:9]) < 2**16:
        allowed = "it must be host:port of process 0, with a port from 1 to 65535"
        raise bad_field("coordinator", coordinator, allowed)
    if count is None or count < 1:
        raise bad_field("num_processes", count, "with a coordinator it must be at least 1")
    if number is None or not 0 <= number < count:
        raise bad_field("process_id", number, f"with a coordinator it must lie in [0, {count})")
    return Address(coordinator, count, number)


def _slurm_address() -> Address | None:
    """The address for the tasks of this Slurm step: the coordinator runs on its first node."""
    try:
        set_by_slurm = {name: os.environ[name] for name in SLURM}
    except KeyError:
        return None
    for name, form in SLURM.items():
        if not re.fullmatch(form, set_by_slurm[name]):
            raise bad_field(name, set_by_slurm[name], WITHOUT_SLURM)
    *numbers, nodes = set_by_slurm.values()
    count, number, job = map(int, numbers)
    if count == 1:
        return None
    if number >= count:
        raise bad_field("SLURM_PROCID", number, f"SLURM_NTASKS is {count}; {WITHOUT_SLURM}")
    # node[003-007,012],other: the first number of the first bracket.
    first = re.match(r"([^\[,]+)(?:\[(\d+))?", nodes)
    assert first is not None
    return Address(f"{first[1]}{first[2] or ''}:{20000 + job % 10000}", count, number)


class Processes:
    """The processes of one program: a context that all of them enter and leave."""

    def __init__(self, address: Address | None):
        self.address = address
        self._left = threading.Event()
        self._coordinator = None

    def __enter__(self) -> "Processes":
        if self.address is None:
            return self
        at = self.address
        if at.number == 0:
            self._coordinator = _start_coordinator(at.coordinator.rpartition(":")[2], at.count)
        # The preemption service would swallow SIGTERM.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                at.coordinator,
                at.count,
                at.number,
                cluster_detection_method="deactivate",
                initialization_timeout=STARTUP_TIMEOUT,
                heartbeat_timeout_seconds=coordinator.HEARTBEAT_TIMEOUT,
                # JAX always starts a service in process 0, which is not used here.
                coordinator_bind_address="localhost:0",
            )
        except Exception as error:
            raise UserError(
                f"process {at.number} did not meet the {at.count} at {at.coordinator} within "
                f"{STARTUP_TIMEOUT} s: start all of them, and check that they reach that address."
            ) from error
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if self.address is None:
            return
        if error is None:
            self._left.set()
            self._put("alive", FINISHED)
            jax.distributed.shutdown()
        elif not isinstance(error, UserError | KeyboardInterrupt):
            # A lost process breaks a collective before its heartbeat is missed. Wait, so that the
            # watching thread can name the lost process.
            time.sleep(LOST_AFTER + 5 * HEARTBEAT_INTERVAL)
        if self._coordinator is not None and error is None:
            self._coordinator.kill()
            self._coordinator.communicate()

    def agree(self, what: str, values: Mapping[str, Any]) -> None:
        """Wait for all processes; raises UserError if their `values` differ.

        The values are texts in the store and not arrays on the devices, as
        `jax.experimental.multihost_utils.assert_equal` needs them: the error can so name the option
        and both values, and the wait for a process that never comes has an end.
        """
        if self.address is None:
            return
        for name, value in values.items():
            self._put(f"{what}/{name}", repr(value))
        self._store.wait_at_barrier(f"kilolayer/{what}", 1000 * STARTUP_TIMEOUT)
        for other in range(self.address.count):
            for name, value in values.items():
                theirs = self._get(f"{what}/{name}", other)
                if theirs != repr(value):
                    raise UserError(
                        f"the processes disagree on the {what}: {name} is {value!r} in process "
                        f"{self.address.number} and {theirs} in process {other}; start all of them "
                        "with the same options."
                    )

    @property
    def _store(self) -> Any:
        return distributed.global_state.client

    def _put(self, name: str, value: str) -> None:
        assert self.address is not None
        key = f"kilolayer/{name}/{self.address.number}"
        self._store.key_value_set(key, value, allow_overwrite=True)

    def _get(self, name: str, process: int) -> str:
        try:
            return self._store.key_value_try_get(f"kilolayer/{name}/{process}")
        except Exception:  # not written yet
            return ""

    def _watch(self) -> None:
        """Stop this process when another is lost; runs in its own thread."""
        assert self.address is not None
        me, count = self.address.number, 0
        now = time.monotonic()
        seen = {other: ("", now) for other in range(self.address.count) if other != me}
        while not self._left.wait(HEARTBEAT_INTERVAL):
            count += 1
            with suppress(Exception):  # without the store, the counts of the others stop too
                self._put("alive", str(count))
            for other, (last, since) in seen.items():
                value = self._get("alive", other)
                if value not in ("", last):
                    seen[other] = (value, time.monotonic())
                elif last != FINISHED and time.monotonic() - since > LOST_AFTER:
                    _stop(f"process {other} of {self.address.count} is lost")


def _start_coordinator(port: str, processes: int) -> subprocess.Popen:
    # As a file, so that it imports JAX alone.
    command = [sys.executable, "-P", coordinator.__file__, port, str(processes)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if not child.stdout or not child.stdout.readline():
        child.wait()
        raise UserError(f"cannot listen at port {port}: choose another for --coordinator.")
    return child


ONE_PROCESS = Processes(None)


def _stop(why: str) -> None:
    """End this process from any thread, because the main thread may wait forever."""
    message = (
        f"error: {why}: training stops here; the last checkpoint is whole, continue from it with "
        "`kilolayer train --resume RUN` in all processes."
    )
    print(message, file=sys.stderr, flush=True)
    os._exit(2)
