"""Tasks from Gymnasium: any registered environment that follows the GoalEnv convention.

Its observations are dictionaries of the vectors `observation`, `achieved_goal` and `desired_goal`.
The environment draws its starts and goals at its reset.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.errors import OutsideError, UserError
from kilolayer.lookup import FAILURES
from kilolayer.physics import gymnasium_group as group
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task
from kilolayer.types import Array

UNIT = "its own unit"  # environments do not declare units


@dataclass(frozen=True)
class GymnasiumTask(Task):
    """Observation: the achieved goal, then the environment's observation, which may lack it.

    `make_gymnasium_task` fills in the fields from the environment.
    """

    name: str
    world: GymnasiumWorld
    observation: tuple[Coordinate, ...]
    goal: GoalSpec
    action_dim: int
    episode_length: int

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        """NaN: the environment draws its own goal at reset, and `current_goal` returns it."""
        return jnp.full((num_envs, self.goal.dim), jnp.nan)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Seeds of the environments' resets and goals, as `GymnasiumPhysics` takes them."""
        return jax.random.bits(key, (goal.shape[0], 1)), goal

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([state.fields["achieved_goal"], state.fields["observation"]], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.fields["achieved_goal"]

    def terminated(self, state: PhysicsState) -> Array:
        return state.fields["terminated"]

    def truncated(self, state: PhysicsState) -> Array:
        return state.fields["truncated"]

    def current_goal(self, state: PhysicsState, goal: Array) -> Array:
        return state.fields["goal"]


def task_spaces(task: Task) -> tuple[Any, Any]:
    """Gymnasium's spaces of the observations, with goals, and of the actions of any task."""
    spaces = import_module("gymnasium.spaces")
    goal = group.unbounded((task.goal.dim,))
    observation = group.unbounded((len(task.observation),))
    observations = spaces.Dict(observation=observation, achieved_goal=goal, desired_goal=goal)
    return observations, spaces.Box(-1.0, 1.0, (task.action_dim,), np.float32)


def make_gymnasium_task(
    environment: str, goal_radius: float | None = None, **arguments: Any
) -> GymnasiumTask:
    """The task of a registered environment, made with `arguments`.

    goal_radius: distance within which a goal counts as reached; by default the one at which the
    environment's own sparse reward changes. Raises UserError if there is no such environment, if it
    lacks goals, vectors or bounds, or if its reward shows no radius.
    """
    specification = group.find_environment(environment)
    if specification.max_episode_steps is None:
        raise _unsupported(environment, "it states no max_episode_steps: register it with one")
    if specification.max_episode_steps < 2:
        raise _unsupported(
            environment,
            f"its episodes end after {specification.max_episode_steps} step, and goals are taken "
            "from what follows a step: register it with a max_episode_steps of 2 or more",
        )
    sample = group.make_environment(environment, **arguments)
    check_spaces(environment, sample)
    sizes = {key: sample.observation_space[key].shape[0] for key in group.OBSERVED}
    goal = tuple(Coordinate(f"goal {i}", UNIT) for i in range(sizes["desired_goal"]))
    rest = tuple(Coordinate(f"observation {i}", UNIT) for i in range(sizes["observation"]))
    radius = _own_radius(environment, sample) if goal_radius is None else goal_radius
    control_step = _own_control_step(environment, sample)
    with group.environment_errors(environment, "close"):
        sample.close()
    return GymnasiumTask(
        name=specification.id,
        world=GymnasiumWorld(environment, control_step, arguments),
        observation=(*goal, *rest),
        goal=GoalSpec(goal, radius, easy_radius=2 * radius),  # the easy radius is our own
        action_dim=sample.action_space.shape[0],
        episode_length=specification.max_episode_steps,
    )


def check_spaces(environment: str, sample: Any) -> None:
    """Raises UserError unless observations are vectors with goals, and actions a bounded vector."""
    with group.environment_errors(environment, "observation_space or action_space"):
        space, actions = sample.observation_space, sample.action_space
    keys = getattr(space, "spaces", {})
    missing = [key for key in group.OBSERVED if key not in keys]
    if missing:
        raise _unsupported(
            environment,
            f"it is no GoalEnv, for its observations lack {', '.join(missing)}: wrap it to return "
            "a dictionary with these, or choose one such as PointMaze_UMaze-v3",
        )
    for key in group.OBSERVED:
        if not _is_vector(space[key]):
            raise _unsupported(
                environment,
                f"its {key} is {space[key]} and not a vector of real numbers (Box), as networks "
                "here need: wrap it to return one",
            )
    if space["achieved_goal"].shape != space["desired_goal"].shape:
        raise _unsupported(
            environment,
            f"its achieved_goal {space['achieved_goal'].shape} and desired_goal "
            f"{space['desired_goal'].shape} differ in shape: wrap it to return equal ones",
        )
    if not _is_vector(actions):
        raise _unsupported(
            environment,
            f"its actions are {actions} and not a vector of real numbers (Box), as the actor here "
            "needs: choose an environment with continuous actions",
        )
    if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
        raise _unsupported(
            environment,
            f"its actions {actions} have no finite bounds: wrap it with "
            "gymnasium.wrappers.TransformAction to give them some",
        )


def _is_vector(space: Any) -> bool:
    """Whether a space is a Box of one axis; no other kind has bounds and a floating dtype."""
    floating = space.dtype is not None and np.issubdtype(space.dtype, np.floating)
    return hasattr(space, "low") and floating and len(space.shape) == 1 and space.shape[0] > 0


def _unsupported(environment: str, reason: str) -> UserError:
    return UserError(f"gym = {environment!r} cannot be trained in: {reason}.")


def _own_control_step(environment: str, sample: Any) -> float:
    """Seconds of one step: how far MuJoCo's clock advances, if the environment has one.

    Otherwise one frame of its `render_fps`, else 1 s. Some environments state a wrong `render_fps`:
    PointMaze_UMaze-v3 says 50 and steps 0.01 s. The step is taken in every environment: one that
    cannot be stepped is refused before anything is compiled.
    """
    simulated: Any = getattr(sample.unwrapped, "data", None)
    group.reset(environment, sample, seed=0)
    before = getattr(simulated, "time", None)
    group.step(environment, sample, (sample.action_space.low + sample.action_space.high) / 2)
    if before is not None and simulated.time > before:
        return float(simulated.time - before)
    frames = sample.metadata.get("render_fps")
    return 1 / frames if isinstance(frames, int | float | np.number) and frames > 0 else 1.0


def _own_radius(environment: str, sample: Any) -> float:
    """The radius at which the environment's reward changes, along every coordinate of a goal."""
    observation = group.reset(environment, sample, seed=0)
    goal = np.asarray(observation["desired_goal"], np.float64)

    def reward_beside(coordinate: int, distance: float) -> float:
        achieved = goal.copy()
        achieved[coordinate] += distance
        return float(sample.get_wrapper_attr("compute_reward")(achieved, goal, {}))

    remedy = "give the radius within which a goal counts as reached with --goal-radius"
    try:
        radii = [probe_radius(partial(reward_beside, index)) for index in range(len(goal))]
    # The code of an environment may fail in any way, and it may have no such function.
    except FAILURES as error:
        what = f"gym = {environment!r} cannot be trained in: its compute_reward fails"
        raise OutsideError.of(what, error, remedy) from error
    radius = radii[0]
    if radius is None or not all(other and np.isclose(other, radius, rtol=1e-3) for other in radii):
        raise _unsupported(environment, f"its reward does not change at one distance: {remedy}")
    return radius


def probe_radius(reward: Callable[[float], float]) -> float | None:
    """The distance at which the reward changes, found by bisection.

    None unless the reward is sparse: one value within the distance and another beyond it.
    """
    within = reward(0.0)
    beyond = next((2.0**k for k in range(-20, 21) if reward(2.0**k) != within), None)
    if beyond is None:
        return None
    low, high = 0.0, beyond
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if reward(middle) == within else (low, middle)
    sparse = all(reward(factor * high) == reward(high) for factor in (1.5, 4.0, 100.0))
    return high if sparse else None
