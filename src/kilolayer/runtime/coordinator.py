"""JAX's coordination service in a process of its own, started by process 0.

JAX would run it inside process 0 and abort every other process, without a word, when that one is
lost. This one outlives process 0 for long enough that the others can tell who was lost.
"""

import sys
import time

# The service has no public name.
from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

# Seconds without a sign of life after which JAX itself aborts all processes.
HEARTBEAT_TIMEOUT = 30
LINGER = 30


def main(port: str, processes: str) -> None:
    service = _jax.get_distributed_runtime_service(
        f"[::]:{port}", int(processes), heartbeat_timeout=HEARTBEAT_TIMEOUT
    )
    print("ready", flush=True)
    sys.stdin.read()  # ends when process 0 does
    time.sleep(LINGER)
    del service


if __name__ == "__main__":
    main(*sys.argv[1:])
