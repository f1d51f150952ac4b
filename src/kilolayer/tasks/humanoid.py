"""The humanoid: a two-legged body that must move its torso to a goal, on open ground or in a maze.

The body has the dimensions, joints and motors of the standard Gym humanoid. Its parts collide with
each other too. Integration is semi-implicit Euler; Gym's file asks for Runge-Kutta.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import scene
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, sample_box, sample_circle
from kilolayer.tasks.legged import Legged, free_body
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array

CONTROL_STEP = 0.015
STANDING_HEIGHT = 1.4
GOAL_HEIGHT = 1.25
OPEN_GOAL_DISTANCES = ((1.0,), (5.0,))  # lowest and highest, m
MAZE_CELL_SIZE = 2.0
WALL_HEIGHT = 0.5 * MAZE_CELL_SIZE
MOTOR_LIMIT = 0.4
FIELDS = ("cinert", "cvel", "qfrc_actuator")  # derived fields that the observation needs

FLOOR = {"condim": 3, "friction": (1, 0.1, 0.1), "contype": 1, "margin": 0.001}
PART = {"condim": 1, "contype": 1, "conaffinity": 1, "margin": 0.001}


@dataclass(frozen=True)
class Hinge:
    """limits in degrees; gear: N m per unit of control, which lies in +-0.4."""

    name: str
    axis: tuple[float, float, float]
    limits: tuple[float, float]
    gear: float
    armature: float
    stiffness: float = 0.0
    damping: float = 1.0
    position: tuple[float, float, float] = (0, 0, 0)


@dataclass(frozen=True)
class Part:
    """A body. limbs: (start, end, radius); balls: (centre, radius); m in the body's frame."""

    name: str
    parent: str
    position: tuple[float, float, float]
    hinges: tuple[Hinge, ...] = ()
    limbs: tuple[tuple, ...] = ()
    balls: tuple[tuple, ...] = ()
    tilted: bool = False


def _leg(side: str, sign: int) -> tuple[Part, ...]:
    """sign: 1 for the left leg, whose hip turns the other way about x and z."""
    hips = (
        Hinge(f"{side}_hip_x", (-sign, 0, 0), (-25, 5), 100, 0.01, 10, 5),
        Hinge(f"{side}_hip_z", (0, 0, -sign), (-60, 35), 100, 0.01, 10, 5),
        Hinge(f"{side}_hip_y", (0, 1, 0), (-110, 20), 300, 0.01 if sign > 0 else 0.008, 20, 5),
    )
    # In Gym's file only the left knee has a spring.
    stiffness = 1.0 if sign > 0 else 0.0
    knee = Hinge(f"{side}_knee", (0, -1, 0), (-160, -2), 200, 0.006, stiffness, 1, (0, 0, 0.02))
    thigh = ((0, 0, 0), (0, -0.01 * sign, -0.34), 0.06)
    shin = ((0, 0, 0), (0, 0, -0.3), 0.049)
    return (
        Part(f"{side}_thigh", "pelvis", (0, 0.1 * sign, -0.04), hips, (thigh,)),
        Part(f"{side}_shin", f"{side}_thigh", (0, -0.01 * sign, -0.403), (knee,), (shin,)),
        Part(f"{side}_foot", f"{side}_shin", (0, 0, -0.45), balls=(((0, 0, 0.1), 0.075),)),
    )


def _arm(side: str, sign: int) -> tuple[Part, ...]:
    limits = (-60, 85) if sign > 0 else (-85, 60)
    shoulders = (
        Hinge(f"{side}_shoulder1", (2, -sign, 1), limits, 25, 0.0068, 1),
        Hinge(f"{side}_shoulder2", (0, sign, 1), limits, 25, 0.0051, 1),
    )
    elbow = Hinge(f"{side}_elbow", (0, -1, -sign), (-90, 50), 25, 0.0028)
    upper = ((0, 0, 0), (0.16, 0.16 * sign, -0.16), 0.04)
    lower = ((0.01, -0.01 * sign, 0.01), (0.17, -0.17 * sign, 0.17), 0.031)
    hand = ((0.18, -0.18 * sign, 0.18), 0.04)
    return (
        Part(f"{side}_upper_arm", "torso", (0, 0.17 * sign, 0.06), shoulders, (upper,)),
        Part(f"{side}_lower_arm", f"{side}_upper_arm", (0.18, 0.18 * sign, -0.18), (elbow,),
             (lower,), (hand,)),
    )  # fmt: skip


PARTS = (
    Part("lower_waist", "torso", (-0.01, 0, -0.26),
         (Hinge("abdomen_z", (0, 0, 1), (-45, 45), 100, 0.02, 20, 5, (0, 0, 0.065)),
          Hinge("abdomen_y", (0, 1, 0), (-75, 30), 100, 0.02, 10, 5, (0, 0, 0.065))),
         (((0, -0.06, 0), (0, 0.06, 0), 0.06),), tilted=True),
    Part("pelvis", "lower_waist", (0, 0, -0.165),
         (Hinge("abdomen_x", (1, 0, 0), (-35, 35), 100, 0.02, 10, 5, (0, 0, 0.1)),),
         (((-0.02, -0.07, 0), (-0.02, 0.07, 0), 0.09),), tilted=True),
    *_leg("right", -1), *_leg("left", 1), *_arm("right", -1), *_arm("left", 1),
)  # fmt: skip
HINGES = tuple(hinge for part in PARTS for hinge in part.hinges)
# Gym's motors begin with the abdomen's y; all others are in the order of the joints.
MOTOR_ORDER = ("abdomen_y", "abdomen_z", *(hinge.name for hinge in HINGES[2:]))
# Feet are rigid ends of the shins, so a foot and its shin count as one body.
BODIES = ("torso", *(part.name for part in PARTS if part.hinges))


@dataclass(frozen=True)
class Humanoid(Legged):
    """Goal: torso x, y, z within 0.5 m. Observation, 246 numbers: positions 24, velocities 23,
    generalised actuator forces 23, and for each of 11 bodies: inertia about the humanoid's centre
    of mass 9, mass 1, velocity 3 and angular velocity 3.

    layout: a maze's name, or None for open ground with goals 1 to 5 m away.
    """

    body = "humanoid"
    cell_size = MAZE_CELL_SIZE
    healthy_height = (1.0, 2.0)

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(build_scene, CONTROL_STEP, FIELDS, maze=self.maze)

    goal = GoalSpec(tuple(Coordinate(axis, "m") for axis in "xyz"), radius=0.5, easy_radius=2.0)
    action_dim = len(HINGES)
    episode_length = 1000

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        joints = [hinge.name for hinge in HINGES]
        pairs = [(f"{axis} force", "N") for axis in "xyz"]
        pairs += [(f"torque {axis}", "N m") for axis in "xyz"]
        pairs += [(f"{joint} torque", "N m") for joint in joints]
        axes = [a + b for a in "xyz" for b in "xyz"]
        for body in BODIES:
            pairs += [(f"{body} inertia {pair}", "kg m^2") for pair in axes]
            pairs += [(f"{body} mass", "kg")]
            pairs += [(f"{body} velocity {axis}", "m/s") for axis in "xyz"]
            pairs += [(f"{body} angular velocity {axis}", "rad/s") for axis in "xyz"]
        return (*free_body(joints), *(Coordinate(*pair) for pair in pairs))

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Standing still, without noise."""
        start = np.zeros(2) if self.maze is None else self.maze.start
        pose = jnp.array([*start, STANDING_HEIGHT, 1, 0, 0, 0, *[0] * len(HINGES)], jnp.float32)
        num_envs = goal.shape[0]
        return jnp.tile(pose, (num_envs, 1)), jnp.zeros((num_envs, 6 + len(HINGES)))

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        if self.maze is not None:
            position = self.maze.sample_goal(key, num_envs, split, noise=0.0)
        else:
            distance_key, angle_key = jax.random.split(key)
            distance = sample_box(distance_key, (num_envs,), OPEN_GOAL_DISTANCES)
            position = sample_circle(angle_key, num_envs, distance)
        return jnp.concatenate([position, jnp.full((num_envs, 1), GOAL_HEIGHT)], -1)

    def observe(self, state: PhysicsState) -> Array:
        bodies = _body_observation(state.fields["cinert"], state.fields["cvel"])
        return jnp.concatenate([state.qpos, state.qvel, state.fields["qfrc_actuator"], bodies], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, :3]


def _body_observation(cinert: Array, cvel: Array) -> Array:
    """`[envs, 16 * bodies]` from MuJoCo's fields about the humanoid's centre of mass.

    cinert `[envs, 1 + parts, 10]`: xx, yy, zz, xy, xz, yz of the inertia, mass times offset, mass;
    additive for parts that are rigidly joined. cvel `[envs, 1 + parts, 6]`: angular, then linear
    velocity.
    """
    parts = ("world", "torso", *(part.name for part in PARTS))
    merged = np.zeros((len(BODIES), len(parts)))
    for part in PARTS:
        body = part.name if part.hinges else part.parent
        merged[BODIES.index(body), parts.index(part.name)] = 1
    merged[0, 1] = 1
    inertia = jnp.einsum("bp,wpi->wbi", jnp.asarray(merged, jnp.float32), cinert)
    velocity = cvel[:, np.array([parts.index(body) for body in BODIES])]
    full = inertia[..., np.array([0, 3, 4, 3, 1, 5, 4, 5, 2])]
    rows = jnp.concatenate([full, inertia[..., 9:], velocity[..., 3:], velocity[..., :3]], -1)
    return rows.reshape(rows.shape[0], -1)


def build_scene(maze: Maze | None) -> mujoco.MjSpec:
    """Floor, walls if there is a maze, and the humanoid."""
    spec = scene.new_scene(time_step=0.003)
    scene.add_ground(spec, **FLOOR)
    if maze is not None:
        scene.add_walls(spec, maze, height=WALL_HEIGHT, **FLOOR)
    torso = spec.worldbody.add_body(name="torso", pos=[0, 0, STANDING_HEIGHT])
    torso.add_freejoint(name="root")
    scene.add_capsule(torso, (0, -0.07, 0), (0, 0.07, 0), 0.07, **PART)
    scene.add_sphere(torso, (0, 0, 0.19), 0.09, **PART)
    scene.add_capsule(torso, (-0.01, -0.06, -0.12), (-0.01, 0.06, -0.12), 0.06, **PART)
    bodies = {"torso": torso}
    for part in PARTS:
        tilt = [1, 0, -0.002, 0] if part.tilted else [1, 0, 0, 0]
        body = bodies[part.parent].add_body(name=part.name, pos=list(part.position), quat=tilt)
        bodies[part.name] = body
        for hinge in part.hinges:
            spring = {"damping": [hinge.damping, 0, 0], "stiffness": [hinge.stiffness, 0, 0]}
            joint = {"pos": list(hinge.position), "armature": hinge.armature, **spring}
            scene.add_hinge(body, hinge.name, hinge.axis, np.radians(hinge.limits), **joint)
        for start, end, radius in part.limbs:
            scene.add_capsule(body, start, end, radius, **PART)
        for centre, radius in part.balls:
            scene.add_sphere(body, centre, radius, **PART)
    gears = {hinge.name: hinge.gear for hinge in HINGES}
    for name in MOTOR_ORDER:
        scene.add_motor(spec, name, gears[name], MOTOR_LIMIT)
    return spec
