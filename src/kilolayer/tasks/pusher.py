"""The pusher: an arm over a table that must push a puck to a goal.

The arm has the dimensions, joints and motors of the standard Gym pusher (version 5), which has no
gravity. Positions on the table are offsets from the puck's home, as in Gym.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import scene
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task, sample_box
from kilolayer.types import Array

CONTROL_STEP = 0.05
TABLE_HEIGHT = -0.325
PUCK_HOME = np.array([0.45, -0.05, -0.275])
# (lowest, highest) corner of offsets from home in x and y, m.
PUCK_STARTS = ((-0.3, -0.2), (0.0, 0.2))
EASY_GOALS = ((-0.55, -0.2), (-0.25, 0.2))
HARD_GOALS = ((-0.65, -0.3), (0.05, 0.3))
MIN_GOAL_DISTANCE = 0.17  # from the puck to a hard goal, m
VELOCITY_NOISE = 0.005
# Draws of a start per environment; the first that is far enough from the goal is used. In one of
# ten thousand episodes none is, and the first draw is used.
DRAWS = 16

JOINTS = ("shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow", "forearm_roll", "wrist",
          "wrist_roll")  # fmt: skip
PUCK_COORDINATES = tuple(Coordinate(f"puck {axis}", "m") for axis in "xyz")
MOTOR_LIMIT = 2.0  # N m
PART = {"density": 300, "friction": (0.8, 0.1, 0.1), "margin": 0.002, "condim": 1}
GHOST = {**PART, "contype": 0, "conaffinity": 0}
SOLID = {**PART, "contype": 1, "conaffinity": 1}
PUCK = {**PART, "density": 0.01, "contype": 1, "conaffinity": 0, "rgba": [0.5, 0.5, 0.5, 1]}


@dataclass(frozen=True)
class Pusher(Task):
    """Observation: joints and their velocities, tip of the arm, puck. Goal: the puck's position.

    level: `easy`: goals beside the starts, success within 0.1 m. `hard`: goals anywhere in reach,
    success within 0.05 m.
    """

    level: Literal["easy", "hard"]

    action_dim = len(JOINTS)
    episode_length = 1000

    @property
    def name(self) -> str:
        return f"pusher_{self.level}"

    @property
    def goal(self) -> GoalSpec:
        # The benchmark states no easy radius; we use twice the radius.
        radius = 0.1 if self.level == "easy" else 0.05
        return GoalSpec(PUCK_COORDINATES, radius, easy_radius=2 * radius)

    observation = (
        *(Coordinate(joint, "rad") for joint in JOINTS),
        *(Coordinate(f"{joint} velocity", "rad/s") for joint in JOINTS),
        *(Coordinate(f"tip {axis}", "m") for axis in "xyz"),
        *PUCK_COORDINATES,
    )

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(build_scene, CONTROL_STEP, ("site_xpos",))

    @property
    def goal_box(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        low, high = (PUCK_HOME + np.array([*offset, 0]) for offset in self._goal_offsets)
        return tuple(low.tolist()), tuple(high.tolist())

    @property
    def _goal_offsets(self) -> tuple:
        return EASY_GOALS if self.level == "easy" else HARD_GOALS

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        return _table_position(sample_box(key, (num_envs,), self._goal_offsets))

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """The arm stretched out; the puck at a random start. `hard` keeps a least distance from the
        goal, except in one of ten thousand episodes."""
        puck_key, velocity_key = jax.random.split(key)
        num_envs = goal.shape[0]
        starts = sample_box(puck_key, (DRAWS, num_envs), PUCK_STARTS)
        if self.level == "hard":
            distance = jnp.linalg.norm(_table_position(starts) - goal, axis=-1)
            first = jnp.argmax(distance >= MIN_GOAL_DISTANCE, axis=0)
        else:
            first = jnp.zeros(num_envs, jnp.int32)
        puck = starts[first, jnp.arange(num_envs)]
        arm = jnp.zeros((num_envs, len(JOINTS)))
        velocity = jax.random.uniform(
            velocity_key, arm.shape, minval=-VELOCITY_NOISE, maxval=VELOCITY_NOISE
        )
        return jnp.concatenate([arm, puck], -1), jnp.concatenate([velocity, 0 * puck], -1)

    def observe(self, state: PhysicsState) -> Array:
        joints = len(JOINTS)
        tip = state.fields["site_xpos"][:, 0]
        return jnp.concatenate(
            [state.qpos[:, :joints], state.qvel[:, :joints], tip, self.achieved_goal(state)], -1
        )

    def achieved_goal(self, state: PhysicsState) -> Array:
        return _table_position(state.qpos[:, len(JOINTS) :])

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        """puck_travel: mean length of the puck's path, m."""
        steps = np.linalg.norm(np.diff(qpos[..., len(JOINTS) :], axis=0), axis=-1)
        return {"puck_travel": float(steps.sum(0).mean())}


def _table_position(offset: Array) -> Array:
    """Positions `[..., 3]` on the table of offsets `[..., 2]` from the puck's home."""
    home = jnp.asarray(PUCK_HOME, jnp.float32)
    return home + jnp.concatenate([offset, jnp.zeros_like(offset[..., :1])], -1)


def build_scene() -> mujoco.MjSpec:
    """Table, arm and puck. Only the fork at the arm's end touches table and puck."""
    spec = scene.new_scene(time_step=0.01)
    scene.set_view(spec, centre=(0.15, -0.1, -0.3), extent=1.2, azimuth=90, elevation=-70)
    spec.option.gravity = [0, 0, 0]
    scene.add_ground(spec, pos=[0, 0.5, TABLE_HEIGHT], **SOLID)
    pan = spec.worldbody.add_body(name="shoulder_pan", pos=[0, -0.6, 0])
    for side in (-1, 1):  # a head with two eyes
        scene.add_sphere(pan, (0.06 * side, 0.05, 0.2), 0.05, **GHOST)
        scene.add_sphere(pan, (0.06 * side, 0.09, 0.2), 0.03, **GHOST)
    scene.add_capsule(pan, (0, 0, -0.4), (0, 0, 0.2), 0.1, **GHOST)
    _add_joint(pan, "shoulder_pan", (0, 0, 1), (-2.2854, 1.714602), 1.0)
    lift = pan.add_body(name="shoulder_lift", pos=[0.1, 0, 0])
    scene.add_capsule(lift, (0, -0.1, 0), (0, 0.1, 0), 0.1, **GHOST)
    _add_joint(lift, "shoulder_lift", (0, 1, 0), (-0.5236, 1.3963), 1.0)
    upper = lift.add_body(name="upper_arm")
    scene.add_capsule(upper, (-0.1, 0, 0), (0.1, 0, 0), 0.02, **GHOST)
    scene.add_capsule(upper, (0, 0, 0), (0.4, 0, 0), 0.06, **GHOST)
    _add_joint(upper, "upper_arm_roll", (1, 0, 0), (-1.5, 1.7), 0.1)
    elbow = upper.add_body(name="elbow", pos=[0.4, 0, 0])
    scene.add_capsule(elbow, (0, -0.02, 0), (0, 0.02, 0), 0.06, **GHOST)
    _add_joint(elbow, "elbow", (0, 1, 0), (-2.3213, 0), 0.1)
    forearm = elbow.add_body(name="forearm")
    scene.add_capsule(forearm, (-0.1, 0, 0), (0.1, 0, 0), 0.02, **GHOST)
    scene.add_capsule(forearm, (0, 0, 0), (0.291, 0, 0), 0.05, **GHOST)
    _add_joint(forearm, "forearm_roll", (1, 0, 0), (-1.5, 1.5), 0.1)
    wrist = forearm.add_body(name="wrist", pos=[0.321, 0, 0])
    scene.add_capsule(wrist, (0, -0.02, 0), (0, 0.02, 0), 0.01, **GHOST)
    _add_joint(wrist, "wrist", (0, 1, 0), (-1.094, 0), 0.1)
    fork = wrist.add_body(name="fork")
    _add_joint(fork, "wrist_roll", (1, 0, 0), (-1.5, 1.5), 0.1)
    fork.add_site(name="tip")
    scene.add_capsule(fork, (0, -0.1, 0), (0, 0.1, 0), 0.02, **SOLID)
    for side in (-1, 1):
        scene.add_sphere(fork, (0.1, 0.1 * side, 0), 0.01, **GHOST)
        scene.add_capsule(fork, (0, 0.1 * side, 0), (0.1, 0.1 * side, 0), 0.02, **SOLID)
    puck = spec.worldbody.add_body(name="puck", pos=PUCK_HOME)
    slide = {"range": [-10.3213, 10.3], "limited": True, "armature": 0.04, "damping": [0.5, 0, 0]}
    scene.add_slides(puck, "puck", **slide)
    scene.add_cylinder(puck, (0, 0, 0), 0.05, 0.05, **PUCK)
    for name in JOINTS:
        scene.add_motor(spec, name, gear=1.0, limit=MOTOR_LIMIT)
    return spec


def _add_joint(body, name: str, axis: tuple, limits: tuple, damping: float) -> None:
    scene.add_hinge(body, name, axis, limits, armature=0.04, damping=[damping, 0, 0])
