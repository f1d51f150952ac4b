"""The Franka Panda over a table, with a cube and bins: frames, ranges and gains as published.

Frames, joint ranges, masses and actuators are those of the published model. The shapes, and so the
links' inertias, are primitives where the model has meshes. Heights are measured from the table's
top, on which the arm stands.

The benchmark states neither the mass of the hand or of the cube nor how the fingers are driven.
Here the hand has the mass that its maker states, and the cube has the density of water. The last
action is the force that closes the fingers (positive) or opens them (negative).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from kilolayer.tasks import scene

TIME_STEP = 0.002

CUBE_HALF = 0.03
CUBE_MASS = 0.216
BIN_HALF = (0.195, 0.19)  # outside, m
BIN_HEIGHT = 0.066
BIN_WALL = 0.004  # half the thickness, m: all cubes that start in a bin fit between its walls

FINGER_TRAVEL = 0.04
FINGER_MASS = 0.015
# Half-size of the pad. Its lower end is that of the published finger, 0.0536 m along the finger.
PAD = (0.015, 0.005, 0.04)
FINGER_LENGTH = 0.0536
# Grasp point along the finger: 0.1034 m from the hand's frame, as published.
FINGERTIP = 0.045
GRIP_FORCE = 10.0  # N on each finger
GRIP_DAMPING = 25.0  # N s/m: the unloaded gap changes by 0.4 m/s, twice the real hand's speed
# Contacts and the fingers' joint limits are as stiff as the time step allows, because the servos
# are strong.
HARD = [2 * TIME_STEP, 1]
HAND_MASS = 0.73

DAMPING, ARMATURE = 5.0, 0.1
JOINT = {"damping": [DAMPING, 0, 0], "armature": ARMATURE}

WHITE, DARK = [0.9, 0.91, 0.92, 1], [0.35, 0.37, 0.4, 1]
HIDDEN = 4  # the group of sites, which pictures do not show
CUBE_COLOUR, BIN_COLOUR = [0.1, 0.6, 0.95, 1], [0.66, 0.7, 0.74, 1]

# Contact bits: the table and the bins collide with everything that moves; the cube also collides
# with the gripper.
TABLE, CUBE = 1, 2
WORLD_CONTACT = {"contype": 0, "conaffinity": TABLE, "solref": HARD}
CUBE_CONTACT = {"contype": TABLE, "conaffinity": CUBE, "solref": HARD}
LINK_CONTACT = {"contype": TABLE, "conaffinity": 0, "solref": HARD}
GRIPPER_CONTACT = {"contype": TABLE | CUBE, "conaffinity": 0, "solref": HARD}
PAD_CONTACT = {**GRIPPER_CONTACT, "friction": [2, 0.005, 0.0001]}
GHOST = {"contype": 0, "conaffinity": 0}


@dataclass(frozen=True)
class Link:
    """A link, its joint about its own z axis, and the servo that moves the joint.

    position (m) and quaternion: of the link's frame in its parent's. limits: rad. target: (lowest,
    highest) commanded angle, the same number twice if the angle is held. gain: N m/rad. force: N m.
    limb: (start, end, radius) of the capsule that has the link's mass, m in the link's frame.
    """

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    limits: tuple[float, float]
    mass: float
    gain: float
    force: float
    target: tuple[float, float]
    limb: tuple[Any, Any, float]
    contact: dict


TURN = 2.8973
BACK, FORTH = (1, -1, 0, 0), (1, 1, 0, 0)
LINKS = (
    Link((0, 0, 0.333), (1, 0, 0, 0), (-TURN, TURN), 4.97, 4500, 87, (0.3491, 2.7925),
         ((0, 0, -0.19), (0, 0, 0), 0.06), GHOST),
    Link((0, 0, 0), BACK, (-1.7628, 1.7628), 0.647, 4500, 87, (0.0, 1.48353),
         ((0, 0, -0.06), (0, 0, 0.06), 0.06), GHOST),
    Link((0, -0.316, 0), FORTH, (-TURN, TURN), 3.23, 2000, 87, (0, 0),
         ((0, 0, -0.26), (0.04, 0, 0), 0.06), GHOST),
    Link((0.0825, 0, 0), FORTH, (-3.0718, -0.0698), 3.59, 2000, 87, (-3.0718, -0.0698),
         ((0, 0, -0.05), (0, 0, 0.05), 0.06), GHOST),
    Link((-0.0825, 0.384, 0), BACK, (-TURN, TURN), 1.23, 1000, 12, (0, 0),
         ((0.07, 0, -0.36), (0, 0, -0.05), 0.055), GHOST),
    Link((0, 0, 0), FORTH, (-0.0175, 3.7525), 1.67, 1000, 12, (2.3562, 3.7525),
         ((0, 0, 0), (0.088, 0, 0), 0.05), LINK_CONTACT),
    Link((0.088, 0, 0), FORTH, (-TURN, TURN), 0.736, 1000, 12, (1.4487, 1.4487),
         ((0, 0, -0.02), (0, 0, 0.07), 0.04), LINK_CONTACT),
)  # fmt: skip
HAND = {"pos": [0, 0, 0.107], "quat": [0.92388, 0, 0, -0.38268]}
FINGER_BASE = 0.0584  # along the hand, m


def build_scene(cube: bool, bins: Sequence[tuple[float, float]] = ()) -> mujoco.MjSpec:
    """The arm on its table; sensors: position and velocity of the end effector, both fingertips.

    cube: whether the scene has a cube and fingers that move; otherwise the fingers are fixed open.
    bins: centres x, y in m.
    """
    spec = scene.new_scene(TIME_STEP)
    # The servos' velocity gains are too stiff for Euler's explicit forces.
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    scene.add_ground(spec, **WORLD_CONTACT)
    scene.add_cylinder(spec.worldbody, (0, 0, 0.06), 0.09, 0.06, rgba=DARK, **GHOST)
    for position in bins:
        _add_bin(spec, position)
    hand = _add_arm(spec)
    _add_fingers(spec, hand, movable=cube)
    if cube:
        _add_cube(spec)
    _add_sensors(spec)
    # The view shows the whole arm and the table within its reach, from ahead and to one side, where
    # the arm hides little of the table.
    scene.set_view(spec, centre=(0, 0.42, 0.28), extent=1.0, azimuth=-115, elevation=-24)
    return spec


def _add_arm(spec: mujoco.MjSpec) -> Any:
    """Add seven links, each attached to the one before; returns the hand."""
    body = spec.worldbody
    for number, link in enumerate(LINKS, start=1):
        frame = {"pos": list(link.position), "quat": list(link.quaternion)}
        body = body.add_body(name=f"link{number}", **frame)
        name = f"joint{number}"
        scene.add_hinge(body, name, (0, 0, 1), link.limits, **JOINT)
        start, end, radius = link.limb
        scene.add_capsule(body, start, end, radius, mass=link.mass, rgba=WHITE, **link.contact)
        _add_servo(spec, name, link)
    hand = body.add_body(name="hand", **HAND)
    scene.add_capsule(
        hand, (0, -0.07, 0.03), (0, 0.07, 0.03), 0.03, mass=HAND_MASS, rgba=DARK, **GRIPPER_CONTACT
    )
    hand.add_site(name="end_effector", pos=[0, 0, FINGER_BASE + FINGERTIP], group=HIDDEN)
    return hand


def _add_servo(spec: mujoco.MjSpec, joint: str, link: Link) -> None:
    """Add a position servo. If it holds an angle, its control range is that single value."""
    servo = spec.add_actuator(name=joint, target=joint)
    servo.trntype = mujoco.mjtTrn.mjTRN_JOINT
    servo.set_to_position(kp=link.gain, kv=link.gain / 10)
    servo.forcelimited, servo.forcerange = True, [-link.force, link.force]
    low, high = link.target
    servo.ctrllimited, servo.ctrlrange = low < high, [low, high]


def _add_fingers(spec: mujoco.MjSpec, hand: Any, movable: bool) -> None:
    """Add two fingers that face each other along the hand's y axis, coupled if they move."""
    for side, turn in (("left", [1, 0, 0, 0]), ("right", [0, 0, 0, 1])):
        finger = hand.add_body(name=f"{side}_finger", pos=[0, 0, FINGER_BASE], quat=turn)
        opening = 0.0 if movable else FINGER_TRAVEL
        centre = (0, opening + PAD[1], FINGER_LENGTH - PAD[2])
        scene.add_box(finger, centre, PAD, mass=FINGER_MASS, rgba=DARK, **PAD_CONTACT)
        finger.add_site(name=f"{side}_fingertip", pos=[0, opening, FINGERTIP], group=HIDDEN)
        if movable:
            slide = {"type": scene.JOINT.mjJNT_SLIDE, "axis": [0, 1, 0]}
            limits = {"limited": True, "range": [0, FINGER_TRAVEL], "solref_limit": HARD}
            finger.add_joint(name=f"{side}_finger", **slide, **limits, **JOINT)
    if movable:
        _add_gripper(spec)


def _add_gripper(spec: mujoco.MjSpec) -> None:
    """Add one motor on the gap between the fingers, which move symmetrically."""
    gap = spec.add_tendon(name="gap")
    for side in ("left", "right"):
        gap.wrap_joint(f"{side}_finger", 1.0)
    # MuJoCo's default equality makes the positions of two joints equal.
    fingers = {"name1": "left_finger", "name2": "right_finger"}
    spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, solref=HARD, **fingers)
    motor = spec.add_actuator(name="gripper", target="gap")
    motor.trntype = mujoco.mjtTrn.mjTRN_TENDON
    motor.gaintype, motor.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    motor.gainprm[0], motor.biasprm[2] = -GRIP_FORCE, -GRIP_DAMPING
    motor.ctrllimited, motor.ctrlrange = True, [-1, 1]


def _add_cube(spec: mujoco.MjSpec) -> None:
    cube = spec.worldbody.add_body(name="cube", pos=[0, 0.6, CUBE_HALF])
    cube.add_freejoint(name="cube")
    half = (CUBE_HALF, CUBE_HALF, CUBE_HALF)
    scene.add_box(cube, (0, 0, 0), half, mass=CUBE_MASS, rgba=CUBE_COLOUR, **CUBE_CONTACT)


def _add_bin(spec: mujoco.MjSpec, position: tuple[float, float]) -> None:
    """Add four walls around a part of the table."""
    centre, (half_x, half_y) = np.array([*position, BIN_HEIGHT / 2]), BIN_HALF
    for sign in (-1, 1):
        for offset, size in (
            ((sign * (half_x - BIN_WALL), 0, 0), (BIN_WALL, half_y, BIN_HEIGHT / 2)),
            ((0, sign * (half_y - BIN_WALL), 0), (half_x, BIN_WALL, BIN_HEIGHT / 2)),
        ):
            wall = {"rgba": BIN_COLOUR, **WORLD_CONTACT}
            scene.add_box(spec.worldbody, centre + offset, size, **wall)


def _add_sensors(spec: mujoco.MjSpec) -> None:
    """Add sensors in m and m/s: end effector position and velocity, both fingertips, 3 each."""
    sensors, site = mujoco.mjtSensor, mujoco.mjtObj.mjOBJ_SITE
    for kind, name in (
        (sensors.mjSENS_FRAMEPOS, "end_effector"),
        (sensors.mjSENS_FRAMELINVEL, "end_effector"),
        (sensors.mjSENS_FRAMEPOS, "left_fingertip"),
        (sensors.mjSENS_FRAMEPOS, "right_fingertip"),
    ):
        spec.add_sensor(type=kind, objtype=site, objname=name)
