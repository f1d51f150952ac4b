"""JAX's coordination service in a separate process, started by process 0.

By default JAX runs the service inside process 0. If process 0 is lost, JAX then aborts all other
processes without a message. This service outlives process 0, so that the others can name the lost
process.
"""

import sys
import time

# The service has no public name.
from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

# Seconds without a heartbeat after which JAX itself aborts all processes.
HEARTBEAT_TIMEOUT = 30
# Seconds that the service continues after process 0 has ended.
GRACE_PERIOD = 30


def main(port: str, processes: str) -> None:
    service = _jax.get_distributed_runtime_service(
        f"[::]:{port}", int(processes), heartbeat_timeout=HEARTBEAT_TIMEOUT
    )
    print("ready", flush=True)
    sys.stdin.read()  # ends when process 0 does
    time.sleep(GRACE_PERIOD)
    del service


if __name__ == "__main__":
    main(*sys.argv[1:])
