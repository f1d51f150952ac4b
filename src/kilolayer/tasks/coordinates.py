"""Names and units of the numbers of a MuJoCo model: joints and sensors."""

from itertools import product

import mujoco

from kilolayer.tasks.base import Coordinate

JOINT, SENSOR, OBJECT = mujoco.mjtJoint, mujoco.mjtSensor, mujoco.mjtObj

# (suffix, unit) of each position and of each velocity, by type of joint.
TURN = [(f" quaternion {part}", "1") for part in "wxyz"]
SPIN = [(f" angular velocity {axis}", "rad/s") for axis in "xyz"]
POSITIONS = {
    int(JOINT.mjJNT_FREE): [*((f" {axis}", "m") for axis in "xyz"), *TURN],
    int(JOINT.mjJNT_BALL): TURN,
    int(JOINT.mjJNT_SLIDE): [("", "m")],
    int(JOINT.mjJNT_HINGE): [("", "rad")],
}
VELOCITIES = {
    int(JOINT.mjJNT_FREE): [*((f" {axis} velocity", "m/s") for axis in "xyz"), *SPIN],
    int(JOINT.mjJNT_BALL): SPIN,
    int(JOINT.mjJNT_SLIDE): [(" velocity", "m/s")],
    int(JOINT.mjJNT_HINGE): [(" velocity", "rad/s")],
}

# Types of sensors by unit; a sensor of any other type has unit 1.
SENSORS = {
    "m": "FRAMEPOS SUBTREECOM RANGEFINDER GEOMDIST GEOMFROMTO TENDONPOS TENDONLIMITPOS",
    "m/s": "VELOCIMETER FRAMELINVEL SUBTREELINVEL TENDONVEL TENDONLIMITVEL",
    "m/s^2": "ACCELEROMETER FRAMELINACC",
    "rad/s": "GYRO FRAMEANGVEL BALLANGVEL",
    "rad/s^2": "FRAMEANGACC",
    "N": "FORCE TOUCH TENDONACTFRC TENDONLIMITFRC",
    "N m": "TORQUE",
    "T": "MAGNETOMETER",
    "kg m^2/s": "SUBTREEANGMOM",
    "J": "E_POTENTIAL E_KINETIC",
    "s": "CLOCK",
}
# Sensors of a joint, or of the actuator that drives it: (unit on a slide, unit on a hinge).
JOINT_SENSORS = {
    ("m", "rad"): "JOINTPOS JOINTLIMITPOS ACTUATORPOS",
    ("m/s", "rad/s"): "JOINTVEL JOINTLIMITVEL ACTUATORVEL",
    ("N", "N m"): "JOINTACTFRC JOINTLIMITFRC ACTUATORFRC",
}
UNITS = {name: unit for unit, names in SENSORS.items() for name in names.split()}
JOINT_UNITS = {name: units for units, names in JOINT_SENSORS.items() for name in names.split()}


def state_names(model: mujoco.MjModel) -> tuple[Coordinate, ...]:
    """The coordinates of `qpos`, such as `elbow` in rad or `torso quaternion w`, then those of
    `qvel`, such as `elbow velocity` in rad/s."""
    coordinates = []
    for kinds, index in product((POSITIONS, VELOCITIES), range(model.njnt)):
        kind = int(model.jnt_type[index])
        # Free joints rarely have a name; their body nearly always has.
        body = model.body(model.jnt_bodyid[index]).name if kind == int(JOINT.mjJNT_FREE) else ""
        name = model.joint(index).name or body or f"joint {index}"
        coordinates += [Coordinate(name + suffix, unit) for suffix, unit in kinds[kind]]
    return tuple(coordinates)


def sensor_names(model: mujoco.MjModel) -> tuple[Coordinate, ...]:
    """The coordinates of `sensordata`, such as `sensor gyro x` in rad/s."""
    coordinates = []
    for index in range(model.nsensor):
        name = f"sensor {model.sensor(index).name or index}"
        unit, dim = _sensor_unit(model, index), int(model.sensor_dim[index])
        parts = {1: [""], 3: [" x", " y", " z"], 4: [" w", " x", " y", " z"]}
        suffixes = parts.get(dim, [f" {part}" for part in range(dim)])
        coordinates += [Coordinate(name + suffix, unit) for suffix in suffixes]
    return tuple(coordinates)


def actuator_names(model: mujoco.MjModel) -> tuple[str, ...]:
    """The names of the actuators. An actuator without a name has the name of the joint that it
    drives, or its number."""
    driven = [_driven_joint(model, index) for index in range(model.nu)]
    return tuple(
        model.actuator(index).name
        or (model.joint(joint).name if joint is not None else "")
        or f"actuator {index}"
        for index, joint in enumerate(driven)
    )


def _sensor_unit(model: mujoco.MjModel, index: int) -> str:
    kind = SENSOR(int(model.sensor_type[index])).name.removeprefix("mjSENS_")
    if kind not in JOINT_UNITS:
        return UNITS.get(kind, "1")
    joint: int | None = int(model.sensor_objid[index])
    if int(model.sensor_objtype[index]) == int(OBJECT.mjOBJ_ACTUATOR):
        joint = _driven_joint(model, joint)
    on_slide, on_hinge = JOINT_UNITS[kind]
    units = {int(JOINT.mjJNT_SLIDE): on_slide, int(JOINT.mjJNT_HINGE): on_hinge}
    return "1" if joint is None else units.get(int(model.jnt_type[joint]), "1")


def _driven_joint(model: mujoco.MjModel, actuator: int) -> int | None:
    """The joint that an actuator drives, if it drives a single one."""
    joint_drives = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    if int(model.actuator_trntype[actuator]) not in joint_drives:
        return None
    return int(model.actuator_trnid[actuator, 0])
