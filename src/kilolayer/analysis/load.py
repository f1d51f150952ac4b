"""A run directory as a Python object: its curves, its newest policy and critic."""

import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.base import ActingAgent, Agent, TaskSpec
from kilolayer.agents.registry import task_spec
from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.run_directory import TASK_KEY, RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.devices import refuse_wrong_jax
from kilolayer.runtime.files import shell_quoted
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of

# Arrays in a file of evaluation episodes; see `kilolayer.training.evaluate.Episodes`.
EPISODE_ARRAYS = ("start", "goal", "achieved", "alive", "qpos")


@dataclass(frozen=True)
class Policy:
    """A trained policy for numpy users: `action = policy(observation, goal)`.

    Deterministic. Takes one observation `[observation]` and goal `[goal]`, or a batch of each, and
    returns `[action]` or `[batch, action]` in [-1, 1].
    """

    agent: ActingAgent
    state: Any
    task: TaskSpec

    def __call__(self, observation: Any, goal: Any) -> np.ndarray:
        observation, goal = np.asarray(observation, np.float32), np.asarray(goal, np.float32)
        task = self.task
        for name, array, dim in (
            ("observation", observation, task.observation_dim),
            ("goal", goal, task.goal_dim),
        ):
            if array.ndim not in (1, 2) or array.shape[-1] != dim:
                raise UserError(
                    f"{name} has the shape {array.shape}; this policy takes [{dim}] or "
                    f"[batch, {dim}]."
                )
        action = np.asarray(self._act(np.atleast_2d(observation), np.atleast_2d(goal)))
        return action if observation.ndim == 2 else action[0]

    @cached_property
    def _act(self) -> Any:
        key = jax.random.key(0)  # not used by a deterministic action

        @jax.jit
        def act(observation: jax.Array, goal: jax.Array) -> jax.Array:
            return self.agent.act(self.state, observation, goal, key, deterministic=True)

        return act


@dataclass(frozen=True)
class Run:
    """A run that has at least one checkpoint."""

    directory: RunDirectory

    @property
    def path(self) -> Path:
        return self.directory.path

    @cached_property
    def config(self) -> RunConfig:
        return self.directory.config

    @cached_property
    def task(self) -> Task:
        task = task_of(self.config.task)
        warn_if_changed(task, self.directory.recorded(TASK_KEY), self.path)
        return task

    @cached_property
    def schedule(self) -> TrainSchedule:
        return TrainSchedule.derive(self.config, self.task.episode_length)

    @property
    def progress_unit(self) -> str:
        """The unit in which the run's progress is counted."""
        return "environment steps" if self.config.collection.dataset is None else "updates"

    @property
    def planned_progress(self) -> int:
        """The run's progress at its end, in `progress_unit`."""
        online = self.config.collection.dataset is None
        return self.schedule.total_steps if online else self.schedule.updates

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The run's events in order; see `RunDirectory.read_events`."""
        return self.directory.read_events()

    @cached_property
    def metric_names(self) -> frozenset[str]:
        """Names of all metrics that the run has logged."""
        return frozenset(name for event in self.events for name in event.get("metrics", {}))

    def newest_count(self, name: Literal["env_steps", "updates"]) -> int:
        """The newest value of a counter, 0 before the first event."""
        return max((event.get(name, 0) for event in self.events), default=0)

    def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """`(environment steps, values)` of a metric such as `evaluation/success`.

        A run that learns from a dataset has updates in place of steps: see `progress_unit`.
        """
        points = [
            (event["env_steps"] or event["updates"], event["metrics"][metric])
            for event in self.events
            if metric in event.get("metrics", {})
        ]
        return tuple(np.array(points).reshape(-1, 2).T)  # type: ignore[return-value]

    def newest(self, metric: str) -> float | None:
        """The last value of a metric; None if it was never logged."""
        values = self.curve(metric)[1]
        return float(values[-1]) if len(values) else None

    def final(self, metric: str) -> float:
        """The last value of a metric; raises KeyError if it was never logged."""
        value = self.newest(metric)
        if value is None:
            raise KeyError(metric)
        return value

    @property
    def wall_clock_seconds(self) -> float:
        """Seconds of work up to the newest checkpoint, without pauses before a resume."""
        seconds = [event["seconds"] for event in self.events if "seconds" in event]
        return sum(seconds[-1].values()) if seconds else 0.0

    @property
    def diverged(self) -> tuple[int, float]:
        """How often environments diverged during training, and that count per environment step."""
        count = int(self.curve("collect/diverged")[1].sum())
        return count, count / max(self.newest_count("env_steps"), 1)

    @cached_property
    def agent(self) -> Agent:
        return build_agent(self.config, self.schedule, self.task)

    @cached_property
    def agent_state(self) -> Any:
        """The agent's state in the newest checkpoint, with the averaged actor if the run keeps one,
        as in evaluations. Raises UserError if there is no checkpoint."""
        step = checkpoint.latest(self.directory.checkpoints)
        if step is None and self.directory.finished:
            raise UserError(
                f"the run in {self.path} has finished and its checkpoints are gone: restore "
                f"{self.directory.checkpoints} from a copy."
            )
        if step is None:
            raise UserError(
                f"the run in {self.path} has no checkpoint yet: wait for its first one, or "
                f"continue it with `kilolayer train --resume {shell_quoted(self.path)}`."
            )
        shapes = jax.eval_shape(self.agent.init, jax.random.key(0))
        averages = self.config.agent.average_decay > 0
        found = self.directory.restore_agent(step, shapes, averages)
        return jax.tree.map(jnp.asarray, found.evaluated)

    @cached_property
    def policy(self) -> Policy:
        return Policy(self.agent, self.agent_state, task_spec(self.task))

    def episodes(self, split: str) -> dict[str, np.ndarray]:
        """The newest evaluation episodes of a goal split, as `Episodes` describes them.

        Raises UserError if they are missing, damaged or of a wrong shape.
        """
        path = self.path / "episodes" / f"{split}.npz"
        arrays = read_arrays(path, EPISODE_ARRAYS)
        time, envs = arrays["alive"].shape if arrays["alive"].ndim == 2 else (0, 0)
        goal = (time, envs, self.task.goal.dim)
        fits = (
            time > 0
            and envs > 0
            and arrays["start"].shape == goal[1:]
            and arrays["goal"].shape == goal
            and arrays["achieved"].shape == goal
            and arrays["qpos"].ndim == 3
            and len(arrays["qpos"]) == time
            and 0 < arrays["qpos"].shape[1] <= envs
        )
        if not fits:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise UserError(f"{path} does not hold episodes of this run's task: {shapes}.")
        return arrays


def warn_if_changed(task: Task, recorded: Any, path: Path) -> None:
    """Warn if the user's own robot is not the one that a policy learnt with.

    recorded: the fingerprint of that one. path: the run or policy directory.
    """
    if task.has_changed(recorded):
        warnings.warn(
            f"{path} was trained on another robot: the file of {task.name} has changed since",
            stacklevel=1,  # one place, so that a run and its policy tell it once
        )


def load(path: str | Path) -> Run:
    """Open a run directory; raises UserError if the path is no run, if it holds several runs, or if
    this version of JAX computes wrong sums."""
    refuse_wrong_jax()
    directory = RunDirectory.open(Path(path))
    members = directory.members
    if len(members) > 1:
        raise UserError(f"{path} holds {len(members)} runs: name one, such as {members[0].path}.")
    return Run(directory)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of an `.npz` file, without pickle; raises UserError if the file is missing,
    damaged, or lacks one of the names."""
    if not path.is_file():
        raise UserError(f"the run has no {path.name} yet: the first evaluation writes it.")
    try:
        # Opened here, since np.load leaves a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except KeyError as error:
        raise UserError(f"{path} lacks an array: {error.args[0]}.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is damaged ({error}): continue or repeat the run to write it again."
        ) from error
