"""Recorded trajectories in Minari's format, read and written by Minari itself (extra `minari`).

Observations are dictionaries of the vectors `observation`, `achieved_goal` and `desired_goal`, as
in every environment with goals. A trajectory of n observations has n - 1 actions. The last row of a
`Dataset` has no outcome: its action is not written to a file, and is zero when read. Nothing is
downloaded.
"""

import hashlib
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from kilolayer.errors import UserError, bad_field, nearest
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.physics.gymnasium_group import OBSERVED, find_environment, make_environment
from kilolayer.replay.dataset import ACTION_ROUNDING, Dataset
from kilolayer.tasks.base import Task, is_success
from kilolayer.tasks.gymnasium import task_spaces

PREFIX = "minari:"
MISSING = "Minari is not installed: `pip install 'kilolayer[minari]'`."


def read_minari(name: str, task: Task) -> Dataset:
    """The local data set called `name`, such as `point_u_maze/random-v0`, in the task's format.

    Actions are scaled to [-1, 1]. Raises UserError if Minari is missing, if there is no such local
    data set, or if its observations, goals or actions do not fit the task.
    """
    found = _open(name)
    observations, actions = _spaces(task)
    _require_same_spaces(name, found, observations, actions, task)
    low, high = actions.low, actions.high
    parts = [_rows(episode, task, low, high) for episode in found.iterate_episodes()]
    if not parts:
        raise bad_field("dataset", PREFIX + name, "it has no episodes")
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise bad_field("dataset", PREFIX + name, f"its {key} are not finite everywhere")
    if np.abs(arrays["actions"]).max() > 1 + ACTION_ROUNDING:
        raise bad_field("dataset", PREFIX + name, "its actions leave their own bounds")
    empty = np.zeros((len(arrays["terminals"]), 0), np.float32)
    return Dataset(qpos=empty, qvel=empty, fingerprint=_fingerprint(name, arrays), **arrays)


def write_minari(name: str, arrays: Mapping[str, np.ndarray], task: Task) -> None:
    """Write trajectories as a new local data set called `name`.

    arrays: rows as in a `Dataset`, with `achieved_goals` and `goals`. A trajectory of one row is
    left out. Rewards are 0 within the success radius and -1 elsewhere. Raises UserError if it
    cannot be written.
    """
    minari = _minari()
    observations, actions = _spaces(task)
    ends = np.flatnonzero(arrays["terminals"])
    begins = np.r_[0, ends[:-1] + 1]
    episodes = [
        _episode(arrays, slice(begin, end + 1), task, actions)
        for begin, end in zip(begins, ends, strict=True)
        if end > begin
    ]
    try:
        with warnings.catch_warnings():
            # Minari warns about a missing author and code link, which only the user knows.
            warnings.simplefilter("ignore", UserWarning)
            minari.create_dataset_from_buffers(
                name,
                episodes,
                env=_specification(task),
                observation_space=observations,
                action_space=actions,
                description=f"Task {task.name}, collected by Kilolayer.",
            )
    except OSError as error:
        raise UserError(f"cannot write {PREFIX}{name}: {error.strerror or error}.") from error


def require_new(name: str) -> None:
    """Raises UserError if Minari is missing, the name is malformed, or such a data set exists."""
    minari = _minari()
    try:
        import_module("minari.dataset.minari_dataset").parse_dataset_id(name)
    except (ValueError, TypeError):  # the latter for a name without a version
        allowed = "Minari's names are like point_u_maze/random-v0, with a version at the end"
        raise bad_field("out", name, allowed) from None
    if name in minari.list_local_datasets():
        allowed = f"a data set of this name exists: take another, or `minari delete {name}`"
        raise bad_field("out", name, allowed)


def _minari() -> Any:
    try:
        return import_module("minari")
    except ImportError as error:
        raise UserError(MISSING) from error


def _open(name: str) -> Any:
    minari = _minari()
    try:
        return minari.load_dataset(name, download=False)
    except FileNotFoundError:
        allowed = f"there is no such data set on this machine; `minari download {name}` fetches one"
        close = nearest(name, minari.list_local_datasets())
        raise bad_field("dataset", PREFIX + name, allowed, close and PREFIX + close) from None
    except (OSError, ImportError) as error:
        raise UserError(f"cannot read the data set {PREFIX}{name}: {error}.") from error


def _spaces(task: Task) -> tuple[Any, Any]:
    """Gymnasium's spaces of the observations and the actions of a task's environment."""
    if isinstance(task.world, GymnasiumWorld):
        environment = make_environment(task.world.environment, **task.world.arguments)
        spaces = environment.observation_space, environment.action_space
        environment.close()
        return spaces
    return task_spaces(task)


def _specification(task: Task) -> Any:
    """The specification that makes the environment again; None if only this process can."""
    if not isinstance(task.world, GymnasiumWorld):
        return None
    found = find_environment(task.world.environment)
    return found if isinstance(found.entry_point, str) else None


def _require_same_spaces(
    name: str, found: Any, observations: Any, actions: Any, task: Task
) -> None:
    stored = getattr(found.observation_space, "spaces", {})
    missing = [key for key in OBSERVED if key not in stored]
    if missing:
        allowed = f"its observations lack {', '.join(missing)}, which environments with goals have"
        raise bad_field("dataset", PREFIX + name, allowed)
    for key in OBSERVED:
        if stored[key].shape != observations[key].shape:
            shapes = f"{stored[key].shape} where task {task.name} has {observations[key].shape}"
            raise bad_field("dataset", PREFIX + name, f"its {key} has the shape {shapes}")
    own = found.action_space
    same = getattr(own, "shape", None) == actions.shape and hasattr(own, "low")
    if not (same and np.allclose(own.low, actions.low) and np.allclose(own.high, actions.high)):
        allowed = f"its actions are {own} where task {task.name} takes {actions}"
        raise bad_field("dataset", PREFIX + name, allowed)


def _rows(episode: Any, task: Task, low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of one episode; the last row holds the state after the last action."""
    observed = {key: np.asarray(episode.observations[key], np.float32) for key in OBSERVED}
    unit = 2 * (np.asarray(episode.actions, np.float32) - low) / (high - low) - 1
    count = len(unit) + 1
    observation = observed["observation"]
    if isinstance(task.world, GymnasiumWorld):  # these tasks put the achieved goal first
        observation = np.concatenate([observed["achieved_goal"], observation], -1)
    return {
        "observations": observation,
        "actions": np.concatenate([unit, np.zeros_like(low)[None]]).astype(np.float32),
        "terminals": np.arange(count) == count - 1,
        "achieved_goals": observed["achieved_goal"],
        "goals": observed["desired_goal"],
    }


def _episode(arrays: Mapping[str, np.ndarray], rows: slice, task: Task, space: Any) -> Any:
    achieved, goal = arrays["achieved_goals"][rows], arrays["goals"][rows]
    observation, action = arrays["observations"][rows], arrays["actions"][rows][:-1]
    if isinstance(task.world, GymnasiumWorld):
        observation = observation[:, task.goal.dim :]
    steps = len(action)
    observed = {"observation": observation, "achieved_goal": achieved, "desired_goal": goal}
    scaled = space.low + 0.5 * (action + 1) * (space.high - space.low)
    return import_module("minari.data_collector").EpisodeBuffer(
        observations=observed,
        actions=scaled.astype(space.dtype),
        rewards=np.where(is_success(task, achieved[1:], goal[1:]), 0.0, -1.0),
        terminations=np.zeros(steps, bool),
        truncations=np.arange(steps) == steps - 1,
    )


def _fingerprint(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A hash of the arrays, because Minari's files also contain the time of writing."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[key]).tobytes())
    size = sum(array.nbytes for array in arrays.values())
    return {"path": PREFIX + name, "bytes": size, "sha256": digest.hexdigest()}
