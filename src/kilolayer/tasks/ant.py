"""The ant: a four-legged body that must carry its torso to a place, in the open or in a maze.

The body has the dimensions, joint ranges and motors of the standard Gym ant. Its own time step is
0.01 s; the integrator is semi-implicit Euler, where Gym's file asks for Runge-Kutta of order four
at a third of the speed.
"""

# MuJoCo ships no type stubs for its compiled module.
# pyright: reportAttributeAccessIssue=false
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array

CONTROL_STEP = 0.05
# High enough that the reset's noise leaves no foot inside the floor, which would throw the ant.
STANDING_HEIGHT = 0.75
HEALTHY_HEIGHT = (0.2, 1.0)
OPEN_GOAL_DISTANCE = 10.0
MAZE_CELL_SIZE = 4.0
RESET_NOISE = 0.1

# (name, side along x, side along y, ankle axis, sign of the ankle's angle)
LEGS = (
    ("front_left", 1, 1, (-1, 1, 0), 1),
    ("front_right", -1, 1, (1, 1, 0), -1),
    ("back_left", -1, -1, (-1, 1, 0), -1),
    ("back_right", 1, -1, (1, 1, 0), 1),
)
MOTOR_ORDER = ("back_right", "front_left", "front_right", "back_left")
STANDING_JOINTS = (0, 1, 0, -1, 0, -1, 0, 1)  # hip and ankle of each leg, rad


@dataclass(frozen=True)
class Ant:
    """Observation: qpos 15 and qvel 14, x and y included. Goal: torso x, y within 0.5 m.

    layout: a maze's name, or None for open ground with goals on a circle of 10 m.
    """

    layout: str | None = None

    @property
    def name(self) -> str:
        return "ant" if self.layout is None else f"ant_{self.layout}_maze"

    @property
    def maze(self) -> Maze | None:
        return None if self.layout is None else Maze(self.layout, MAZE_CELL_SIZE)

    @property
    def world(self) -> MujocoWorld:
        return _compile_world(self.layout)

    goal = GoalSpec((Coordinate("x", "m"), Coordinate("y", "m")), radius=0.5, easy_radius=2.0)
    action_dim = 8
    episode_length = 1000

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        joints = [f"{leg[0]} {joint}" for leg in LEGS for joint in ("hip", "ankle")]
        positions = [(axis, "m") for axis in "xyz"] + [(f"quaternion {c}", "1") for c in "wxyz"]
        velocities = [(f"{c} velocity", "m/s") for c in "xyz"]
        velocities += [(f"angular velocity {c}", "rad/s") for c in "xyz"]
        pairs = [*positions, *((joint, "rad") for joint in joints)]
        pairs += [*velocities, *((f"{joint} velocity", "rad/s") for joint in joints)]
        return tuple(Coordinate(*pair) for pair in pairs)

    @property
    def splits(self) -> tuple[GoalSplit, ...]:
        return ("evaluation",) if self.maze is None else ("evaluation", "training")

    def reset(self, key: Array, num_worlds: int) -> tuple[Array, Array]:
        """Standing pose plus uniform noise on positions and normal noise on velocities."""
        position_key, velocity_key = jax.random.split(key)
        start = np.zeros(2) if self.maze is None else self.maze.start
        pose = jnp.array([*start, STANDING_HEIGHT, 1, 0, 0, 0, *STANDING_JOINTS], jnp.float32)
        shape = (num_worlds, pose.shape[0])
        noise = jax.random.uniform(position_key, shape, minval=-RESET_NOISE, maxval=RESET_NOISE)
        qpos = pose + noise
        quaternion = qpos[:, 3:7] / jnp.linalg.norm(qpos[:, 3:7], axis=-1, keepdims=True)
        qvel = RESET_NOISE * jax.random.normal(velocity_key, (num_worlds, 14))
        return qpos.at[:, 3:7].set(quaternion), qvel

    def sample_goal(self, key: Array, num_worlds: int, split: GoalSplit) -> Array:
        if self.maze is not None:
            return self.maze.sample_goal(key, num_worlds, split, noise=0.0)
        angle = jax.random.uniform(key, (num_worlds,), maxval=2 * jnp.pi)
        return OPEN_GOAL_DISTANCE * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([state.qpos, state.qvel], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, :2]

    def terminated(self, state: PhysicsState) -> Array:
        low, high = HEALTHY_HEIGHT
        height = state.qpos[:, 2]
        return (height < low) | (height > high)


@cache
def _compile_world(layout: str | None) -> MujocoWorld:
    """Compiling a scene takes a while, and a task asks for its world often."""
    return MujocoWorld.compile(build_scene(Ant(layout).maze), CONTROL_STEP)


def build_scene(maze: Maze | None) -> mujoco.MjSpec:
    """Floor, light, walls if any, and the ant. Parts of the ant touch the world, not each other."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = True
    spec.option.timestep = 0.01
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    _add_ground(spec, maze)
    torso = spec.worldbody.add_body(name="torso", pos=[0, 0, 0.75])
    torso.add_freejoint(name="root")
    _add_geom(torso, type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.25, 0, 0])
    for name, side_x, side_y, axis, sign in LEGS:
        _add_leg(torso, name, np.array([side_x, side_y, 0.0]), axis, sign)
    for name in MOTOR_ORDER:
        for joint in ("hip", "ankle"):
            motor = spec.add_actuator(name=f"{name}_{joint}", target=f"{name}_{joint}")
            motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
            motor.gear = [150, 0, 0, 0, 0, 0]
            motor.ctrllimited, motor.ctrlrange = True, [-1, 1]
    return spec


def _add_leg(torso, name: str, side: np.ndarray, axis: tuple, sign: int) -> None:
    capsule, hinge = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtJoint.mjJNT_HINGE
    shoulder = torso.add_body(name=f"{name}_shoulder")
    _add_geom(shoulder, type=capsule, fromto=[0, 0, 0, *(0.2 * side)], size=[0.08, 0, 0])
    upper = shoulder.add_body(name=f"{name}_upper_leg", pos=0.2 * side)
    upper.add_joint(name=f"{name}_hip", type=hinge, axis=[0, 0, 1], range=[-30, 30], **JOINT)
    _add_geom(upper, type=capsule, fromto=[0, 0, 0, *(0.2 * side)], size=[0.08, 0, 0])
    lower = upper.add_body(name=f"{name}_lower_leg", pos=0.2 * side)
    angles = sorted((sign * 30, sign * 70))
    lower.add_joint(name=f"{name}_ankle", type=hinge, axis=axis, range=angles, **JOINT)
    _add_geom(lower, type=capsule, fromto=[0, 0, 0, *(0.4 * side)], size=[0.08, 0, 0])


JOINT = {"armature": 1.0, "damping": [1.0, 0, 0], "limited": True}
# Of every geom, ground and walls included: MuJoCo adds up the margins of both sides of a contact.
CONTACT_MARGIN = 0.01


def _add_geom(body, **shape) -> None:
    body.add_geom(
        density=5.0,
        friction=[1, 0.5, 0.5],
        margin=CONTACT_MARGIN,
        contype=1,
        conaffinity=0,
        rgba=[0.85, 0.55, 0.25, 1],
        **shape,
    )


def _add_ground(spec: mujoco.MjSpec, maze: Maze | None) -> None:
    spec.add_texture(
        name="ground",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.93, 0.94, 0.95],
        rgb2=[0.85, 0.87, 0.89],
        width=256,
        height=256,
    )
    textures = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "ground"
    spec.add_material(name="ground", textures=textures, texrepeat=[0.5, 0.5], texuniform=True)
    world = spec.worldbody
    world.add_light(pos=[0, 0, 20], dir=[0.2, 0.3, -1], diffuse=[0.7, 0.7, 0.7], castshadow=False)
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[40, 40, 40],
        material="ground",
        friction=[1, 0.5, 0.5],
        margin=CONTACT_MARGIN,
        conaffinity=1,
    )
    height = MAZE_CELL_SIZE * 0.25  # half of the walls' height, which is half a cell
    for x, y, half_x, half_y in maze.wall_rectangles if maze else ():
        world.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[x, y, height],
            size=[half_x, half_y, height],
            rgba=[0.42, 0.47, 0.55, 1],
            margin=CONTACT_MARGIN,
            conaffinity=1,
        )
