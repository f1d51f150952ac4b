"""Inspects a task: its coordinates, the values that they take, and the speed of its simulation."""

import time
from dataclasses import dataclass

import jax
import numpy as np

from kilolayer.errors import UserError
from kilolayer.physics.build import build_physics
from kilolayer.physics.native import MujocoWorld
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task, is_success
from kilolayer.tasks.coordinates import actuator_names
from kilolayer.tasks.motion import Motion, random_motion
from kilolayer.types import Array

ENVS = 128
STEPS = 200


@dataclass(frozen=True)
class Inspection:
    """The coordinates of a task, and the values that they take under random actions.

    observation, achieved, commanded: ranges `[2, coordinates]`, lowest and highest value: of the
    observation, of the achieved goal, and of the commanded goals at the start. success,
    ended_early: share of environments that reached their goal, and whose episode ended early,
    within `steps` control steps. diverged: environments whose values did not stay finite; the
    ranges exclude them. steps_per_second: control steps of all environments, including the
    observation.
    """

    task: Task
    actions: tuple[str, ...]
    observation: np.ndarray
    achieved: np.ndarray
    commanded: np.ndarray
    success: float
    ended_early: float
    diverged: int
    envs: int
    steps: int
    steps_per_second: float


def inspect_task(task: Task, display: ProgressDisplay) -> Inspection:
    """Play random actions twice: once to compile and to record values, once to measure the speed.

    Raises UserError if every environment diverges.
    """
    physics = build_physics(task.world, ENVS)
    steps = min(STEPS, task.episode_length)
    goal_key, first_key, second_key = jax.random.split(jax.random.key(0), 3)
    goal = task.sample_goal(goal_key, ENVS, "evaluation")

    @jax.jit
    def play(key: Array) -> Motion:
        return random_motion(task, physics, goal, key, steps)

    display.phase("random actions")
    motion = jax.tree.map(np.asarray, play(first_key))
    display.phase("speed")
    began = time.perf_counter()
    jax.block_until_ready(play(second_key))
    elapsed = time.perf_counter() - began
    finite = np.isfinite(motion.observation).all((0, 2))
    if not finite.any():
        raise UserError(
            f"task {task.name} diverges under random actions in every environment: give its model "
            "a smaller time step, or its actuators smaller ranges."
        )
    counted = motion.alive & finite
    counted[0] |= finite  # an environment that ends at once counts with its first step
    reached = np.asarray(is_success(task, motion.achieved, motion.goal)) & motion.alive
    return Inspection(
        task=task,
        actions=_action_names(task),
        observation=_range(motion.observation[counted]),
        achieved=_range(motion.achieved[counted]),
        commanded=_range(motion.goal[0]),
        success=float(reached.any(0).mean()),
        ended_early=float(1 - motion.alive[-1].mean()),
        diverged=int(np.sum(~finite)),
        envs=ENVS,
        steps=steps,
        steps_per_second=ENVS * steps / elapsed,
    )


def _range(values: np.ndarray) -> np.ndarray:
    return np.stack([values.min(0), values.max(0)])


def _action_names(task: Task) -> tuple[str, ...]:
    """The names of the actuators, if each action drives one."""
    if isinstance(task.world, MujocoWorld) and len(task.world.driven) == task.action_dim:
        names = actuator_names(task.world.model)
        return tuple(names[index] for index in task.world.driven)
    return tuple(f"action {index}" for index in range(task.action_dim))
