"""The run directory: the one place that holds everything a run writes.

config.json      the run's config; reading it gives the same config back. It is the last file to be
                 written into a new run directory: without it no run has begun
manifest.json    command, versions, git state, devices, seed, SHA-256 of config.json
lock             held by the process that trains here
metrics.jsonl    append-only, one event a line, all numbers finite: train, evaluation, checkpoint,
                 profile, resume; diverged, in a round in which environments were reset because
                 their physics was no longer finite; nonfinite, if a number of the agent that is not
                 finite stops the run
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer.config import RunConfig
from kilolayer.runtime import checkpoint
from kilolayer.runtime.files import (
    cannot_write,
    guard_disk,
    read_json,
    replacing,
    shell,
    write_atomically,
)
from kilolayer.runtime.lock import locked
from kilolayer.runtime.zoo import CARD, resolve
from kilolayer.types import UserError

CONFIG_KEY = "config_sha256"  # in the manifest
LOCK = "lock"
FOLDERS = ("checkpoints", "episodes", "media")
# Files that a process may leave anywhere in a run directory if it is killed while making it.
FIRST_FILES = ("manifest.json", "seeds.json", LOCK)
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
        """Make a new run directory; raises UserError if something is there already.

        seeds: those that train together, each in a run directory inside this one.
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
        """Raises UserError if config.json was changed since the run began, because its results
        would belong to neither config."""
        way_out = f"put it back from a copy, or {self._other_options}"
        for run in dict.fromkeys((self, *self.members)):
            manifest = read_json(run.path / "manifest.json", way_out)
            began_with = manifest.get(CONFIG_KEY) if isinstance(manifest, dict) else None
            file = run.path / "config.json"
            # Runs of earlier releases have no checksum.
            if began_with is not None and began_with != _sha256(file.read_bytes()):
                raise UserError(
                    f"{file} was changed since the run began, and a run goes on with the options "
                    f"that it began with: {way_out}."
                )

    @property
    def _other_options(self) -> str:
        path = shell(self.path)
        return (
            "train on with other options in a new run: `kilolayer train --config "
            f"{shell(self.path / 'config.json')} --start-from {path}`"
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that train together here, or the seed of this run."""
        listed = self.path / "seeds.json"
        folders = [path.name.removeprefix("seed_") for path in self.path.glob("seed_*")]
        inside = sorted(int(name) for name in folders if name.isdecimal())
        if not inside and not listed.exists():
            return (self.config.seed,)
        way_out = f"write the numbers of its folders seed_N into it, {json.dumps(inside)}"
        found = read_json(listed, way_out)
        if not isinstance(found, list) or sorted(map(str, found)) != sorted(map(str, inside)):
            raise UserError(f"{listed} is damaged: {way_out}.")
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

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def finished(self) -> bool:
        return (self.path / "DONE").exists()

    def mark_finished(self) -> None:
        if not self.writes:
            return
        write_atomically(self.path / "DONE", "")

    def write_episodes(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace the episodes of a goal split, or the `batch`."""
        if not self.writes:
            return
        target = self.path / "episodes" / f"{name}.npz"
        with replacing(target, f".{name}.writing.npz") as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **dict(arrays))

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, with the time, and pass it to the operating system.

        Raises ValueError for a number that is not finite: it would not be JSON.
        """
        if not self.writes:
            return
        line = json.dumps({**event, "time": time.time()}, allow_nan=False)
        target = self.path / "metrics.jsonl"
        with guard_disk(target), target.open("a", encoding="utf-8") as file:
            # A killed writer may have left half a line, which must not merge with this one.
            torn = file.tell() > 0 and not _ends_with_newline(target)
            file.write(("\n" if torn else "") + line + "\n")

    def read_events(self) -> list[dict[str, Any]]:
        """All events that count, in order.

        A resumed run repeats what came after its checkpoint: a `resume` event at round n cancels
        every earlier event beyond n. A line torn by a kill is skipped. A line that is damaged in
        another way is skipped with a warning.
        """
        events: list[dict[str, Any]] = []
        torn = damaged = 0
        for line in self._lines():
            event = _event(line)
            if event is None:
                torn += 1
                continue
            if event["event"] == "resume":
                kept = event["round"]  # 0: there was no checkpoint, so everything is repeated
                events = [earlier for earlier in events if kept and earlier["round"] <= kept]
            else:
                damaged += torn  # a line torn by a kill is followed by a resume only
            torn = 0
            events.append(event)
        if damaged:
            target = self.path / "metrics.jsonl"
            warnings.warn(f"{damaged} lines of {target} are damaged: passed over", stacklevel=2)
        return events

    def _lines(self) -> list[bytes]:
        target = self.path / "metrics.jsonl"
        return target.read_bytes().splitlines() if target.is_file() else []

    @property
    def learnt(self) -> bool:
        """Whether the run has learnt anything: it has a checkpoint, or an event of its training."""
        if self.path.is_dir() and checkpoint.steps(self.checkpoints):
            return True
        files = self.path.glob("**/metrics.jsonl")
        events = [_event(line) for file in files for line in RunDirectory(file.parent)._lines()]
        return any(event and event["event"] not in BEFORE_LEARNING for event in events)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold a run directory, so that no other process trains in it.

    Raises UserError if another process does, or if the directory cannot be written.
    """
    busy = f"another process trains in {path}: wait for it, or choose another directory with --out."
    with locked(path / LOCK, busy):
        yield


@contextmanager
def begun(path: Path) -> Iterator[None]:
    """Hold a new run directory. If an error ends the run before anything was learnt, remove all
    that was created."""
    require_free(path)
    made = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
    try:
        with claimed(path):
            yield
    except BaseException as error:
        if path.is_dir() and not RunDirectory(path).learnt and not _held(path):
            _clear(path)
            error.add_note("nothing was learnt, and nothing is left")
            with suppress(OSError):  # a folder that holds something else stays
                for folder in made:
                    folder.rmdir()
        raise


def require_free(path: Path) -> None:
    """Raises UserError unless a new run may be created there."""
    if path.exists() and not never_begun(path):
        raise UserError(
            f"the run directory {path} exists already: choose another with --out, or continue "
            f"its run with `kilolayer train --resume {shell(path)}`."
        )


def never_begun(path: Path) -> bool:
    """Whether a directory is empty, or holds only what a process leaves if it is killed while
    making it a run directory."""
    if not path.is_dir() or (path / "config.json").exists():
        return False
    for inside in path.rglob("*"):
        ours = inside.name in FOLDERS or inside.name.startswith("seed_")
        written = inside.name.endswith(".writing") or inside.name in FIRST_FILES
        of_a_member = inside.name == "config.json" and inside.parent != path
        if not (ours if inside.is_dir() else written or of_a_member):
            return False
    return True


def _held(path: Path) -> bool:
    """Whether another process trains there."""
    try:
        with claimed(path):
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
    return event if all(_is_finite(value) for value in metrics.values()) else None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
