"""The boundary of the command line: every error becomes a sentence and an exit code.

    0    done
    1    a fault of ours: a traceback, and a sentence that asks for a report
    2    what was asked for cannot be done: one sentence with the way out
    130  Ctrl-C
    143  SIGTERM

Details that a user may need, such as the traceback of their own code, go to a log file.
"""

import os
import re
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from platformdirs import user_log_path

from kilolayer.errors import OutsideError, UserError
from kilolayer.runtime.stopping import INTERRUPTED, Terminated, signals_raise

FAULT, USER_ERROR = 1, 2
LOGS_KEPT = 20
OUT_OF_MEMORY = re.compile(
    r"RESOURCE_EXHAUSTED|[Oo]ut of memory|bad_alloc|Cannot allocate memory|Unable to allocate"
)
# What JAX says of an environment variable that it cannot read.
REFUSED = re.compile(r"for (?:JAX flag|environment) '?(\w+)")
# What a program that calls back into Python quotes of an error that was raised there.
QUOTED = re.compile(r"^[\w.]*\b(?:UserError|OutsideError): (.+)$", re.MULTILINE)
PACKAGE = str(Path(__file__).parent)
LIBRARIES = (sys.prefix, sys.base_prefix, str(Path(os.__file__).parent))


@contextmanager
def answered(arguments: list[str]) -> Iterator[None]:
    """Run a command inside; raises SystemExit for every error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a character shows another
            stream.reconfigure(errors="replace")
    warnings.formatwarning = _one_line
    try:
        with signals_raise():
            yield
    except UserError as error:
        _leave(f"error: {error}", USER_ERROR, error if isinstance(error, OutsideError) else None)
    except KeyboardInterrupt as stop:
        again = ["the same command goes on"] if arguments[:1] == ["study"] else []
        told = "; ".join(["stopped", *getattr(stop, "__notes__", again)])
        _leave(told, stop.exit_code if isinstance(stop, Terminated) else INTERRUPTED)
    except SystemExit as end:  # of the options' parser, or of a user's own code
        own = _own_line(end)
        if own is None:
            raise
        told = f"error: your code ended the program at {own} (SystemExit: {end}): correct it there."
        _leave(told, USER_ERROR, end)
    except BrokenPipeError:  # of `| head`; Python would complain once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        sentence = explained(error)
        if sentence is not None:
            _leave(f"error: {sentence}", USER_ERROR, error)
        traceback.print_exc()
        _leave(
            f"error: this is a fault of Kilolayer ({type(error).__name__}): please report it with "
            f"the command, `{shlex.join(['kilolayer', *arguments])}`.",
            FAULT,
            error,
        )


def explained(error: BaseException) -> str | None:
    """One sentence for an error that a library or the user's own code raised, with the way out.

    None for what looks like a fault of ours.
    """
    text = f"{type(error).__name__}: {error}"
    quoted = QUOTED.findall(text)
    if quoted:
        return quoted[-1]
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return (
            f"the memory is used up ({first}): ask for less, such as fewer --episodes. A training "
            "becomes smaller with --replay-steps-per-env, --num-envs, --batch-size or --width, and "
            "`kilolayer plan` with its options shows what takes the memory."
        )
    refused = REFUSED.search(text)
    if refused and (name := refused[1].upper()) in os.environ:
        return (
            f"JAX cannot read the environment variable {name} = {os.environ[name]!r} ({first}): "
            "correct it, or unset it."
        )
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if any(file.endswith("jax/_src/xla_bridge.py") for file in files) or _device_missing():
        platforms = os.environ.get("JAX_PLATFORMS", "")
        return (
            f"JAX found no device to compute on ({first}; JAX_PLATFORMS={platforms!r}): unset "
            "JAX_PLATFORMS to take what is there, set it to cpu, or install JAX for the device, "
            "such as `pip install 'kilolayer[cuda13]'`."
        )
    if isinstance(error, OSError) and error.filename is not None:
        from kilolayer.runtime.files import cannot_write

        return str(cannot_write(f"cannot use {error.filename}", Path(error.filename), error))
    own = _own_line(error)
    if own is not None:
        return f"your code failed at {own} ({type(error).__name__}: {first}): correct it there."
    return None


def _device_missing() -> bool:
    """Whether JAX_PLATFORMS names a device that is not here: an error of that rarely shows where it
    began, for JAX takes its own lines out of it."""
    jax: Any = sys.modules.get("jax")
    if jax is None or not os.environ.get("JAX_PLATFORMS"):
        return False
    try:
        jax.devices()
    except Exception:
        return True
    return False


def _own_line(error: BaseException) -> str | None:
    """The last line of the traceback that is neither ours nor a library's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        installed = frame.filename.startswith((PACKAGE, *LIBRARIES, "<"))
        if not installed and "site-packages" not in frame.filename:
            return f"{frame.filename}:{frame.lineno}"
    return None


def _leave(sentence: str, code: int, details: BaseException | None = None) -> None:
    if details is not None:
        log = write_log(details)
        sentence += f" Details: {log}" if log else ""
    with suppress(OSError):  # the terminal may be closed
        print(sentence, file=sys.stderr)
    raise SystemExit(code) from None


def write_log(error: BaseException) -> Path | None:
    """Keep an error's traceback in a file of the user's log folder; None if it cannot be written.

    The folder keeps the newest few.
    """
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    command = " ".join(["kilolayer", *sys.argv[1:]])
    text = f"{command}\n\n{''.join(traceback.format_exception(error))}"
    try:
        folder = user_log_path("kilolayer", appauthor=False, ensure_exists=True)
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        for old in sorted(folder.glob("error-*.log"))[:-LOGS_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return None
    return folder / name


def _one_line(message: Any, *_: Any, **__: Any) -> str:
    return f"warning: {message}\n"
