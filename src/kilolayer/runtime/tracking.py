"""Where metrics go besides metrics.jsonl. Losing one sink never loses another, nor the run."""

import os
import socket
import struct
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from kilolayer.errors import OutsideError, UserError, require_choice
from kilolayer.runtime.files import write_atomically
from kilolayer.settings import Settings

EVENT_VERSION = "brain.Event:2"  # of the files that TensorBoard reads
WANDB_WAYS_OUT = (
    "log in with `wandb login`, correct the setting that it names (WANDB_API_KEY goes before a "
    "login), set WANDB_MODE=offline, or leave --wandb out"
)
WANDB_MODES = ("online", "offline", "disabled", "shared")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Settings):
    """Where metrics go beside the run directory's own file."""

    tensorboard: bool = True
    """Write TensorBoard event files into the run directory."""
    profile: bool = True
    """Time the parts of a round at the end of the run, for its report. Turn it off to save the
    compilation."""
    wandb: bool = False
    """Log to Weights & Biases too, offline unless WANDB_MODE says otherwise (extra `wandb`)."""


class Tracker(Protocol):
    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoardTracker:
    """Event files for TensorBoard in the run directory.

    Every point is with the system once `log` returns. tensorboardX's own writer has a thread that
    dies when the disk is full, after which a call waits for it for ever; so only its formats are
    used.
    """

    def __init__(self, directory: Path, purge_from: int | None):
        events: Any = import_module("tensorboardX.proto.event_pb2")
        folder = directory / "tensorboard"
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._file = (folder / name).open("xb")
        first = [events.Event(wall_time=time.time(), file_version=EVENT_VERSION)]
        if purge_from is not None:
            # TensorBoard drops what other files have from this step on.
            log = events.SessionLog(status=events.SessionLog.START)
            first.append(events.Event(wall_time=time.time(), step=purge_from, session_log=log))
        self._write(first)

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        from tensorboardX.summary import scalar

        event: Any = import_module("tensorboardX.proto.event_pb2").Event
        now = time.time()
        self._write(
            event(wall_time=now, step=env_steps, summary=scalar(name, value))
            for name, value in metrics.items()
        )

    def close(self) -> None:
        self._file.close()

    def _write(self, events: Iterable[Any]) -> None:
        try:
            self._file.writelines(_record(event.SerializeToString()) for event in events)
            self._file.flush()
        except OSError:
            with suppress(OSError):  # it would try once more to write what it holds
                self._file.close()
            raise


def _record(data: bytes) -> bytes:
    """Bytes in the framing of event files: length, checksum of the length, data, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    checked = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(checked) + data + next(checked)


class WandbTracker:
    """Weights & Biases; offline unless the environment variable WANDB_MODE says otherwise.

    A run directory is one run there, also after it was resumed: its id is kept in `wandb_id`. Steps
    that a resumed run repeats have the same values as before.
    """

    def __init__(self, directory: Path, values: Mapping[str, Any]):
        wandb = _package()
        mode = os.environ.get("WANDB_MODE", "offline")
        require_choice("WANDB_MODE", mode, WANDB_MODES)
        run_id = _run_id(directory / "wandb_id")
        try:
            self._run = wandb.init(
                # Its own process, which may be an older one, may be in another folder.
                dir=str(directory.absolute()),
                id=run_id,
                resume="allow",
                reinit="create_new",  # several seeds train in one process
                config=dict(values),
                mode=mode,
            )
        # It fails in many ways: not logged in, no network, a setting of its own, ...
        except Exception as error:
            raise OutsideError.of(
                "Weights & Biases cannot be used", error, WANDB_WAYS_OUT
            ) from error

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=env_steps)

    def close(self) -> None:
        self._run.finish()


def _package() -> Any:
    """The package `wandb`; UserError if it cannot be used."""
    # It would tell its maker of its use, also offline, unless this is set before it is imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    missing = UserError("wandb = True needs the extra: pip install 'kilolayer[wandb]'.")
    try:
        package: Any = import_module("wandb")
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "wandb":
            raise missing from error
        way_out = "install it anew, pip install 'kilolayer[wandb]', or leave --wandb out"
        raise OutsideError.of("the package wandb cannot be imported", error, way_out) from error
    # A folder called wandb, as it leaves in the current one, can be imported too.
    if not hasattr(package, "init"):
        raise missing
    return package


def _run_id(kept: Path) -> str:
    """The id of a run directory at Weights & Biases, from its file, or a new one."""
    with suppress(OSError, UnicodeDecodeError):
        found = kept.read_text(encoding="utf-8").strip()
        if found:
            return found
    new = uuid.uuid4().hex
    write_atomically(kept, new)
    return new


class CompositeTracker:
    """Hands everything to each tracker; one that fails is dropped with a warning."""

    def __init__(self, trackers: list[Tracker]):
        self._trackers = list(trackers)

    def log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.log(env_steps, metrics))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                name = type(tracker).__name__
                warnings.warn(f"{name} failed and is switched off: {error}", stacklevel=2)


def build_tracker(
    directory: Path, config: TrackingConfig, values: Mapping[str, Any], purge_from: int | None
) -> Tracker:
    """The trackers that the config asks for. values: every setting of the run, for those that show
    them. purge_from: the first step that a resume repeats, None for a new run.

    One that cannot be opened is left out with a warning. Only a new run that is to log to Weights &
    Biases and cannot is refused with a UserError: nothing is lost yet.
    """
    makers: dict[str, Callable[[], Tracker]] = {}
    if config.tensorboard:
        makers["TensorBoard"] = lambda: TensorBoardTracker(directory, purge_from)
    if config.wandb:
        makers["Weights & Biases"] = lambda: WandbTracker(directory, values)
    trackers: list[Tracker] = []
    for name, make in makers.items():
        try:
            trackers.append(make())
            continue
        except UserError as error:
            if purge_from is None:
                raise
            why = str(error)
        except Exception as error:
            why = f"{name} cannot be written ({error})"
        warnings.warn(f"{why}: the run goes on without it", stacklevel=2)
    return CompositeTracker(trackers)
