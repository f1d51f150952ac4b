"""The run directory: holds all files of a run.

config.json      the run's config. It is the last file that is written into a new run directory, so
                 without it no run has begun
manifest.json    command, versions, git state, devices, seed, SHA-256 of config.json and
                 of what the run was given besides: a dataset, a robot, a run to start from
lock             held by the process that trains here
metrics.jsonl    append-only, one event per line, all numbers finite: train, evaluation, checkpoint,
                 profile, resume; diverged: environments were reset because their physics was not
                 finite; nonfinite: a value of the agent was not finite and stopped the run
checkpoints/     see `kilolayer.runtime.checkpoint`
episodes/        the newest evaluation episodes of each goal split and one training batch
                 (batch.npz), as .npz arrays
media/           videos and pictures
report.html      written by `kilolayer report`
wandb_id         the id of the run at Weights & Biases, if it is logged there
DONE             present when the run has finished
seeds.json       present if several seeds train as one program: each has a run directory seed_N
                 inside
"""

import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer.agents.optimiser import AveragedAgent
from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.runtime import checkpoint
from kilolayer.runtime.files import (
    cannot_write,
    file_lock,
    guard_disk,
    read_json,
    replacing,
    shell_quoted,
    write_atomically,
)
from kilolayer.runtime.zoo import CARD, resolve

# In the manifest.
CONFIG_KEY = "config_sha256"
TASK_KEY = "task"  # see `Task.fingerprint`
LOCK = "lock"
FOLDERS = ("checkpoints", "episodes", "media")
# Files that a process may leave anywhere in a run directory if it is killed during its creation.
FIRST_FILES = ("manifest.json", "seeds.json", LOCK)
# What events may hold beside their counts and metrics: numbers, and objects of numbers.
NUMBERS = ("time", "round_seconds", "megabytes")
DURATIONS = ("seconds", "seconds_per_round")
# Events that an untrained run can have too.
BEFORE_LEARNING = ("evaluation", "resume")


@dataclass(frozen=True)
class RunDirectory:
    """writes: false in all but one of several processes; these skip every write."""

    path: Path
    writes: bool = True

    @staticmethod
    def create(
        path: Path,
        config: RunConfig,
        manifest: Mapping[str, Any],
        writes: bool = True,
        seeds: Sequence[int] = (),
    ) -> "RunDirectory":
        """Create a run directory; raises UserError if the path holds a run or other files.

        seeds: the seeds that train together; each has a run directory inside this one.
        """
        if not writes:
            return RunDirectory(path, writes)
        require_free(path)
        try:
            for folder in FOLDERS:
                (path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(f"cannot make the run directory {path}", path, error) from error
        run, text = RunDirectory(path), config.to_json()
        own = {**manifest, CONFIG_KEY: _sha256(text.encode())}
        write_atomically(path / "manifest.json", json.dumps(own, indent=2) + "\n")
        if len(seeds) > 1:
            for seed in seeds:
                at = {**manifest, "seed": seed}
                RunDirectory.create(path / f"seed_{seed}", config.having(seed=seed), at)
            write_atomically(path / "seeds.json", json.dumps(list(seeds)) + "\n")
        write_atomically(path / "config.json", text)
        return run

    @staticmethod
    def open(path: Path, writes: bool = True) -> "RunDirectory":
        """An existing run directory; raises UserError if there is none."""
        if (resolve(path) / CARD).is_file():
            raise UserError(
                f"{path} is a policy on its own, without critic, replay buffer or curves: give the "
                "directory of a run."
            )
        if not (path / "config.json").is_file():
            raise UserError(
                f"{path} is not a run directory: it has no config.json. "
                "`kilolayer train` makes one and prints its path."
            )
        return RunDirectory(path, writes)

    def require_same_config(self) -> None:
        """Raises UserError if config.json was changed since the run began."""
        path, config = shell_quoted(self.path), shell_quoted(self.path / "config.json")
        remedy = (
            "put it back from a copy, or train on with other options in a new run: "
            f"`kilolayer train --config {config} --start-from {path}`"
        )
        for run in dict.fromkeys((self, *self.members)):
            manifest = read_json(run.path / "manifest.json", remedy)
            if not isinstance(manifest, dict) or not manifest:
                raise UserError(f"{run.path / 'manifest.json'} is damaged: {remedy}.")
            recorded, file = manifest.get(CONFIG_KEY), run.path / "config.json"
            # Runs of earlier releases have no checksum.
            if recorded is not None and recorded != _sha256(file.read_bytes()):
                raise UserError(
                    f"{file} was changed since the run began, and a run goes on with the options "
                    f"that it began with: {remedy}."
                )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that train together here, or the seed of this run."""
        listed = self.path / "seeds.json"
        folders = [path.name.removeprefix("seed_") for path in self.path.glob("seed_*")]
        inside = sorted(int(name) for name in folders if name.isdecimal())
        if not inside and not listed.exists():
            return (self.config.seed,)
        remedy = f"write the numbers of its folders seed_N into it, {json.dumps(inside)}"
        if not inside:
            remedy = "it has no folders seed_N: restore them from a copy, or delete that file"
        found = read_json(listed, remedy)
        same = isinstance(found, list) and sorted(map(str, found)) == sorted(map(str, inside))
        if not same or not inside:
            raise UserError(f"{listed} is damaged: {remedy}.")
        return tuple(map(int, found))

    @property
    def members(self) -> list["RunDirectory"]:
        """The run directory of each of `seeds`; this one if there is only one seed."""
        if len(self.seeds) == 1:
            return [self]
        return [RunDirectory(self.path / f"seed_{seed}", self.writes) for seed in self.seeds]

    @property
    def config(self) -> RunConfig:
        return RunConfig.read(self.path / "config.json")

    def recorded(self, key: str) -> Any:
        """An entry of the manifest; None if there is none, or if the manifest cannot be read."""
        with suppress(OSError, ValueError, RecursionError):
            manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
            return manifest.get(key) if isinstance(manifest, dict) else None
        return None

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def restore_agent(self, rounds: int, like: Any, averages: bool) -> AveragedAgent:
        """The agent of a checkpoint, of the shapes `like`, and its average if it `averages`."""
        kept = AveragedAgent(like, like.parameters.actor) if averages else like
        found = checkpoint.restore(self.checkpoints, rounds, checkpoint.AGENT, kept)
        return found if averages else AveragedAgent(found, None)

    @property
    def finished(self) -> bool:
        return (self.path / "DONE").exists()

    def restore_folders(self) -> None:
        """Create the folders that were deleted; UserError for a file in the place of one."""
        for folder in FOLDERS:
            with guard_disk(self.path / folder):
                (self.path / folder).mkdir(exist_ok=True)

    def mark_finished(self) -> None:
        if self.writes:
            write_atomically(self.path / "DONE", "")

    def write_episodes(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace the episodes of a goal split, or the `batch`."""
        if not self.writes:
            return
        target = self.path / "episodes" / f"{name}.npz"
        with replacing(target, f".{name}.writing.npz") as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **dict(arrays))

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Append one line with the time to metrics.jsonl, and flush the file.

        Raises ValueError for a number that is not finite, which JSON cannot express.
        """
        if not self.writes:
            return
        line = json.dumps({**event, "time": time.time()}, allow_nan=False)
        target = self.path / "metrics.jsonl"
        with guard_disk(target), target.open("a", encoding="utf-8") as file:
            # A killed process may have left a partial line, which must not merge with this one.
            partial = file.tell() > 0 and not _ends_with_newline(target)
            file.write(("\n" if partial else "") + line + "\n")

    def read_events(self) -> list[dict[str, Any]]:
        """All valid events, in order.

        A resumed run repeats the rounds after its checkpoint: a `resume` event at round n cancels
        all earlier events of later rounds. A partial line that a killed process left is skipped.
        Other damaged lines are skipped with a warning.
        """
        events: list[dict[str, Any]] = []
        unreadable = damaged = 0
        for line in self._lines():
            event = _event(line)
            if event is None:
                unreadable += 1
                continue
            if event["event"] == "resume":
                last = event["round"]  # 0: there was no checkpoint, so all rounds are repeated
                events = [earlier for earlier in events if last and earlier["round"] <= last]
            else:
                damaged += unreadable  # after a kill, only a resume event follows a partial line
            unreadable = 0
            events.append(event)
        if damaged:
            target = self.path / "metrics.jsonl"
            warnings.warn(f"{damaged} lines of {target} are damaged: passed over", stacklevel=2)
        return events

    def _lines(self) -> list[bytes]:
        target = self.path / "metrics.jsonl"
        return target.read_bytes().splitlines() if target.is_file() else []

    @property
    def has_trained(self) -> bool:
        """Whether the run has a checkpoint or an event of its training."""
        if self.path.is_dir() and checkpoint.steps(self.checkpoints):
            return True
        files = self.path.glob("**/metrics.jsonl")
        events = [_event(line) for file in files for line in RunDirectory(file.parent)._lines()]
        return any(event and event["event"] not in BEFORE_LEARNING for event in events)


def run_lock(path: Path) -> AbstractContextManager[None]:
    """A lock on a run directory, so that no other process trains in it.

    Raises UserError if another process trains in it, or if it cannot be written.
    """
    busy = f"another process trains in {path}: wait for it, or choose another directory with --out."
    return file_lock(path / LOCK, busy)


@contextmanager
def new_run_lock(path: Path) -> Iterator[None]:
    """Lock a new run directory, and delete it if an error ends the run before it has trained."""
    require_free(path)
    created = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
    try:
        with run_lock(path):
            yield
    except BaseException as error:
        if path.is_dir() and not RunDirectory(path).has_trained and not _is_locked(path):
            _clear(path)
            error.add_note("the run had not trained yet, so its directory was deleted")
            with suppress(OSError):  # a folder with other files stays
                for folder in created:
                    folder.rmdir()
        raise


def require_free(path: Path) -> None:
    """Raises UserError unless a new run may be created there."""
    if not path.exists() or is_unstarted(path):
        return
    if not (path / "config.json").is_file():
        raise UserError(f"{path} exists already and holds no run: choose another with --out.")
    raise UserError(
        f"the run directory {path} exists already: choose another with --out, or continue "
        f"its run with `kilolayer train --resume {shell_quoted(path)}`."
    )


def is_unstarted(path: Path) -> bool:
    """Whether a directory is empty, or a run directory whose creation was killed."""
    if not path.is_dir() or (path / "config.json").exists():
        return False
    for inside in path.rglob("*"):
        known_folder = inside.name in FOLDERS or inside.name.startswith("seed_")
        known_file = inside.name.endswith(".writing") or inside.name in FIRST_FILES
        seed_config = inside.name == "config.json" and inside.parent != path
        if not (known_folder if inside.is_dir() else known_file or seed_config):
            return False
    return True


def _is_locked(path: Path) -> bool:
    """Whether another process trains there."""
    try:
        with run_lock(path):
            return False
    except UserError:
        return True


def _clear(path: Path) -> None:
    for inside in path.iterdir():
        if inside.is_dir() and not inside.is_symlink():
            shutil.rmtree(inside, ignore_errors=True)
        else:
            inside.unlink(missing_ok=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line of metrics.jsonl, or None if the line holds no complete event."""
    try:
        event = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    metrics = event.get("metrics", {})
    counts = ("round", "env_steps", "updates") if "metrics" in event else ("round",)
    if not isinstance(metrics, dict) or not all(_is_count(event.get(name)) for name in counts):
        return None
    numbers = [event[name] for name in NUMBERS if name in event] + list(metrics.values())
    for name in DURATIONS:
        if not isinstance(event.get(name, {}), dict):
            return None
        numbers += event.get(name, {}).values()
    return event if all(map(_is_finite, numbers)) else None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
