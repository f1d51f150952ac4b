"""Commands in processes of their own, for benchmarks that start hundreds of them on one core.

A forked command begins in a copy of this process, which has imported all that commands need; that
saves the three processor seconds that imports take. A fresh one begins as a user's does.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from kilolayer.runtime.startup import keep_compiled_programs

# JAX reads where its cache is when it is imported, so this comes before all that imports it.
keep_compiled_programs()

# What the commands load when they are asked for something; nothing of it may start a device.
MODULES = (
    "kilolayer.cli", "kilolayer.api", "kilolayer.api.deployment", "kilolayer.api.sentences",
    "kilolayer.arguments", "kilolayer.studies.run", "kilolayer.report.run_report",
    "kilolayer.training.loop", "kilolayer.deploy.export", "kilolayer.language.train_grounding",
)  # fmt: skip
MOST_PROCESSOR_SECONDS = 300
TICK = 1 / os.sysconf("SC_CLK_TCK")


def prepare() -> None:
    """Import what commands need, once, without starting a device: its threads would not be in a
    copy of this process."""
    for name in MODULES:
        import_module(name)
    from jax._src import xla_bridge

    assert not xla_bridge._backends, "a device was started"


class Command:
    """A command that runs, and what it writes.

    arguments: those of `kilolayer`. folder: where it runs. quick: leave out what follows a finished
    run, its report and film; of a forked one only.
    """

    def __init__(
        self, arguments: list[str], folder: Path, fresh: bool = False, quick: bool = False
    ):
        self.output = folder.parent / f"{folder.name}-output.txt"
        self.code: int | None = None
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.chdir(folder)
            _become(arguments, self.output, fresh, quick)

    def ended(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    @property
    def processor_seconds(self) -> float:
        """So far; steadier than the clock where others use the core too."""
        text = Path(f"/proc/{self.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return TICK * (int(fields[11]) + int(fields[12]))

    def signal_at(self, number: int, seconds: float) -> bool:
        """Send a signal once that much processor time is used; False if it ended before."""
        while not self.ended():
            if self.processor_seconds >= seconds:
                os.kill(self.pid, number)
                return True
            time.sleep(0.005)
        return False

    def wait(self) -> tuple[int, str]:
        """Exit code and output; the code of a signal is its number below zero."""
        while not self.ended():
            time.sleep(0.01)
        assert self.code is not None
        return self.code, self.output.read_text(encoding="utf-8", errors="replace")


def _become(arguments: list[str], output: Path, fresh: bool, quick: bool) -> None:
    """In the copy: run the command and end."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    # One that never ends is ended by the system.
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_PROCESSOR_SECONDS, MOST_PROCESSOR_SECONDS))
    if fresh:
        # Begun in the background this process would ignore Ctrl-C, and so would its children.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-m", "kilolayer", *arguments])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv, sys.dont_write_bytecode = ["kilolayer", *arguments], True
    cli: Any = import_module("kilolayer.cli")
    if quick:
        cli._print_results = lambda runs: None
    _end(lambda: cli.main(arguments))


def in_copy(function: Callable[[], bool]) -> bool:
    """What a function says that may start threads, called in a copy of this process."""
    pid = os.fork()
    if pid == 0:
        _end(lambda: None if function() else sys.exit(1))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _end(function: Callable[[], None]) -> None:
    code = 0
    try:
        function()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"Traceback: {error!r}", file=sys.stderr)
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
