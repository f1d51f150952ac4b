"""The config of a run: one frozen value that contains the settings of each package.

Every setting is an option of `kilolayer train` of the same name, and the text below it is the
option's help. `config.json` holds the settings by group; `kilolayer.migrate` reads older files.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from annotated_types import Interval

from kilolayer.agents.base import Agent
from kilolayer.agents.crl import CRL
from kilolayer.agents.registry import agent_class, name_of, owners_of
from kilolayer.errors import UserError, nearest
from kilolayer.migrate import VERSION, migrated, unknown_key
from kilolayer.networks.config import NetworkConfig
from kilolayer.physics.config import PhysicsConfig
from kilolayer.replay.config import ReplayConfig
from kilolayer.runtime.tracking import TrackingConfig
from kilolayer.settings import (
    MAX_INT32,
    MAX_SEED,
    NOT_A_SETTING,
    Count,
    Settings,
    Steps,
    settings_of,
    values_of,
)
from kilolayer.tasks.choice import TaskChoice

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class CollectionConfig(Settings):
    """Environments, steps and updates per step."""

    total_steps: Steps = 1_000_000
    """Environment steps of the whole run, summed over all environments and rounded up to whole
    unrolls. Raise it while scores still rise. With --dataset it sets only the number of
    updates."""
    num_envs: Count = 256
    """Environments that run in parallel. Raise it to use more cores, lower it to save memory."""
    unroll_length: Count = 62
    """Control steps of every environment between two rounds of updates. Raise it for less overhead,
    lower it for fresher data."""
    episode_length: Annotated[int, Interval(ge=2, le=MAX_INT32)] | None = None
    """Control steps of a training episode. Default: the task's own. Lower it for more starts."""
    goal_interval: Count | None = None
    """Resample each environment's goal every N control steps without a reset. Default: one goal per
    episode. Set it if some goals are never reached."""
    update_to_data: Annotated[float, Interval(gt=0, le=1_000_000)] = 1 / 40
    """Gradient updates per environment step. Raise it to learn more from each step at more
    computation."""
    dataset: str | None = None
    """Train offline from this .npz file in OGBench's layout, or from minari:NAME, a local data set
    of Minari (extra `minari`). Default: the agent collects its own steps. See docs/offline.md."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Settings):
    """Number of evaluations and of their episodes."""

    num_evaluations: Annotated[int, Interval(ge=1, le=1_000_000)] = 20
    """Evaluations during training, evenly spaced. One more precedes the first update. Lower it to
    save time."""
    evaluate_training_goals: bool = False
    """Also score the training goals at every evaluation, if they differ from the evaluation goals.
    Default: only at the last evaluation. Set it to see whether training goals are learnt first."""
    eval_envs: Count = 128
    """Episodes per evaluation. Raise it for narrower intervals."""
    samples: Count = 1
    """Actions sampled per evaluation step, of which the critic chooses the best. 1 takes the
    deterministic action. Raise it if the policy is worse than its critic."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Settings):
    """Checkpoints during training."""

    num_checkpoints: Annotated[int, Interval(ge=1, le=1_000_000)] | None = None
    """Checkpoints during training, evenly spaced, the last one at the end. Default: one after each
    evaluation. Lower it if the replay buffer is large; raise it to lose less when a run is
    killed."""
    keep_checkpoints: Count = 2
    """Newest checkpoints to keep, in addition to the one with the best evaluation. Older ones are
    deleted. Raise it to compare policies from different times of the run."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """The config of a training run. `kilolayer.recommended(task)` returns the recommended settings
    of a task. The plain defaults are those of arXiv 2503.14858 at laptop size, with scaled branches
    in networks deeper than 8 (`branch_scale`)."""

    task: TaskChoice = field(default_factory=TaskChoice, metadata=NOT_A_SETTING)
    agent: Agent = field(default_factory=CRL, metadata=NOT_A_SETTING)
    network: NetworkConfig = field(default_factory=NetworkConfig, metadata=NOT_A_SETTING)
    collection: CollectionConfig = field(default_factory=CollectionConfig, metadata=NOT_A_SETTING)
    physics: PhysicsConfig = field(default_factory=PhysicsConfig, metadata=NOT_A_SETTING)
    replay: ReplayConfig = field(default_factory=ReplayConfig, metadata=NOT_A_SETTING)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig, metadata=NOT_A_SETTING)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig, metadata=NOT_A_SETTING)
    tracking: TrackingConfig = field(default_factory=TrackingConfig, metadata=NOT_A_SETTING)
    # JAX ignores higher bits, so that two larger seeds could give the same run.
    seed: Annotated[int, Interval(ge=0, lt=MAX_SEED)] = 0
    """Seed of all random numbers. The same seed on the same machine gives a bit-identical result.
    Change it to repeat a run."""
    start_from: str | None = None
    """Continue from the networks and optimisers of this run, with other options. Default: random
    networks from the seed."""

    def check(self) -> None:
        for name, kind in GROUPS.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}; `having` takes single settings")

    @property
    def agent_name(self) -> str:
        """The agent's registered name, or module:Class."""
        return name_of(self.agent)

    @property
    def groups(self) -> dict[str, Settings]:
        """The groups of settings by name."""
        return {name: getattr(self, name) for name in GROUPS}

    def having(self, **settings: Any) -> "RunConfig":
        """The config with other settings, each by its own name: `config.having(depth=16)`.

        agent: an agent, or the name of one; a name keeps the settings that both agents have. Raises
        UserError for an unknown setting, or one that only other agents have.
        """
        config, changed = self, dict(settings)
        if "agent" in changed:
            agent = changed.pop("agent")
            agent = _as_agent(config.agent, agent) if isinstance(agent, str) else agent
            config = dataclasses.replace(config, agent=agent)
        groups: dict[str, dict[str, Any]] = {}
        for name, value in changed.items():
            if name in GROUPS and isinstance(value, Settings):
                config = dataclasses.replace(config, **{name: value})
            else:
                groups.setdefault(config.group_of(name), {})[name] = value
        own = groups.pop("", {})
        for group, values in groups.items():
            own[group] = dataclasses.replace(getattr(config, group), **values)
        return dataclasses.replace(config, **own)

    def taking(self, settings: Mapping[str, Any]) -> "RunConfig":
        """The config with other settings; settings that it does not have are ignored."""
        known = self.flat()
        return self.having(**{name: value for name, value in settings.items() if name in known})

    def group_of(self, setting: str) -> str:
        """The group that a setting belongs to, "" for the run's own settings.

        Raises UserError for an unknown setting, or one that only other agents have.
        """
        if setting in settings_of(self):
            return ""
        for name, group in self.groups.items():
            if setting in settings_of(group):
                return name
        if owners_of(setting):
            raise _owned_by_others(setting, self.agent_name)
        close = nearest(setting, list(self.flat()))
        raise UserError(f"there is no setting {setting!r}; the nearest is {close!r}.")

    def flat(self) -> dict[str, Any]:
        """Every setting by its own name, and the agent's name."""
        found: dict[str, Any] = {}
        for name, group in self.groups.items():
            found |= values_of(group)
            if name == "task":
                found["agent"] = self.agent_name
        return found | values_of(self)

    def to_dict(self) -> dict[str, Any]:
        """The content of `to_json`: every setting by group, and the version of the format."""
        groups = {name: values_of(group) for name, group in self.groups.items()}
        groups["agent"] = {"name": self.agent_name, **groups["agent"]}
        return {"version": VERSION, **groups, **values_of(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, source: str) -> "RunConfig":
        """Read a config file's text, of this format or an older one; `source` names it in errors.

        Raises UserError for invalid JSON, an unknown key, a value of the wrong type, and a config
        of a task that has changed since the file was written.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source} is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise UserError(f"{source} must hold one JSON object of settings.")
        return _built(migrated(values, source), source)

    @staticmethod
    def read(path: Path) -> "RunConfig":
        """The config in a JSON file; raises UserError if it cannot be read."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot read the config file {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"the config file {path} is not UTF-8 text: write it again or restore a copy."
            ) from error
        return RunConfig.from_json(text, str(path))


GROUPS: dict[str, type[Settings]] = {
    name: kind
    for name, kind in get_type_hints(RunConfig).items()
    if name not in settings_of(RunConfig)
}


def run_config(**settings: Any) -> RunConfig:
    """The plain defaults with other settings, each by its own name."""
    return RunConfig().having(**settings)


def _as_agent(before: Agent, name: str) -> Agent:
    """The agent called `name`, with the settings that it shares with another."""
    kind = agent_class(name)
    shared = {key: value for key, value in values_of(before).items() if key in settings_of(kind)}
    return before if kind is type(before) else kind(**shared)


def _built(values: dict[str, Any], source: str) -> RunConfig:
    known = (*GROUPS, *settings_of(RunConfig))
    parts: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_key(key, known, source)
        if key not in GROUPS:
            parts[key] = value
            continue
        if not isinstance(value, dict):
            raise UserError(f"{source}: {key} must be one JSON object of settings.")
        kind, own, agent = GROUPS[key], dict(value), ""
        if key == "agent":
            agent = str(own.pop("name", "crl"))
            kind = agent_class(agent)
        for name in own:
            if name in settings_of(kind):
                continue
            if agent and owners_of(name):
                raise UserError(f"{source}: {_owned_by_others(name, agent)}")
            raise unknown_key(name, settings_of(kind), f"{source}: {key}")
        parts[key] = _made(kind, own, source)
    return _made(RunConfig, parts, source)


def _made(kind: Callable[..., Made], values: dict[str, Any], source: str) -> Made:
    """`kind(**values)`; a refused value is told with its source."""
    try:
        return kind(**values)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _owned_by_others(setting: str, agent: str) -> UserError:
    """The error for a setting that only other agents have."""
    return UserError(
        f"{setting} is a setting of the agents {', '.join(owners_of(setting))}, and this run's "
        f"agent is {agent}: leave it out, or choose one of them with agent."
    )
