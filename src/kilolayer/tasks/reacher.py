"""The reacher: two links on a table whose tip must move to a goal.

The links have the dimensions and the motors the strength of the standard Gym reacher.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import scene
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task, reset_noise, sample_circle
from kilolayer.types import Array

CONTROL_STEP = 0.04
LINK = 0.1
TIP = 0.11  # of the second link, m from its hinge
HEIGHT = 0.01
REACH = 0.2
TIP_COORDINATES = tuple(Coordinate(f"tip {axis}", "m") for axis in "xyz")


@dataclass(frozen=True)
class Reacher(Task):
    """Observation: cosines and sines of the joints, tip position and velocity. Goal: the tip.

    The benchmark states no easy radius; we use twice the radius.
    """

    name = "reacher"
    goal = GoalSpec(TIP_COORDINATES, radius=0.05, easy_radius=0.1)
    action_dim = 2
    episode_length = 1000

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(build_scene, CONTROL_STEP)

    observation = (
        *(Coordinate(f"{function} {joint}", "1") for function in ("cosine of", "sine of")
          for joint in ("shoulder", "elbow")),
        *TIP_COORDINATES,
        *(Coordinate(f"tip {axis} velocity", "m/s") for axis in "xyz"),
    )  # fmt: skip

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Stretched along x plus uniform noise on positions and normal noise on velocities."""
        return reset_noise(jax.random.split(key), goal.shape[0], 2, 2)

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        radius_key, angle_key = jax.random.split(key)
        radius = jax.random.uniform(radius_key, (num_envs, 1), maxval=REACH)
        position = sample_circle(angle_key, num_envs, radius)
        return jnp.concatenate([position, jnp.full((num_envs, 1), HEIGHT)], -1)

    def observe(self, state: PhysicsState) -> Array:
        # The tip's velocity is its position's derivative along the joints' velocities.
        tip, tip_velocity = jax.jvp(_tip, (state.qpos,), (state.qvel,))
        return jnp.concatenate([jnp.cos(state.qpos), jnp.sin(state.qpos), tip, tip_velocity], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return _tip(state.qpos)


def _tip(qpos: Array) -> Array:
    """Position of the tip `[envs, 3]` for joints `qpos [envs, 2]`."""
    shoulder, elbow = qpos[:, 0], qpos[:, 0] + qpos[:, 1]
    x = LINK * jnp.cos(shoulder) + TIP * jnp.cos(elbow)
    y = LINK * jnp.sin(shoulder) + TIP * jnp.sin(elbow)
    return jnp.stack([x, y, jnp.full_like(x, HEIGHT)], -1)


def build_scene() -> mujoco.MjSpec:
    """A table, a shoulder that turns without limit, an elbow within +-3 rad; nothing collides."""
    spec = scene.new_scene(time_step=0.01)
    scene.set_view(spec, centre=(0, 0, 0), extent=0.4, azimuth=90, elevation=-89)
    scene.add_ground(spec)
    joint, free = {"armature": 1.0, "damping": [1.0, 0, 0]}, {"contype": 0}
    upper = spec.worldbody.add_body(name="upper", pos=[0, 0, HEIGHT])
    upper.add_joint(name="shoulder", type=scene.JOINT.mjJNT_HINGE, axis=[0, 0, 1], **joint)
    scene.add_capsule(upper, (0, 0, 0), (LINK, 0, 0), 0.01, **free)
    lower = upper.add_body(name="lower", pos=[LINK, 0, 0])
    scene.add_hinge(lower, "elbow", (0, 0, 1), (-3, 3), **joint)
    scene.add_capsule(lower, (0, 0, 0), (LINK, 0, 0), 0.01, **free)
    scene.add_sphere(lower.add_body(name="tip", pos=[TIP, 0, 0]), (0, 0, 0), 0.01, **free)
    for name in ("shoulder", "elbow"):
        scene.add_motor(spec, name, gear=200)
    return spec
