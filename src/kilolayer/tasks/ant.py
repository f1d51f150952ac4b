"""The ant: a four-legged body that must move its torso, or a ball, to a goal.

It moves on open ground, in a maze, or past a block that obstructs the path.

Two ants share the body of Gym's ant. `Ant` has the motors, time step and contacts of the ant in
MuJoCo's goal-reaching benchmarks (OGBench, and D4RL before it). `GymAnt` has those of Gym's ant, as
do the published results of arXiv 2503.14858, which come from another engine.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import scene
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, reset_noise, sample_circle
from kilolayer.tasks.legged import Legged, free_body
from kilolayer.tasks.mazes import TASK_NOISE, Maze
from kilolayer.types import Array

# High enough that the noise at reset puts no foot inside the floor, which would throw the ant.
STANDING_HEIGHT = 0.75
OPEN_GOAL_DISTANCE = 10.0
MAX_TRAINING_PATH = 3  # cells, in the stitching variants
MAZE_CELL_SIZE = 4.0

# (name, side along x, side along y, ankle axis, sign of the ankle's angle)
LEGS = (
    ("front_left", 1, 1, (-1, 1, 0), 1),
    ("front_right", -1, 1, (1, 1, 0), -1),
    ("back_left", -1, -1, (-1, 1, 0), -1),
    ("back_right", 1, -1, (1, 1, 0), 1),
)
MOTOR_ORDER = ("back_right", "front_left", "front_right", "back_left")
STANDING_JOINTS = (0, 1, 0, -1, 0, -1, 0, 1)  # hip and ankle of each leg, rad
# Sizes of the ant's qpos and qvel, which come first if other bodies in the scene move.
NUM_POSITIONS, NUM_VELOCITIES = 15, 14

WALL_HEIGHT = 0.5 * MAZE_CELL_SIZE
JOINT = {"armature": 1.0, "damping": [1.0, 0, 0]}

BALL_RADIUS = 0.25
BALL_MASS = 0.2  # kg; the ant weighs 0.9
BALL_DAMPING = 0.01  # N s/m, and N m s/rad for its rotation
# Share of the distance to the goal at which the ball starts. Any less, and it starts under the
# legs.
BALL_START_SHARE = 0.28
BALL_OFFSET = 0.1

BLOCK_HALF_SIZE = (1.9, 1.9, 0.5)  # a corridor is 2 m to either side
BLOCK_HOME = (2 * MAZE_CELL_SIZE, 2 * MAZE_CELL_SIZE)  # the middle of the crossing, m
BLOCK_MASS = 0.5
BLOCK_DAMPING = 1.0  # N s/m: a block that is not pushed stops
PUSH_GOAL_NOISE = 0.5


@dataclass(frozen=True)
class Drive:
    """The settings in which the two ants differ: time, motors and contacts.

    control_step, time_step: s. gear: torque of a motor at full control, N m. solimp: impedance of
    every contact, as in MuJoCo. integrator: the files of both ants ask for Runge-Kutta of order
    four, which takes four times as long as semi-implicit Euler. With Euler, ants that act without
    noise freeze before they reach the goal: results/ant. Gym's ant still uses Euler, because its
    results were made with it.
    """

    control_step: float
    time_step: float
    gear: float
    solimp: tuple[float, ...]
    integrator: mujoco.mjtIntegrator

    @property
    def contact(self) -> dict[str, Any]:
        """Contact parameters of every geom, including ground and walls, because MuJoCo adds up the
        margins of both sides of a contact."""
        return {"friction": (1, 0.5, 0.5), "margin": 0.01, "solimp": self.solimp}


RK4, EULER = mujoco.mjtIntegrator.mjINT_RK4, mujoco.mjtIntegrator.mjINT_EULER
BENCHMARK_DRIVE = Drive(0.1, 0.02, 30.0, (0.8, 0.8, 0.01, 0.5, 2.0), RK4)
GYM_DRIVE = Drive(0.05, 0.01, 150.0, (0.9, 0.95, 0.001, 0.5, 2.0), EULER)
OBJECT = {**BENCHMARK_DRIVE.contact, "conaffinity": 1, "rgba": scene.OBJECT_COLOUR}


@dataclass(frozen=True)
class Ant(Legged):
    """Observation: qpos 15 and qvel 14, x and y included. Goal: torso x, y within 0.5 m.

    Actions come at 10 Hz, and no episode ends early: an ant on its back can get up again.

    layout: a maze's name, or None for open ground with goals on a circle of 10 m. stitching: train
    on short paths anywhere in the maze, at most three cells long; evaluate from the maze's start to
    every cell, so that the agent must combine short paths into long ones. A layout with tasks
    (OGBench's) is trained from any free cell to any other and evaluated on its tasks.
    """

    stitching: bool = False

    body = "ant"
    cell_size = MAZE_CELL_SIZE
    drive: ClassVar[Drive] = BENCHMARK_DRIVE
    goal_distance: ClassVar[float] = OPEN_GOAL_DISTANCE
    """Distance of the goals on open ground, m."""

    @property
    def name(self) -> str:
        return super().name + ("_stitching" if self.stitching else "")

    @property
    def world(self) -> MujocoWorld:
        drive = self.drive
        return scene.compile_world(build_scene, drive.control_step, maze=self.maze, drive=drive)

    goal = GoalSpec((Coordinate("x", "m"), Coordinate("y", "m")), radius=0.5, easy_radius=2.0)
    action_dim = 8
    episode_length = 1000

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        joints = [f"{name} {joint}" for name, *_ in LEGS for joint in ("hip", "ankle")]
        return free_body(joints)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Standing pose plus uniform noise on positions and normal noise on velocities."""
        *noise_keys, start_key = jax.random.split(key, 3)
        pose = jnp.array([0, 0, STANDING_HEIGHT, 1, 0, 0, 0, *STANDING_JOINTS], jnp.float32)
        noise, qvel = reset_noise(noise_keys, goal.shape[0], NUM_POSITIONS, NUM_VELOCITIES)
        if self._has_tasks:
            noise = noise.at[:, :2].set(0.0)  # these starts have their own noise
        qpos = (pose + noise).at[:, :2].add(self._start(start_key, goal, split))
        quaternion = qpos[:, 3:7] / jnp.linalg.norm(qpos[:, 3:7], axis=-1, keepdims=True)
        return qpos.at[:, 3:7].set(quaternion), qvel

    @property
    def _has_tasks(self) -> bool:
        return self.maze is not None and len(self.maze.tasks) > 0

    def _start(self, key: Array, goal: Array, split: GoalSplit) -> Array:
        """Where the torso starts, `[2]` or `[envs, 2]`."""
        if self.maze is None:
            return jnp.zeros(2)
        if self._has_tasks:
            return self.maze.sample_task_start(key, goal, split)
        if self.stitching and split == "training":
            return self.maze.sample_start(key, goal, MAX_TRAINING_PATH)
        return jnp.asarray(self.maze.start, jnp.float32)

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        if self.maze is None:
            return sample_circle(key, num_envs, self.goal_distance)
        if self.stitching:
            return self.maze.sample_free_cell(key, num_envs, split)
        return self.maze.sample_goal(key, num_envs, split, TASK_NOISE if self._has_tasks else 0.0)

    def observe(self, state: PhysicsState) -> Array:
        qpos, qvel = state.qpos[:, :NUM_POSITIONS], state.qvel[:, :NUM_VELOCITIES]
        return jnp.concatenate([qpos, qvel], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, :2]


@dataclass(frozen=True)
class GymAnt(Ant):
    """The ant with Gym's motors at 20 Hz. Its episode ends when its height leaves 0.2 to 1.0 m.

    It serves to compare with results from other engines. These motors are five times as strong, and
    in MuJoCo random actions throw the ant on its back.
    """

    body = "gym_ant"
    healthy_height = (0.2, 1.0)
    drive: ClassVar[Drive] = GYM_DRIVE


@dataclass(frozen=True)
class AntBall(Ant):
    """Observation: the ant's and the ball's x, y. Goal: the ball's x, y on a circle of 5 m.

    The ball starts at about a quarter of the distance to its goal, clear of the legs.
    """

    goal = GoalSpec(
        (Coordinate("ball x", "m"), Coordinate("ball y", "m")), radius=0.5, easy_radius=2.0
    )
    body = "ant_ball"
    goal_distance = 5.0

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(_build_ball, self.drive.control_step)

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        return (*super().observation, *self.goal.coordinates)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        ant_key, ball_key = jax.random.split(key)
        qpos, qvel = super().reset(ant_key, goal, split)
        offset = jax.random.uniform(ball_key, goal.shape, minval=-BALL_OFFSET, maxval=BALL_OFFSET)
        pose = jnp.broadcast_to(jnp.array([BALL_RADIUS, 1, 0, 0, 0]), (goal.shape[0], 5))
        ball = jnp.concatenate([BALL_START_SHARE * goal + offset, pose], -1)
        return jnp.concatenate([qpos, ball], -1), jnp.pad(qvel, ((0, 0), (0, 6)))

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([super().observe(state), self.achieved_goal(state)], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, NUM_POSITIONS : NUM_POSITIONS + 2]


@dataclass(frozen=True)
class AntPush(Ant):
    """Observation: the ant's and the block's x, y. Goal: torso x, y behind the block.

    Both goals lie behind one block in the only crossing. The block slides and never turns. Pushed
    toward the goal, it obstructs the path permanently; pushed aside, it frees the path.
    """

    layout: str | None = "push"

    @property
    def name(self) -> str:
        return "ant_push"

    @property
    def splits(self) -> tuple[GoalSplit, ...]:
        return ("evaluation",)

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(_build_push, self.drive.control_step)

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        return (*super().observation, Coordinate("block x", "m"), Coordinate("block y", "m"))

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        noise = PUSH_GOAL_NOISE / MAZE_CELL_SIZE
        return Maze("push", MAZE_CELL_SIZE).sample_goal(key, num_envs, split, noise)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        qpos, qvel = super().reset(key, goal, split)
        block = ((0, 0), (0, 2))  # zeros: its position in the model
        return jnp.pad(qpos, block), jnp.pad(qvel, block)

    def observe(self, state: PhysicsState) -> Array:
        home = jnp.array(BLOCK_HOME, jnp.float32)
        return jnp.concatenate([super().observe(state), home + state.qpos[:, NUM_POSITIONS:]], -1)


def build_scene(maze: Maze | None, drive: Drive = BENCHMARK_DRIVE) -> mujoco.MjSpec:
    """Floor, walls if there is a maze, and the ant. Parts of the ant collide with the world, not
    with each other."""
    spec = scene.new_scene(time_step=drive.time_step)
    spec.option.integrator = drive.integrator
    across = 0 if maze is None else max(maze.walls.shape) * maze.cell_size
    scene.add_ground(spec, half=max(40, across), **drive.contact)
    if maze is not None:
        scene.add_walls(spec, maze, height=WALL_HEIGHT, **drive.contact)
    part = {"density": 5.0, **drive.contact}
    torso = spec.worldbody.add_body(name="torso", pos=[0, 0, 0.75])
    torso.add_freejoint(name="root")
    scene.add_sphere(torso, (0, 0, 0), 0.25, **part)
    for name, side_x, side_y, axis, sign in LEGS:
        _add_leg(torso, name, np.array([side_x, side_y, 0.0]), axis, sign, part)
    for name in MOTOR_ORDER:
        for joint in ("hip", "ankle"):
            scene.add_motor(spec, f"{name}_{joint}", gear=drive.gear)
    return spec


def _add_leg(torso, name: str, side: np.ndarray, axis: tuple, sign: int, part: dict) -> None:
    origin = (0, 0, 0)
    shoulder = torso.add_body(name=f"{name}_shoulder")
    scene.add_capsule(shoulder, origin, 0.2 * side, 0.08, **part)
    upper = shoulder.add_body(name=f"{name}_upper_leg", pos=0.2 * side)
    scene.add_hinge(upper, f"{name}_hip", (0, 0, 1), np.radians((-30, 30)), **JOINT)
    scene.add_capsule(upper, origin, 0.2 * side, 0.08, **part)
    lower = upper.add_body(name=f"{name}_lower_leg", pos=0.2 * side)
    limits = np.radians(sorted((sign * 30, sign * 70)))
    scene.add_hinge(lower, f"{name}_ankle", axis, limits, **JOINT)
    scene.add_capsule(lower, origin, 0.4 * side, 0.08, **part)


def _build_ball() -> mujoco.MjSpec:
    spec = build_scene(None)
    ball = spec.worldbody.add_body(name="ball", pos=[0, 0, BALL_RADIUS])
    # Without damping, a touched ball would roll forever. With it, a ball at 2 m/s rolls 2.4 m.
    # Rolling friction does not stop the ball under Runge-Kutta.
    ball.add_joint(name="ball", type=mujoco.mjtJoint.mjJNT_FREE, damping=[BALL_DAMPING, 0, 0])
    scene.add_sphere(ball, (0, 0, 0), BALL_RADIUS, mass=BALL_MASS, **OBJECT)
    return spec


def _build_push() -> mujoco.MjSpec:
    spec = build_scene(Maze("push", MAZE_CELL_SIZE))
    # The block is slightly above the floor and does not touch it: its joints carry it.
    block = spec.worldbody.add_body(name="block", pos=[*BLOCK_HOME, BLOCK_HALF_SIZE[2] + 0.05])
    scene.add_slides(block, "block", damping=[BLOCK_DAMPING, 0, 0])
    scene.add_box(block, (0, 0, 0), BLOCK_HALF_SIZE, mass=BLOCK_MASS, **OBJECT)
    return spec
