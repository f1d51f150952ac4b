"""Pieces of MuJoCo scenes that several tasks share: ground, walls, limbs, joints, motors.

By default the parts of a body collide with the world and not with each other: parts have `contype`
1 and `conaffinity` 0, the world the reverse.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mujoco
import numpy as np

from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.mazes import Maze

Vector = Sequence[float] | np.ndarray

GEOM, JOINT, TEXTURE = mujoco.mjtGeom, mujoco.mjtJoint, mujoco.mjtTexture

GROUND_COLOURS = {"rgb1": [0.93, 0.94, 0.95], "rgb2": [0.85, 0.87, 0.89]}
WALL_COLOUR = [0.42, 0.47, 0.55, 1]
BODY_COLOUR = [0.85, 0.55, 0.25, 1]
OBJECT_COLOUR = [0.75, 0.25, 0.3, 1]


@cache
def compile_world(
    build: Callable[..., mujoco.MjSpec],
    control_step: float,
    fields: tuple[str, ...] = (),
    **arguments: Any,
) -> MujocoWorld:
    """The world of the scene `build(**arguments)`, see `MujocoWorld.compile`.

    Cached, because compiling a scene is slow and a task reads its world often.
    """
    return MujocoWorld.compile(build(**arguments), control_step, fields)


def new_scene(time_step: float) -> mujoco.MjSpec:
    """An empty scene with a light; angles in rad, `time_step` in seconds, Euler integration.

    Some of Gym's files ask for Runge-Kutta of order four, which has a third of the speed.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = time_step
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    light = {"pos": [0, 0, 20], "dir": [0.2, 0.3, -1], "diffuse": [0.7, 0.7, 0.7]}
    spec.worldbody.add_light(castshadow=False, **light)
    return spec


def set_view(
    spec: mujoco.MjSpec, centre: Vector, extent: float, azimuth: float, elevation: float
) -> None:
    """Set the camera of pictures. It looks at `centre` from a distance in proportion to `extent`,
    m; angles in degrees, as in MuJoCo's free camera."""
    spec.stat.center, spec.stat.extent = list(centre), extent
    spec.visual.global_.azimuth, spec.visual.global_.elevation = azimuth, elevation


def add_ground(spec: mujoco.MjSpec, half: float = 40, **contact: Any) -> None:
    """Add a chequered plane at height zero; `contact` are MuJoCo's fields of a geom.

    half: the plane is drawn up to this distance from the origin, m. It supports bodies beyond it
    too.
    """
    image = {"type": TEXTURE.mjTEXTURE_2D, "width": 256, "height": 256}
    checker = mujoco.mjtBuiltin.mjBUILTIN_CHECKER
    spec.add_texture(name="ground", builtin=checker, **image, **GROUND_COLOURS)
    textures = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "ground"
    spec.add_material(name="ground", textures=textures, texrepeat=[0.5, 0.5], texuniform=True)
    plane = {"type": GEOM.mjGEOM_PLANE, "size": [half, half, 40], "material": "ground"}
    spec.worldbody.add_geom(name="floor", **plane, **{"conaffinity": 1, **contact})


def add_walls(spec: mujoco.MjSpec, maze: Maze, height: float, **contact: Any) -> None:
    """Add the maze's walls as boxes of this height in m, on the ground."""
    wall = {"rgba": WALL_COLOUR, "conaffinity": 1, **contact}
    for x, y, half_x, half_y in maze.wall_rectangles:
        add_box(spec.worldbody, (x, y, height / 2), (half_x, half_y, height / 2), **wall)


def add_capsule(body: Any, start: Vector, end: Vector, radius: float, **geom: Any) -> None:
    """A limb from `start` to `end` in the body's frame, m."""
    _add_shape(body, GEOM.mjGEOM_CAPSULE, (radius, 0, 0), fromto=[*start, *end], **geom)


def add_sphere(body: Any, centre: Vector, radius: float, **geom: Any) -> None:
    _add_shape(body, GEOM.mjGEOM_SPHERE, (radius, 0, 0), pos=list(centre), **geom)


def add_box(body: Any, centre: Vector, half: Vector, **geom: Any) -> None:
    """A box with sides of twice `half`, m."""
    _add_shape(body, GEOM.mjGEOM_BOX, half, pos=list(centre), **geom)


def add_cylinder(body: Any, centre: Vector, radius: float, half: float, **geom: Any) -> None:
    """An upright cylinder with a height of twice `half`, m."""
    _add_shape(body, GEOM.mjGEOM_CYLINDER, (radius, half, 0), pos=list(centre), **geom)


def _add_shape(body: Any, shape: mujoco.mjtGeom, size: Vector, **geom: Any) -> None:
    default = {"rgba": BODY_COLOUR, "contype": 1, "conaffinity": 0}
    body.add_geom(type=shape, size=list(size), **{**default, **geom})


def add_hinge(body: Any, name: str, axis: Vector, limits: Vector, **joint: Any) -> None:
    """A hinge with limits in rad."""
    fixed = {"type": JOINT.mjJNT_HINGE, "limited": True}
    body.add_joint(name=name, axis=list(axis), range=list(limits), **fixed, **joint)


def add_slides(body: Any, name: str, **joint: Any) -> None:
    """Slides along x and y, `name_x` and `name_y`."""
    for axis, direction in (("x", (1, 0, 0)), ("y", (0, 1, 0))):
        body.add_joint(name=f"{name}_{axis}", type=JOINT.mjJNT_SLIDE, axis=list(direction), **joint)


def add_motor(spec: mujoco.MjSpec, joint: str, gear: float, limit: float = 1.0) -> None:
    """A motor of torque `gear` in N m per unit of control; control in +-limit."""
    motor = spec.add_actuator(name=joint, target=joint)
    motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
    motor.gear = [gear, 0, 0, 0, 0, 0]
    motor.ctrllimited, motor.ctrlrange = True, [-limit, limit]
