"""Offline training: a dataset is checked against the task and fills the buffer."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.errors import UserError, bad_field
from kilolayer.physics.build import build_physics
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.replay.buffer import Buffer, Transition
from kilolayer.replay.dataset import Dataset, read_dataset
from kilolayer.replay.minari_format import PREFIX, read_minari
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task
from kilolayer.types import Array

# Seed of the goals sampled here: the same for all runs, as is the rest of a dataset.
GOAL_SEED = 0xDA7A
# Recorded states whose achieved goals are computed at once.
STATES_AT_ONCE = 1024


def open_dataset(config: RunConfig, task: Task) -> Dataset | None:
    """The dataset that the config names, or None.

    Raises UserError if it cannot be read, belongs to another task, or is smaller than a batch.
    """
    source = config.collection.dataset
    if source is None:
        return None
    if source.startswith(PREFIX):
        dataset = read_minari(source.removeprefix(PREFIX), task)
    else:
        dataset = _read_states(source, task)
    drawable = dataset.steps - dataset.trajectories
    if config.agent.batch_size > drawable:
        allowed = f"the dataset holds {drawable} steps with a future, and a batch takes 2 at least"
        nearest = drawable if drawable >= 2 else None
        raise bad_field("batch_size", config.agent.batch_size, allowed, nearest)
    return dataset


def _read_states(source: str, task: Task) -> Dataset:
    """The dataset in a file of OGBench's layout, checked against the sizes of the task."""
    if isinstance(task.world, GymnasiumWorld):
        allowed = (
            "Gymnasium environments cannot be put into recorded states: give a data set of Minari, "
            "minari:NAME, or leave --gym out"
        )
        raise bad_field("dataset", source, allowed)
    dataset = read_dataset(Path(source))
    for name, size in _row_sizes(task).items():
        found = getattr(dataset, name).shape[1]
        if found != size:
            allowed = f"its {name} have {found} numbers where task {task.name} has {size}"
            raise bad_field("dataset", source, allowed)
    return dataset


def _row_sizes(task: Task) -> dict[str, int]:
    """The row size of each array of a dataset."""

    def reset(key: Array) -> tuple[Array, Array]:
        return task.reset(key, jnp.zeros((1, task.goal.dim)), "training")

    qpos, qvel = jax.eval_shape(reset, jax.random.key(0))
    return {
        "observations": len(task.observation),
        "actions": task.action_dim,
        "qpos": qpos.shape[-1],
        "qvel": qvel.shape[-1],
    }


def buffer_from_dataset(
    config: RunConfig, task: Task, dataset: Dataset, display: ProgressDisplay
) -> Buffer:
    """The whole dataset as the steps of one environment, in host memory."""
    display.phase("dataset")
    achieved, goals = dataset.achieved_goals, dataset.goals
    if achieved is None or goals is None:
        achieved, goals = _compute_goals(config, task, dataset, display)
    recorded = Transition(
        observation=dataset.observations,  # type: ignore[arg-type]
        action=dataset.actions,  # type: ignore[arg-type]
        achieved_goal=achieved,  # type: ignore[arg-type]
        goal=goals,  # type: ignore[arg-type]
        episode_step=dataset.episode_step,  # type: ignore[arg-type]
    )
    one_env: Any = jax.tree.map(lambda array: array[:, None], recorded)
    return Buffer(one_env, np.int32(dataset.steps))  # type: ignore[arg-type]


def _compute_goals(
    config: RunConfig, task: Task, dataset: Dataset, display: ProgressDisplay
) -> tuple[np.ndarray, np.ndarray]:
    """The achieved goal of each step, computed from qpos and qvel, and a sampled training goal,
    because the layout does not hold the commanded goals; float32 `[steps, goal]` each."""
    steps, at_once = dataset.steps, min(STATES_AT_ONCE, dataset.steps)
    physics = build_physics(task.world, at_once, config.physics)

    @jax.jit
    def goals(qpos: Array, qvel: Array, key: Array) -> tuple[Array, Array]:
        state = physics.init(qpos, qvel)
        commanded = task.sample_goal(key, at_once, "training")
        return task.achieved_goal(state), task.current_goal(state, commanded)

    key = jax.random.key(GOAL_SEED)
    achieved, commanded = np.zeros((2, steps, task.goal.dim), np.float32)
    for first in range(0, steps, at_once):
        # The last slice overlaps the one before it, because the engine has a fixed number of
        # environments.
        rows = slice(min(first, steps - at_once), min(first, steps - at_once) + at_once)
        key, own_key = jax.random.split(key)
        achieved[rows], commanded[rows] = goals(dataset.qpos[rows], dataset.qvel[rows], own_key)
        display.advance(rows.stop, steps)
    return achieved, commanded


def require_same_dataset(run: RunDirectory, dataset: Dataset) -> None:
    """Raises UserError if the file differs from the one that the run began with."""
    recorded = run.recorded("dataset")
    if not isinstance(recorded, dict) or "sha256" not in recorded:
        raise UserError(
            f"the manifest.json of {run.path} does not say which dataset it began with."
        )
    if dataset.fingerprint["sha256"] != recorded["sha256"]:
        raise UserError(
            f"the dataset {dataset.fingerprint['path']} has changed since the run in {run.path} "
            "began (its SHA-256 differs): put the old file back, or start a new run."
        )
