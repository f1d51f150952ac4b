"""The Franka arm: reach a position, grasp a cube, push it, move it from bin to bin.

All positions are in m from the arm's base: x to its right in the start pose, y ahead, z up from the
table.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import scene
from kilolayer.tasks.arm_scene import CUBE_HALF, FINGER_TRAVEL, build_scene
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task, sample_box
from kilolayer.types import Array

CONTROL_STEP = 0.05
FIELDS = ("sensordata",)
START = (1.571, 0.742, 0, -1.571, 0, 3.054, 1.449)
JOINTS, FINGERS, CUBE = slice(0, 7), slice(7, 9), slice(9, 12)  # of qpos
END_EFFECTOR, FINGERTIPS = slice(0, 6), slice(6, 12)  # of the sensors

REACH_GOALS = ((-0.2, 0.3, 0.1), (0.2, 0.7, 0.5))  # lowest and highest corner
# Numbers of random postures and of candidate goal positions, and the side of a cell in m.
POSTURES, CANDIDATES, CELL = 12_000, 4_096, 0.02
GRASP_CUBES = ((-0.3, 0.3), (0.3, 0.9))
GRASP_GAP = 0.075
# A cube counts as grasped if the finger gap is in this range, about the cube's width, and the end
# effector is less than half that width from its centre.
GRASPED_GAP = (2 * CUBE_HALF - 0.01, 2 * CUBE_HALF + 0.01)

JOINT_COORDINATES = tuple(Coordinate(f"joint {number}", "rad") for number in range(1, 8))
END_EFFECTOR_COORDINATES = (
    *(Coordinate(f"end effector {axis}", "m") for axis in "xyz"),
    *(Coordinate(f"end effector {axis} velocity", "m/s") for axis in "xyz"),
)
CUBE_COORDINATES = tuple(Coordinate(f"cube {axis}", "m") for axis in "xyz")
FINGERTIP_COORDINATES = tuple(
    Coordinate(f"{side} fingertip {axis}", "m") for side in ("left", "right") for axis in "xyz"
)
GAP_COORDINATE = Coordinate("finger gap", "m")


@dataclass(frozen=True)
class ArmReach(Task):
    """Observation: joints 7, end effector's position 3 and velocity 3. Goal: that position.

    The four driven joints reach three quarters of the goals within the radius, and all goals within
    the easy radius. Goals that are near and high are outside the joints' ranges.
    """

    name = "arm_reach"
    goal = GoalSpec(END_EFFECTOR_COORDINATES[:3], radius=0.1, easy_radius=0.3, hard_radius=0.03)
    goal_box = REACH_GOALS
    action_dim = 4
    episode_length = 50
    observation = (*JOINT_COORDINATES, *END_EFFECTOR_COORDINATES)

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(build_scene, CONTROL_STEP, FIELDS, cube=False)

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        return sample_box(key, (num_envs,), REACH_GOALS)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Always the same pose, at rest."""
        qpos = jnp.tile(jnp.array(START, jnp.float32), (goal.shape[0], 1))
        return qpos, jnp.zeros_like(qpos)

    def observe(self, state: PhysicsState) -> Array:
        sensors = state.fields["sensordata"]
        return jnp.concatenate([state.qpos, sensors[:, END_EFFECTOR]], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.fields["sensordata"][:, :3]


@dataclass(frozen=True)
class ArmReachEasy(ArmReach):
    """Like `arm_reach`, with half the radius, and every goal can be reached.

    Goals are uniform over the part of the same box that the end effector reaches with the four
    joints and without touching the table.
    """

    name = "arm_reach_easy"
    goal = GoalSpec(END_EFFECTOR_COORDINATES[:3], radius=0.05, easy_radius=0.1, hard_radius=0.03)

    # The goals fill no box: of the places at the middle height of their bounding box, where an
    # instruction would put a goal, the arm cannot hold two in five.
    goal_box = None

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        positions = jnp.array(reachable_positions(self.world))
        return positions[jax.random.randint(key, (num_envs,), 0, len(positions))]


@dataclass(frozen=True)
class ArmGrasp(Task):
    """Observation: cube 3, joints 7, end effector's position 3 and velocity 3, fingertips 6, gap 1.

    Goal: both fingertips, 0.0375 m to the right and to the left of the cube, and the gap between
    them. The goal follows the cube. The cube starts between the fingertips of the commanded goal.
    """

    name = "arm_grasp"
    goal = GoalSpec(
        (*FINGERTIP_COORDINATES, GAP_COORDINATE), radius=0.05, easy_radius=0.15, hard_radius=0.02
    )
    action_dim = 5
    episode_length = 50
    observation = (
        *CUBE_COORDINATES, *JOINT_COORDINATES, *END_EFFECTOR_COORDINATES, *FINGERTIP_COORDINATES,
        GAP_COORDINATE,
    )  # fmt: skip

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(build_scene, CONTROL_STEP, FIELDS, cube=True)

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        return _grasp_around(_cubes_on_table(sample_box(key, (num_envs,), GRASP_CUBES)))

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Always the same pose, at rest, over a cube between the fingertips of the goal."""
        return _initial_state(_midpoint(goal)[:, :2])

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([_shared_observation(state), self.achieved_goal(state)], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return jnp.concatenate([state.fields["sensordata"][:, FINGERTIPS], _gap(state)], -1)

    def current_goal(self, state: PhysicsState, goal: Array) -> Array:
        return _grasp_around(state.qpos[:, CUBE])

    def distance(self, achieved: Array, goal: Array) -> Array:
        """The larger of the distance of the fingertips' midpoints and the gaps' difference, m."""
        distance = jnp.linalg.norm(_midpoint(achieved) - _midpoint(goal), axis=-1)
        return jnp.maximum(distance, jnp.abs(achieved[..., 6] - goal[..., 6]))

    def goal_points(self, goal: np.ndarray) -> np.ndarray:
        return goal[:6].reshape(2, 3)

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        return cube_measures(self.world.model, qpos)


def _square(x: float, y: float, half: float) -> tuple[tuple[float, float], ...]:
    """Lowest and highest corner of a square about (x, y), m."""
    return (x - half, y - half), (x + half, y + half)


@dataclass(frozen=True)
class Table:
    """Where cubes and goals lie: corners of a square. bins: (x, y) of their centres, m."""

    cube: tuple[tuple[float, float], ...]
    goal: tuple[tuple[float, float], ...]
    episode_length: int
    bins: tuple[tuple[float, float], ...] = ()


# The benchmark defines no bins for the easy task. Here they stand as close as their walls allow.
TABLES = {
    "push_easy": Table(_square(-0.1, 0.6, 0.1), _square(0.1, 0.6, 0.1), 50),
    "push_hard": Table(_square(-0.25, 0.65, 0.25), _square(0.25, 0.65, 0.25), 80),
    "binpick_easy": Table(
        _square(-0.15, 0.6, 0.09), _square(0.17, 0.6, 0.09), 80, bins=((-0.2, 0.6), (0.2, 0.6))
    ),
    "binpick_hard": Table(
        _square(-0.3, 0.6, 0.15), _square(0.3, 0.6, 0.15), 80, bins=((-0.3, 0.6), (0.3, 0.6))
    ),
}


@dataclass(frozen=True)
class ArmMove(Task):
    """Observation: cube 3, joints 7, end effector's position 3 and velocity 3, finger gap 1. Goal:
    the cube's position.

    kind: `push_...` on the open table, or `binpick_...` from one bin to another.
    """

    kind: Literal["push_easy", "push_hard", "binpick_easy", "binpick_hard"]

    goal = GoalSpec(CUBE_COORDINATES, radius=0.1, easy_radius=0.3, hard_radius=0.03)
    action_dim = 5
    observation = (
        *CUBE_COORDINATES, *JOINT_COORDINATES, *END_EFFECTOR_COORDINATES, GAP_COORDINATE,
    )  # fmt: skip

    @property
    def name(self) -> str:
        return f"arm_{self.kind}"

    @property
    def goal_box(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        low, high = TABLES[self.kind].goal
        return (*low, CUBE_HALF), (*high, CUBE_HALF)

    @property
    def episode_length(self) -> int:
        return TABLES[self.kind].episode_length

    @property
    def world(self) -> MujocoWorld:
        bins = TABLES[self.kind].bins
        return scene.compile_world(build_scene, CONTROL_STEP, FIELDS, cube=True, bins=bins)

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        return _cubes_on_table(sample_box(key, (num_envs,), TABLES[self.kind].goal))

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Always the same pose, at rest; the cube at a random position in its square."""
        return _initial_state(sample_box(key, goal.shape[:1], TABLES[self.kind].cube))

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([_shared_observation(state), _gap(state)], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, CUBE]

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        return cube_measures(self.world.model, qpos)


@cache
def reachable_positions(world: MujocoWorld) -> np.ndarray:
    """Fixed positions, uniform in `REACH_GOALS`, that the arm can hold, `[positions, 3]`.

    The first joint turns the arm about its base, and the others move it in one vertical plane. So
    the arm can hold a position if some posture has the same distance from the base's axis and the
    same height, each to within a cell. Postures lie within the ranges of the commanded angles and
    do not touch the table.
    """
    model, random = world.model, np.random.default_rng(0)
    data, reached = mujoco.MjData(model), set()
    for angles in world.controls(random.uniform(-1, 1, (POSTURES, len(world.driven)))):
        data.qpos[:] = angles
        mujoco.mj_fwdPosition(model, data)
        if data.ncon == 0:
            reached.add(_cell(data.site("end_effector").xpos))
    positions = random.uniform(*REACH_GOALS, (CANDIDATES, 3)).astype(np.float32)
    return positions[[_cell(position) in reached for position in positions]]


def _cell(position: np.ndarray) -> tuple[int, int]:
    """The cell of a position in the vertical plane through it and the base's axis."""
    x, y, z = position
    return int(np.hypot(x, y) // CELL), int(z // CELL)


def _cubes_on_table(position: Array) -> Array:
    """The centres `[envs, 3]` of cubes that lie at `position [envs, 2]`."""
    return jnp.concatenate([position, jnp.full_like(position[:, :1], CUBE_HALF)], -1)


def _initial_state(position: Array) -> tuple[Array, Array]:
    """qpos and qvel of the arm at rest, fingers open, and a cube at `position [envs, 2]`."""

    def everywhere(values: tuple) -> Array:
        return jnp.tile(jnp.array(values, jnp.float32), (position.shape[0], 1))

    arm = everywhere((*START, FINGER_TRAVEL, FINGER_TRAVEL))
    qpos = jnp.concatenate([arm, _cubes_on_table(position), everywhere((1, 0, 0, 0))], -1)
    return qpos, jnp.zeros((position.shape[0], 7 + 2 + 6))


def _shared_observation(state: PhysicsState) -> Array:
    """Cube, joints and end effector, `[envs, 16]`."""
    effector = state.fields["sensordata"][:, END_EFFECTOR]
    return jnp.concatenate([state.qpos[:, CUBE], state.qpos[:, JOINTS], effector], -1)


def _gap(state: PhysicsState) -> Array:
    """Gap between the fingers, `[envs, 1]`, m. A finger's position is its distance from the middle
    of the gap."""
    return state.qpos[:, FINGERS].sum(-1, keepdims=True)


def _grasp_around(cube: Array) -> Array:
    """The grasp `[envs, 7]` of cubes at `cube [envs, 3]`."""
    side = jnp.array([GRASP_GAP / 2, 0, 0])
    return jnp.concatenate([cube + side, cube - side, jnp.full_like(cube[:, :1], GRASP_GAP)], -1)


def _midpoint(grasp: Array) -> Array:
    return (grasp[..., :3] + grasp[..., 3:6]) / 2


def cube_measures(model: mujoco.MjModel, qpos: np.ndarray) -> dict[str, float]:
    """How the cube moved, from positions `[time, envs, nq]`; means over environments.

    cube_travel: length of its path, m. cube_height: its largest height above its rest, m.
    grasp_share: share of the steps at which the cube was grasped, see `GRASPED_GAP`.
    """
    cube = qpos[..., CUBE]
    data, effector = mujoco.MjData(model), np.empty_like(cube)
    for index in np.ndindex(qpos.shape[:2]):
        data.qpos[:] = qpos[index]
        mujoco.mj_kinematics(model, data)
        effector[index] = data.site("end_effector").xpos
    gap = qpos[..., FINGERS].sum(-1)
    low, high = GRASPED_GAP
    between = np.linalg.norm(effector - cube, axis=-1) < CUBE_HALF
    return {
        "cube_travel": float(np.linalg.norm(np.diff(cube, axis=0), axis=-1).sum(0).mean()),
        "cube_height": float((cube[..., 2].max(0) - CUBE_HALF).mean()),
        "grasp_share": float((between & (low < gap) & (gap < high)).mean()),
    }
