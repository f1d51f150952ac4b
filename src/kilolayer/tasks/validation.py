"""Checks of a user's own task before a run starts: attributes, returned shapes, a first state.

Without these checks a wrong shape fails deep inside a compiled program, or is silently broadcast.
"""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.physics.build import World, build_physics
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task
from kilolayer.tasks.mazes import Maze
from kilolayer.user_code import ExpectedArray, UserCode, all_are, describe, is_count, is_positive

# Differ from the usual sizes of goals and observations, so that swapped axes are noticed.
ENVS = 7
TIME = 3
SPLITS: tuple[GoalSplit, ...] = get_args(GoalSplit)


def require_valid(name: str, task: Task) -> None:
    """Raises UserError naming the first attribute or function of the task that cannot work."""
    own = UserCode(f"task = {name!r}")
    _check_attributes(own, task)
    if isinstance(task.world, GymnasiumWorld):  # its environments are checked at their start
        return
    observation, goals = len(task.observation), task.goal.dim
    key = jax.eval_shape(lambda: jax.random.key(0))
    goal = ExpectedArray((ENVS, goals), "[envs, goal]")
    each = ExpectedArray((ENVS,), "[envs]", "bool")
    start = _start_arrays(task.world)
    physics = own.call("world", build_physics, task.world, ENVS)
    commanded = state = None
    for split in SPLITS:

        def sample_goal(key: Any, split: GoalSplit = split) -> Any:
            return task.sample_goal(key, ENVS, split)

        def reset(key: Any, goal: Any, split: GoalSplit = split) -> Any:
            return task.reset(key, goal, split)

        commanded = own.check_traced("sample_goal", sample_goal, goal, key)
        initial = own.check_traced("reset", reset, start, key, commanded)
        state = jax.eval_shape(physics.init, *initial)
    observed = ExpectedArray((ENVS, observation), "[envs, observation]")
    returned = {"observe": observed, "achieved_goal": goal, "terminated": each, "truncated": each}
    for method, expected in returned.items():
        own.check_traced(method, getattr(task, method), expected, state)
    own.check_traced("current_goal", task.current_goal, goal, state, commanded)
    many_goals = jax.ShapeDtypeStruct((TIME, ENVS, goals), jnp.float32)
    distances = ExpectedArray((TIME, ENVS), "[..., goal] -> [...]")
    own.check_traced("distance", task.distance, distances, many_goals, many_goals)
    _check_first_state(own, task, physics)


def _check_attributes(own: UserCode, task: Task) -> None:
    name, world, observation, goal, action_dim, length, splits, maze, box = (
        own.attribute(task, field)
        for field in (
            "name", "world", "observation", "goal", "action_dim", "episode_length", "splits",
            "maze", "goal_box",
        )
    )  # fmt: skip
    own.require(isinstance(name, str) and bool(name), "name", name, "a text")
    kinds = " or ".join(kind.__name__ for kind in get_args(World))
    own.require(isinstance(world, World), "world", world, f"a {kinds}")
    coordinates = "a tuple of Coordinate(name, unit)"
    own.require(all_are(observation, Coordinate), "observation", observation, coordinates)
    own.require(isinstance(goal, GoalSpec), "goal", goal, "a GoalSpec")
    own.require(
        all_are(goal.coordinates, Coordinate), "goal.coordinates", goal.coordinates, coordinates
    )
    radii = {"radius": goal.radius, "easy_radius": goal.easy_radius}
    if goal.hard_radius is not None:
        radii["hard_radius"] = goal.hard_radius
    for field, radius in radii.items():
        own.require(is_positive(radius), f"goal.{field}", radius, "a number above 0")
    own.require(is_count(action_dim, 1), "action_dim", action_dim, "a whole number from 1 on")
    controls = 2
    if isinstance(world, MujocoWorld):
        own.require(
            isinstance(world.model, mujoco.MjModel), "world.model", world.model, "an MjModel"
        )
        substeps = world.substeps
        own.require(is_count(substeps, 1), "world.substeps", substeps, "a whole number from 1 on")
        controls = len(world.driven)
    if not isinstance(world, GymnasiumWorld):
        needed = f"{controls}, the number of controls that its world takes,"
        own.require(action_dim == controls, "action_dim", action_dim, needed)
    own.require(is_count(length, 2), "episode_length", length, "a whole number from 2 on")
    known = all_are(splits, str) and set(splits) <= set(SPLITS)
    own.require(known, "splits", splits, f"a tuple of {', '.join(SPLITS)}")
    own.require(maze is None or isinstance(maze, Maze), "maze", maze, "None or a Maze")
    corners = np.shape(box) == (2, goal.dim) if box is not None else True
    own.require(corners, "goal_box", box, f"None or two corners of {goal.dim} numbers")


def _start_arrays(world: Any) -> tuple[ExpectedArray, ExpectedArray]:
    nq, nv = (world.model.nq, world.model.nv) if isinstance(world, MujocoWorld) else (2, 2)
    qpos = ExpectedArray((ENVS, nq), "qpos [envs, nq]")
    return qpos, ExpectedArray((ENVS, nv), "qvel [envs, nv]")


def _check_first_state(own: UserCode, task: Task, physics: Any) -> None:
    """Checks that need values: finite numbers, and functions of NumPy arrays."""

    # Sampling is a separate program: JAX caches it, but not a program that calls the host.
    @jax.jit
    def start(key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        goal_key, reset_key = jax.random.split(key)
        goal = task.sample_goal(goal_key, ENVS, "training")
        return goal, task.reset(reset_key, goal, "training")

    goal, (qpos, qvel) = start(jax.random.key(0))
    state = jax.jit(physics.init)(qpos, qvel)
    numbers = {
        "sample_goal": goal,
        "reset": jnp.concatenate([qpos, qvel], -1),
        "observe": task.observe(state),
        "achieved_goal": task.achieved_goal(state),
    }
    for method, values in numbers.items():
        if not np.isfinite(np.asarray(values)).all():
            raise own.misfit(f"{method} returns nan or infinity at the start", "a finite number")
    points = own.call("goal_points", task.goal_points, np.asarray(goal)[0])
    shaped = isinstance(points, np.ndarray) and points.ndim == 2 and points.shape[1] in (2, 3)
    if not shaped:
        raise own.misfit(f"goal_points returns {describe(points)}", "an array [points, 3] of NumPy")
    recorded = np.asarray(state.qpos)[None]
    measures = own.call("behaviour", task.behaviour, recorded, np.ones((1, ENVS), bool))
    if not isinstance(measures, dict):
        raise own.misfit(f"behaviour returns {describe(measures)}", "a dictionary of numbers")
    for measure, value in measures.items():
        if not isinstance(measure, str) or np.ndim(value) or not np.isreal(value):
            found = f"behaviour returns {describe(value)} for {measure!r}"
            raise own.misfit(found, "one number for each name")
