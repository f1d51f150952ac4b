"""The half-cheetah: a planar two-legged runner that must move its torso to a goal ahead.

The body has the dimensions, springs and motors of the standard Gym half-cheetah.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import scene
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task, reset_noise
from kilolayer.tasks.coordinates import state_names
from kilolayer.tasks.legged import movement
from kilolayer.types import Array

CONTROL_STEP = 0.05
GOAL_X = 5.0
TORSO_HEIGHT = 0.7
DENSITY = 660.8849500774736  # kg/m^3: 14 kg in all
RADIUS = 0.046
CONTACT = {"condim": 3, "friction": (0.4, 0.1, 0.1), "solimp": (0, 0.8, 0.01, 0.5, 2)}
PART = {"density": DENSITY, **CONTACT}
JOINT = {"armature": 0.1, "solimp_limit": (0, 0.8, 0.03, 0.5, 2)}


@dataclass(frozen=True)
class Limb:
    """A capsule that hangs on a sprung hinge about y.

    position: of the hinge in the parent, (x, z) m. limits: rad. centre: of the capsule, (x, z) m.
    angle: of the capsule's axis from z about y, rad. gear: N m at full control.
    """

    name: str
    parent: str
    position: tuple[float, float]
    limits: tuple[float, float]
    damping: float
    stiffness: float
    centre: tuple[float, float]
    angle: float
    half_length: float
    gear: float


LIMBS = (
    Limb("bthigh", "torso", (-0.5, 0), (-0.52, 1.05), 6, 240, (0.1, -0.13), -3.8, 0.145, 120),
    Limb("bshin", "bthigh", (0.16, -0.25), (-0.785, 0.785), 4.5, 180, (-0.14, -0.07), -2.03, 0.15,
         90),
    Limb("bfoot", "bshin", (-0.28, -0.14), (-0.4, 0.785), 3, 120, (0.03, -0.097), -0.27, 0.094, 60),
    Limb("fthigh", "torso", (0.5, 0), (-1, 0.7), 4.5, 180, (-0.07, -0.12), 0.52, 0.133, 120),
    Limb("fshin", "fthigh", (-0.14, -0.24), (-1.2, 0.87), 3, 120, (0.065, -0.09), -0.6, 0.106, 60),
    Limb("ffoot", "fshin", (0.13, -0.18), (-0.5, 0.5), 1.5, 60, (0.045, -0.07), -0.6, 0.07, 30),
)  # fmt: skip


@dataclass(frozen=True)
class HalfCheetah(Task):
    """Observation: positions 9 and velocities 9, torso x included. Goal: torso x within 0.5 m."""

    name = "half_cheetah"
    goal = GoalSpec((Coordinate("x", "m"),), radius=0.5, easy_radius=2.0)
    action_dim = 6
    episode_length = 1000

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(build_scene, CONTROL_STEP)

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        return state_names(self.world.model)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Level pose plus uniform noise on positions and normal noise on velocities."""
        return reset_noise(jax.random.split(key), goal.shape[0], 9, 9)

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        return jnp.full((num_envs, 1), GOAL_X)

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([state.qpos, state.qvel], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, :1]

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        height, upright = TORSO_HEIGHT + qpos[..., 1], np.cos(qpos[..., 2])
        return movement(self.world, qpos, alive, qpos[..., :1], height, upright)


def build_scene() -> mujoco.MjSpec:
    """Floor and cheetah. The cheetah moves in the plane of x and z."""
    spec = scene.new_scene(time_step=0.01)
    scene.set_view(spec, centre=(2.5, 0, 0), extent=7, azimuth=90, elevation=-30)
    scene.add_ground(spec, **CONTACT)
    torso = spec.worldbody.add_body(name="torso", pos=[0, 0, TORSO_HEIGHT])
    for name, kind, axis in (("x", "SLIDE", (1, 0, 0)), ("z", "SLIDE", (0, 0, 1)),
                             ("pitch", "HINGE", (0, 1, 0))):  # fmt: skip
        joint = getattr(mujoco.mjtJoint, f"mjJNT_{kind}")
        torso.add_joint(name=name, type=joint, axis=list(axis))
    scene.add_capsule(torso, (-0.5, 0, 0), (0.5, 0, 0), RADIUS, **PART)
    _add_tilted_capsule(torso, (0.6, 0.1), 0.87, 0.15)
    bodies = {"torso": torso}
    for limb in LIMBS:
        x, z = limb.position
        body = bodies[limb.parent].add_body(name=limb.name, pos=[x, 0, z])
        bodies[limb.name] = body
        joint = {"damping": [limb.damping, 0, 0], "stiffness": [limb.stiffness, 0, 0], **JOINT}
        scene.add_hinge(body, limb.name, (0, 1, 0), limb.limits, **joint)
        _add_tilted_capsule(body, limb.centre, limb.angle, limb.half_length)
        scene.add_motor(spec, limb.name, limb.gear)
    return spec


def _add_tilted_capsule(body, centre: tuple, angle: float, half_length: float) -> None:
    axis = half_length * np.array([np.sin(angle), np.cos(angle)])
    (x, z), (dx, dz) = centre, axis
    scene.add_capsule(body, (x - dx, 0, z - dz), (x + dx, 0, z + dz), RADIUS, **PART)
