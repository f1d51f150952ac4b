"""The user's own robot, from an MJCF file: move one of its parts to goal positions.

The only assumption is that the robot has actuators with ranges. Settings that the user does not
give are chosen here; `docs/make_own_robot.md` explains how.
"""

import dataclasses
import hashlib
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.errors import UserError, bad_field
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld, NativePhysics
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task, sample_box
from kilolayer.tasks.choice import TaskChoice
from kilolayer.tasks.coordinates import sensor_names, state_names
from kilolayer.tasks.mjcf import Part, check_reach, find_part, reachable_positions, read_world
from kilolayer.tasks.motion import random_motion
from kilolayer.types import Array

# Starts have uniform noise on each joint (rad, m, 1), at most this share of the joint's range.
HINGE_NOISE, SLIDE_NOISE, QUATERNION_NOISE = 0.05, 0.01, 0.025
SHARE_OF_RANGE = 0.05

# By default goals are drawn from positions visited under random controls: number of environments,
# control steps, and control steps for which each control is held.
ENVS, STEPS, HOLD = 64, 100, 10
MAX_GOALS = 1024
RADIUS_SHARE = 0.05  # default success radius, as a share of the diameter of the visited box
MIN_RADIUS = 0.01  # m
STATIONARY = 1e-3  # m; a part that moves less counts as stationary


@dataclass(frozen=True)
class Pose:
    """The start of an episode, all `[nq]`: the pose, its noise (+-), and its limits.

    quaternions: addresses of the quaternions, whose four numbers must have length one.
    """

    qpos: np.ndarray
    noise: np.ndarray
    low: np.ndarray
    high: np.ndarray
    quaternions: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class OwnRobot(Task):
    """Observation: positions, velocities and sensors. Goal: position of a site or a body, m.

    box: `[2, 3]`, lowest and highest corner between which goals are drawn. None: goals are drawn
    from `positions [positions, 3]`, which random motion visited.
    """

    name: str
    world: MujocoWorld
    part: Part
    goal: GoalSpec
    pose: Pose
    box: np.ndarray | None
    positions: np.ndarray

    episode_length = 500

    @property
    def action_dim(self) -> int:
        return len(self.world.driven)

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        return state_names(self.world.model) + sensor_names(self.world.model)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Of the compiled model with its meshes; another MuJoCo may compile it differently."""
        model = self.world.model
        content = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, content)
        return {
            "sha256": hashlib.sha256(content.tobytes()).hexdigest(),
            "mujoco": mujoco.__version__,
        }

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        if self.box is not None:
            return sample_box(key, (num_envs,), self.box)
        chosen = jax.random.randint(key, (num_envs,), 0, len(self.positions))
        return jnp.asarray(self.positions, jnp.float32)[chosen]

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """The model's pose plus uniform noise within the joints' limits, at rest."""
        pose, model = self.pose, self.world.model
        noise = jax.random.uniform(key, (goal.shape[0], model.nq), minval=-1, maxval=1)
        qpos = jnp.clip(pose.qpos + pose.noise * noise, pose.low, pose.high)
        for at in pose.quaternions:
            turn = qpos[:, at : at + 4]
            turn = turn / jnp.linalg.norm(turn, axis=-1, keepdims=True)
            qpos = qpos.at[:, at : at + 4].set(turn)
        return qpos, jnp.zeros((goal.shape[0], model.nv))

    def observe(self, state: PhysicsState) -> Array:
        parts = [state.qpos, state.qvel]
        if "sensordata" in state.fields:
            parts.append(state.fields["sensordata"])
        return jnp.concatenate(parts, -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.fields[self.part.field][:, self.part.index]


def make_own_robot(config: TaskChoice) -> OwnRobot:
    """The task of a robot given by `config.mjcf`.

    Takes about a second, because it plays random controls to find the positions that the robot
    visits. The same file gives the same task. Raises UserError for a file or settings that cannot
    be used.
    """
    assert config.mjcf is not None
    box = _goal_box(config.goal_box)
    world = read_world(config.mjcf, config.control_step)
    part = find_part(world.model, config.goal_site, config.goal_body)
    world = dataclasses.replace(world, fields=(part.field, *world.fields))
    pose = _start(world.model)
    if box is not None:
        reached = reachable_positions(world.model, part, pose.qpos)
        if reached is not None:
            check_reach(box, reached, part)
    coordinates = tuple(Coordinate(f"{part.name} {axis}", "m") for axis in "xyz")
    goal = GoalSpec(coordinates, radius=MIN_RADIUS, easy_radius=2 * MIN_RADIUS)
    task = OwnRobot(config.name, world, part, goal, pose, box, positions=np.zeros((1, 3)))
    positions = _visited_positions(task)
    diameter = float(np.linalg.norm(np.ptp(positions, axis=0)))
    radius = config.goal_radius or max(MIN_RADIUS, RADIUS_SHARE * diameter)
    goal = GoalSpec(coordinates, radius, easy_radius=2 * radius)
    return dataclasses.replace(task, goal=goal, positions=positions)


def _goal_box(text: str | None) -> np.ndarray | None:
    """`x0,y0,z0,x1,y1,z1` as `[2, 3]`; raises UserError unless it is a box."""
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        allowed = "a box is six numbers in m separated by commas, lowest corner then highest"
        raise bad_field("goal_box", text, f"{allowed}: x0,y0,z0,x1,y1,z1")
    box = np.array(numbers).reshape(2, 3)
    if (box[0] > box[1]).any():
        nearest = ",".join(f"{value:g}" for value in np.sort(box, axis=0).ravel())
        raise bad_field("goal_box", text, "the lowest corner must come first", nearest)
    return box


def _start(model: mujoco.MjModel) -> Pose:
    """The keyframe `home`, else the first keyframe, else the model's own pose.

    A free body gets no noise on its height and orientation, so that it does not start in the
    ground.
    """
    keys = [model.key(index).name for index in range(model.nkey)]
    home = keys.index("home") if "home" in keys else 0
    qpos = np.array(model.key_qpos[home] if keys else model.qpos0)
    noise, low, high = np.zeros(model.nq), np.full(model.nq, -np.inf), np.full(model.nq, np.inf)
    quaternions = []
    for joint in range(model.njnt):
        at, kind = int(model.jnt_qposadr[joint]), int(model.jnt_type[joint])
        span = np.ptp(model.jnt_range[joint]) if model.jnt_limited[joint] else np.inf
        most = SHARE_OF_RANGE * span
        if kind == int(mujoco.mjtJoint.mjJNT_FREE):
            noise[at : at + 2] = SLIDE_NOISE
            quaternions.append(at + 3)
        elif kind == int(mujoco.mjtJoint.mjJNT_BALL):
            noise[at : at + 4] = min(QUATERNION_NOISE, most)
            quaternions.append(at)
        else:
            slides = kind == int(mujoco.mjtJoint.mjJNT_SLIDE)
            noise[at] = min(SLIDE_NOISE if slides else HINGE_NOISE, most)
            if model.jnt_limited[joint]:
                low[at], high[at] = model.jnt_range[joint]
    return Pose(qpos, noise, low, high, tuple(quaternions))


def _visited_positions(task: OwnRobot) -> np.ndarray:
    """Positions `[positions, 3]` that the part visited under random controls; always the same ones.

    Raises UserError if every environment diverged, or if there is no goal box and the part stood
    still.
    """
    physics = NativePhysics(task.world, ENVS)
    goal = jnp.zeros((ENVS, 3))

    @jax.jit
    def play(key: Array) -> Array:
        return random_motion(task, physics, goal, key, STEPS, HOLD).achieved

    positions = np.asarray(play(jax.random.key(0)))
    positions = positions[:, np.isfinite(positions).all((0, 2))]
    if positions.size == 0:
        raise UserError(
            f"robot {task.name} diverges under random controls in every environment: give its "
            "model a smaller time step, or its actuators smaller ranges. MUJOCO_LOG.TXT names the "
            "joint."
        )
    if task.box is None and np.ptp(positions, axis=0).max() < STATIONARY:
        raise UserError(
            f"{task.part.name} does not move under random controls, so no goals can be drawn from "
            "its positions: choose a part that the actuators move, or give --goal-box."
        )
    return np.random.default_rng(0).permutation(positions.reshape(-1, 3))[:MAX_GOALS]
