"""What `train` and `plan` take on the command line: every field of a config, and where to start."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro

from kilolayer.config import TrainConfig
from kilolayer.presets import PRESETS, RECIPES, with_recipe
from kilolayer.runtime.devices import THIS_MACHINE
from kilolayer.types import UserError, bad_field


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
    """Parse the options of a command; preset, config file and recipe set all other defaults."""
    base, arguments = _take_base_config(arguments)
    names = "; ".join(f"{name}: {config.task}" for name, config in PRESETS.items())
    return tyro.cli(
        kind,
        args=arguments,
        prog=f"kilolayer {command}",
        default=kind(**dataclasses.asdict(base)),
        description=(
            f"{kind.__doc__} Without any option, the quickstart.\n\n"
            f"Start from a preset with --preset NAME ({names}) or from a file with --config "
            "FILE.json; options given beside it override its fields. --recipe NAME "
            f"({', '.join(RECIPES)}) then sets how to learn and leaves task and sizes alone. The "
            "defaults shown here are those of the preset, file and recipe chosen."
        ),
    )


def _take_base_config(arguments: list[str]) -> tuple[TrainConfig, list[str]]:
    base, rest = PRESETS["quickstart"], list(arguments)
    for option in ("--preset", "--config", "--recipe"):
        at = next((i for i, a in enumerate(rest) if a.split("=")[0] == option), None)
        if at is None:
            continue
        words = rest.pop(at).split("=", 1)
        if len(words) == 1 and at == len(rest):
            raise UserError(f"{option} needs a value.")
        value = words[1] if len(words) == 2 else rest.pop(at)
        if option == "--config":
            base = TrainConfig.read(Path(value))
        elif option == "--preset":
            base = PRESETS[_known("preset", value, PRESETS)]
        else:
            base = with_recipe(base, _known("recipe", value, RECIPES))
    return base, rest


def _known(field: str, name: str, choices: Mapping[str, Any]) -> str:
    if name not in choices:
        raise bad_field(field, name, f"one of {', '.join(choices)}", next(iter(choices)))
    return name
