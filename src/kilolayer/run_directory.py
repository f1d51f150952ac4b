"""The run directory: the one place where a run's traces live.

config.json      what the user said; reading it gives the same config back
manifest.json    command, versions, git state, devices, seed
metrics.jsonl    append-only, one event a line, all numbers finite: train, evaluation, checkpoint,
                 profile, resume; diverged, in a round in which environments had to be reset because
                 their physics left finite numbers; nonfinite, where a number of the agent stops the
                 run
checkpoints/     see `kilolayer.runtime.checkpoint`
episodes/        the newest evaluation episodes of each goal split and one training batch
                 (batch.npz), as .npz arrays
media/           videos and pictures
report.html      written by `kilolayer report`
wandb_id         the id of the run at Weights & Biases, where it is logged there
DONE             present when the run has finished
seeds.json       where several seeds train as one program: each has a run directory seed_N inside
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer.config import RunConfig
from kilolayer.runtime.files import guard_disk, write_atomically
from kilolayer.runtime.zoo import CARD, resolve
from kilolayer.types import UserError


@dataclass(frozen=True)
class RunDirectory:
    """writes: false in all but one of several processes, where every write is passed over."""

    path: Path
    writes: bool = True

    @staticmethod
    def create(
        path: Path, config: RunConfig, manifest: Mapping[str, Any], writes: bool = True
    ) -> "RunDirectory":
        """Make a new run directory; raises UserError if something is there already."""
        if not writes:
            return RunDirectory(path, writes)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(
                f"the run directory {path} exists already: choose another with --out, or continue "
                f"its run with `kilolayer train --resume {path}`."
            )
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            (path / "episodes").mkdir(exist_ok=True)
            (path / "media").mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the run directory {path}: {error.strerror}.") from error
        run = RunDirectory(path)
        write_atomically(path / "manifest.json", json.dumps(dict(manifest), indent=2) + "\n")
        write_atomically(path / "config.json", config.to_json())
        return run

    @staticmethod
    def open(path: Path, writes: bool = True) -> "RunDirectory":
        """An existing run directory; raises UserError if it is none."""
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

    def create_members(self, seeds: Sequence[int], manifest: Mapping[str, Any]) -> None:
        """A run directory inside this one for each of the seeds that train together."""
        for seed in seeds:
            own = self.config.having(seed=seed)
            RunDirectory.create(self.path / f"seed_{seed}", own, {**manifest, "seed": seed})
        write_atomically(self.path / "seeds.json", json.dumps(list(seeds)) + "\n")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that train together here, or the one of this run."""
        listed = self.path / "seeds.json"
        return tuple(json.loads(listed.read_text())) if listed.exists() else (self.config.seed,)

    @property
    def members(self) -> list["RunDirectory"]:
        """The run directory of each of `seeds`: this one if there is but one."""
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
        with guard_disk(target):
            temporary = target.with_name(f".{name}.writing.npz")
            np.savez_compressed(temporary, allow_pickle=False, **dict(arrays))
            os.replace(temporary, target)

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, with the time, and hand it to the system.

        Raises ValueError for a number that is not finite: it would not be JSON.
        """
        if not self.writes:
            return
        line = json.dumps({**event, "time": time.time()}, allow_nan=False)
        target = self.path / "metrics.jsonl"
        with guard_disk(target), target.open("a") as file:
            # A killed writer may have left half a line; it must not swallow this one.
            torn = file.tell() > 0 and not _ends_with_newline(target)
            file.write(("\n" if torn else "") + line + "\n")

    def read_events(self) -> list[dict[str, Any]]:
        """All events that count, in order.

        A resumed run repeats what came after its checkpoint: a `resume` event at round n voids
        every earlier event beyond n. A line torn by a kill is passed over.
        """
        events: list[dict[str, Any]] = []
        target = self.path / "metrics.jsonl"
        for line in target.read_text().splitlines() if target.exists() else ():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if event["event"] == "resume":
                kept = event["round"]  # 0: there was no checkpoint, so everything is repeated
                events = [earlier for earlier in events if kept and earlier["round"] <= kept]
            events.append(event)
        return events


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
