"""What `train` and `plan` take on the command line: every field of a config, and where to start."""

import dataclasses
from pathlib import Path
from typing import TypeVar

import tyro

from kilolayer.config import TrainConfig
from kilolayer.recipes import RECIPES, with_recipe
from kilolayer.recommended import recommended
from kilolayer.runtime.devices import THIS_MACHINE
from kilolayer.types import UserError


@dataclasses.dataclass(frozen=True)
class ConfigArguments(TrainConfig):
    """A config, and what is done with it."""

    devices: int | None = None
    """Devices to train on; by default all there are, of all processes."""

    def config(self) -> TrainConfig:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(TrainConfig)}
        return TrainConfig(**fields)


@dataclasses.dataclass(frozen=True)
class TrainArguments(ConfigArguments):
    """Train an agent, evaluate it on the way and write its report."""

    out: Path | None = None
    """The run directory to make; by default a fresh one under runs/."""
    resume: Path | None = None
    """Continue the killed run in this directory; the run's options are then taken from it."""
    seeds: int = 1
    """How many seeds train as one program on one device, from `seed` on; a run for each."""
    model_devices: int = 1
    """Devices that share the width of the networks, for networks too large for one."""
    coordinator: str | None = None
    """Train as one of several processes: host:port of process 0. Slurm's tasks find it alone."""
    num_processes: int | None = None
    """How many processes train together."""
    process_id: int | None = None
    """Which of them this is, from 0."""


@dataclasses.dataclass(frozen=True)
class PlanArguments(ConfigArguments):
    """Tell what a run will cost and whether it fits, without training."""

    device: str = THIS_MACHINE
    """Where the run is to be: `cpu`, this machine, or an accelerator such as h100-80g."""
    calibration: bool = True
    """Time a few updates and steps on this machine, about 20 seconds, to tell the hours."""
    json: str | None = None
    """Write the figures to this file, for machines; - prints them instead of the tables."""


Arguments = TypeVar("Arguments", bound=ConfigArguments)


def with_config(kind: type[Arguments], command: str, arguments: list[str]) -> Arguments:
    """Parse the options of a command; the task, a config file and a recipe set the defaults of all
    others."""
    base, rest = _base_config(arguments)
    return tyro.cli(
        kind,
        args=rest,
        prog=f"kilolayer {command}",
        default=kind(**dataclasses.asdict(base)),
        description=(
            f"{kind.__doc__} --task NAME starts from the settings that the task learns best with: "
            f"`kilolayer {command} --task NAME --help` shows them as the defaults. --recipe NAME "
            f"({', '.join(RECIPES)}) puts a published method over them; wang2025 is the paper's. "
            "--config FILE.json starts from a file instead. Every other option goes over all of "
            f"these. The defaults shown here are those of {base.task_name}."
        ),
    )


def _base_config(arguments: list[str]) -> tuple[TrainConfig, list[str]]:
    """What the options go over, and the options without those that chose it."""
    rest = list(arguments)
    file, recipe = _take(rest, "--config"), _take(rest, "--recipe")
    if file is not None:
        base = TrainConfig.read(Path(file))
    else:
        task = _value(rest, "--task")
        others = {name: _value(rest, f"--{name}") for name in ("gym", "mjcf")}
        base = recommended(task, **{name: value for name, value in others.items() if value})
    return base if recipe is None else with_recipe(base, recipe), rest


def _take(arguments: list[str], option: str) -> str | None:
    """The value of an option, which is removed; None if it is not there."""
    value = _value(arguments, option)
    if value is not None:
        at = _position(arguments, option)
        assert at is not None
        del arguments[at : at + (1 if "=" in arguments[at] else 2)]
    return value


def _value(arguments: list[str], option: str) -> str | None:
    """The value of an option, or None if it is not there; raises UserError if it has none."""
    at = _position(arguments, option)
    if at is None:
        return None
    if "=" in arguments[at]:
        return arguments[at].split("=", 1)[1]
    if at + 1 == len(arguments):
        raise UserError(f"{option} needs a value.")
    return arguments[at + 1]


def _position(arguments: list[str], option: str) -> int | None:
    return next((i for i, a in enumerate(arguments) if a.split("=")[0] == option), None)
