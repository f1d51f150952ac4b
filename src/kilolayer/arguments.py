"""The command-line options of `train` and `plan`: all settings of a run, and their defaults.

`--agent NAME` chooses the agent, and with it the agent's options.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from kilolayer.agents.base import ActorCritic, OnPolicyAgent
from kilolayer.agents.registry import AGENTS, owners_of
from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.losses.energies import RENAMED, present_name
from kilolayer.recipes import RECIPES, with_recipe
from kilolayer.recommendations import recommended
from kilolayer.replay.config import ReplayConfig
from kilolayer.run_directory import RunDirectory, is_unstarted
from kilolayer.runtime.devices import THIS_MACHINE
from kilolayer.settings import settings_of
from kilolayer.tasks.choice import require_one_task
from kilolayer.terminal import READERS


@dataclasses.dataclass(frozen=True)
class ConfigArguments:
    """The config of a run, its agent and its devices."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    agent: str = "crl"
    """Algorithm: crl, sac, sac-her, td3-her, ppo or gcsl; with a dataset crl, gcbc or bc; or
    module:Class of your own. Change it to compare algorithms. The agent options below are those of
    this agent."""
    devices: int | None = None
    """Number of devices to train on. Default: all devices of all processes. Lower it to leave
    devices to other programs."""


@dataclasses.dataclass(frozen=True)
class TrainArguments(ConfigArguments):
    """Train an agent, evaluate it during training and write its report."""

    out: Path | None = None
    """Run directory to create. Default: a new one under runs/."""
    resume: Path | None = None
    """Continue the killed run in this directory, with the options that it was started with."""
    seeds: int = 1
    """Number of seeds, from `seed` on, that train together as one program on one device. Each seed
    has its own run. Raise it to see how much scores vary by chance."""
    model_devices: int = 1
    """Number of devices that share the width of the networks. Default: 1. Raise it for networks
    that are too large for one device."""
    coordinator: str | None = None
    """host:port of process 0, if several processes train together. Default: one process. Slurm
    tasks need no option."""
    num_processes: int | None = None
    """Number of processes that train together. Only with --coordinator."""
    process_id: int | None = None
    """Number of this process, from 0. Only with --coordinator."""


@dataclasses.dataclass(frozen=True)
class PlanArguments(ConfigArguments):
    """Estimate what a run will cost and whether it fits, without training."""

    device: str = THIS_MACHINE
    """Device that will train: `cpu` (this machine), or an accelerator such as h100-80g."""
    calibration: bool = True
    """Time a few updates and steps on this machine, about 20 seconds, to estimate the hours."""
    json: str | None = None
    """Write the figures to this JSON file; - prints them instead of the tables."""


Arguments = TypeVar("Arguments", bound=ConfigArguments)


def with_config(kind: type[Arguments], command: str, arguments: list[str]) -> Arguments:
    """Parse the options of a command. The task, a config file, a recipe and the agent set the
    defaults of all other options."""
    base, rest = _base_config(arguments)
    for option in rest:
        _check_owner(option, base)
    parsed = tyro.cli(
        kind,
        args=rest,
        prog=f"kilolayer {command}",
        default=kind(config=base, agent=base.agent_name),
        config=(tyro.conf.OmitArgPrefixes,),
        registry=READERS,
        description=(
            f"{kind.__doc__} --task NAME starts from the recommended settings of the task: "
            f"`kilolayer {command} --task NAME --help` shows them as the defaults. --agent NAME "
            "chooses the algorithm and shows its options. --recipe NAME "
            f"({', '.join(RECIPES)}) applies the settings of a published method; wang2025 is the "
            "paper's. --config FILE.json starts from a file instead. Every other option overrides "
            f"all of these. The defaults shown here are those of {base.task.name}."
        ),
    )
    require_one_task(parsed.config.task, _value(rest, "--task"))
    if isinstance(parsed, TrainArguments) and parsed.resume and not is_unstarted(parsed.resume):
        _check_resumed(parsed, arguments)
    return parsed


def _base_config(arguments: list[str]) -> tuple[RunConfig, list[str]]:
    """The config that the options override, and the remaining options."""
    before = ["", *arguments]
    rest = [_with_present_name(*pair) for pair in zip(before, arguments, strict=False)]
    file, recipe = _take(rest, "--config"), _take(rest, "--recipe")
    agent = _value(rest, "--agent")
    if file is not None:
        base = RunConfig.read(Path(file))
        base = base if agent is None else base.having(agent=agent)
    else:
        chosen = {name: _value(rest, f"--{name}") for name in ("gym", "mjcf", "agent")}
        given: dict[str, Any] = {n: value for n, value in chosen.items() if value is not None}
        base = recommended(_value(rest, "--task"), **given)
    return base if recipe is None else with_recipe(base, recipe), rest


def _check_owner(option: str, base: RunConfig) -> None:
    """Raises UserError for an option that does nothing with this run's agent."""
    name = _name_of(option)
    if name is None:
        return
    shown, agent, owners = f"--{name.replace('_', '-')}", base.agent_name, owners_of(name)
    if owners and name not in base.flat():
        raise UserError(
            f"{shown} is an option of the agents {', '.join(owners)}, and this run's agent is "
            f"{agent}: leave it out, or choose one of them with --agent."
        )
    if name in settings_of(ReplayConfig) and isinstance(base.agent, OnPolicyAgent):
        raise UserError(f"{shown}: the agent {agent} has no replay buffer, leave it out.")
    if name == "critic_depth" and agent in AGENTS and not isinstance(base.agent, ActorCritic):
        raise UserError(f"{shown}: the agent {agent} has no critic, leave it out.")


def _check_resumed(parsed: TrainArguments, arguments: list[str]) -> None:
    """Raises UserError for an option that contradicts the run that is resumed."""
    assert parsed.resume is not None
    options = {name for each in arguments if (name := _name_of(each)) is not None}
    run = RunDirectory.open(parsed.resume)
    changed = None
    if parsed.out not in (None, parsed.resume):
        changed = "out"
    elif "seeds" in options and parsed.seeds != len(run.seeds):
        changed = "seeds"
    else:
        before, now = run.config.flat(), parsed.config.flat()
        named = now if options & {"config", "recipe"} else options
        changed = next((key for key in now if key in named and now[key] != before.get(key)), None)
    if changed is not None:
        raise UserError(
            f"--resume {parsed.resume} goes on with the options that the run began with, and "
            f"--{changed.replace('_', '-')} differs: omit all other options, or begin a new run "
            "from its networks with --start-from."
        )


def _name_of(option: str) -> str | None:
    """The name of the setting that an option sets; None for a value."""
    if not option.startswith("--"):
        return None
    return option[2:].split("=")[0].replace("-", "_").removeprefix("no_")


def _with_present_name(before: str, argument: str) -> str:
    """The argument, with a former value of --energy replaced by its present name and a warning.

    before: the argument before it.
    """
    option, _, value = argument.rpartition("=")
    if value in RENAMED and "--energy" in (option, before if not option else None):
        return f"{option}={present_name(value)}" if option else present_name(value)
    return argument


def _take(arguments: list[str], option: str) -> str | None:
    """The value of an option, which is removed; None if the option is not there."""
    value, at = _value(arguments, option), _position(arguments, option)
    if at is not None:
        del arguments[at : at + (1 if "=" in arguments[at] else 2)]
    return value


def _value(arguments: list[str], option: str) -> str | None:
    """The value of an option, or None without it. Raises UserError for an option without value."""
    at = _position(arguments, option)
    if at is None:
        return None
    if "=" in arguments[at]:
        return arguments[at].split("=", 1)[1]
    if at + 1 == len(arguments) or arguments[at + 1].startswith("--"):
        raise UserError(f"{option} needs a value.")
    return arguments[at + 1]


def _position(arguments: list[str], option: str) -> int | None:
    return next((i for i, a in enumerate(arguments) if a.split("=")[0] == option), None)
