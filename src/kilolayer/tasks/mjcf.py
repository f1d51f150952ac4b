"""Reads and checks a user's own MuJoCo file. Each fault is reported in one sentence."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from kilolayer.errors import UserError, bad_field, nearest
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.coordinates import actuator_names

DEFAULT_CONTROL_STEP = 0.05  # s
SUFFIXES = (".xml", ".urdf")
# More substeps would run for hours without any output.
MAX_SUBSTEPS = 5_000
MAX_LISTED_NAMES = 12  # names that an error lists
POSES = 4096  # random poses that sample the positions that a part can reach
# Largest distance of a goal box from the sampled positions, as a share of their box's diameter.
POSE_GAP = 0.1

JOINT = mujoco.mjtJoint


@dataclass(frozen=True)
class Part:
    """A site or a body: its name, and where MuJoCo keeps its position, `data.<field>[index]`."""

    name: str
    field: str
    index: int
    body: int


def read_world(file: str, control_step: float | None) -> MujocoWorld:
    """Compile an MJCF or URDF file for control every `control_step` seconds.

    Default: the multiple of the model's time step that is nearest to 0.05 s. The sensors become a
    derived field. Raises UserError if the file cannot be used.
    """
    path = Path(file)
    if path.suffix not in SUFFIXES:
        raise bad_field("mjcf", file, "the file's name must end in .xml (or .urdf)")
    if not path.is_file():
        allowed = "there is no such file, seen from the current directory"
        raise bad_field("mjcf", file, f"{allowed} (a run's config.json says which file it needs)")
    try:
        spec = mujoco.MjSpec.from_file(file)
    except ValueError as error:
        raise _does_not_compile(file, error) from error
    if not 0 < spec.option.timestep < math.inf:
        raise UserError(f"{file} has no time step to simulate with: give its <option> a timestep.")
    step = _checked_step(control_step, spec.option.timestep)
    try:
        world = MujocoWorld.compile(spec, step)
    except ValueError as error:
        raise _does_not_compile(file, error) from error
    _check_text_and_numbers(world.model, file)
    _check_actuators(world.model, file)
    return dataclasses.replace(world, fields=("sensordata",) if world.model.nsensordata else ())


def has_free_joint(file: str) -> bool:
    """Whether the model has a free joint; False for a file that `read_world` cannot read."""
    # MuJoCo would print a warning of any other file, and leave a log in the current directory.
    if Path(file).suffix not in SUFFIXES or not Path(file).is_file():
        return False
    try:
        joints = mujoco.MjSpec.from_file(file).joints
    except ValueError:
        return False
    return any(joint.type == JOINT.mjJNT_FREE for joint in joints)


def _does_not_compile(file: str, error: ValueError) -> UserError:
    """MuJoCo's message, of several lines, as one sentence."""
    lines = [line.strip().rstrip(".:") for line in str(error).splitlines()]
    cause = ", ".join(filter(None, lines)).removeprefix("XML ").removeprefix("Error: ")
    return UserError(f"{file} does not compile, correct what MuJoCo names: {cause}.")


def _check_text_and_numbers(model: mujoco.MjModel, file: str) -> None:
    """MuJoCo compiles names in any encoding, and NaN for any number."""
    for name in model.names.split(b"\0"):
        try:
            name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file} has the name {name!r}, which is not UTF-8: save the file as UTF-8."
            ) from error
    for owner in (model, model.opt):
        for name in dir(owner):
            values = getattr(owner, name)
            if isinstance(values, np.ndarray) and values.dtype == float and np.isnan(values).any():
                raise UserError(f"{file} has NaN where its {name} needs a number: give it one.")


def _checked_step(control_step: float | None, time_step: float) -> float:
    wanted = DEFAULT_CONTROL_STEP if control_step is None else control_step
    substeps = max(1, round(wanted / time_step))
    if substeps > MAX_SUBSTEPS:
        count = f"{substeps:,}" if substeps < 1e15 else f"{substeps:.3g}"
        allowed = (
            f"a control step of {wanted:g} s takes {count} steps of the model's {time_step:g} "
            f"s, and more than {MAX_SUBSTEPS:,} are too slow to learn from: give the model's "
            "<option> a larger timestep, or take a shorter control step"
        )
        raise bad_field("control_step", wanted, allowed, f"{MAX_SUBSTEPS * time_step:g}")
    nearest = substeps * time_step
    if control_step is not None and not math.isclose(wanted, nearest, rel_tol=1e-6):
        allowed = f"it must be a multiple of the model's time step of {time_step:g} s"
        raise bad_field("control_step", control_step, allowed, f"{nearest:g}")
    return nearest


def _check_actuators(model: mujoco.MjModel, file: str) -> None:
    if model.nu == 0 and file.endswith(".urdf"):
        name = Path(file).with_suffix(".xml").name
        raise UserError(
            f"{file} has no actuators, and URDF cannot hold any that MuJoCo reads: turn it into "
            'MJCF with `python -c "import mujoco; spec = mujoco.MjSpec.from_file('
            f"'{file}'); spec.compile(); open('{name}', 'w').write(spec.to_xml())\"`, add an "
            "<actuator> with a motor for each joint there, and give that file."
        )
    if model.nu == 0:
        raise UserError(f"{file} has no actuators, so nothing can be learnt: add <actuator> to it.")
    for name, (low, high) in zip(actuator_names(model), model.actuator_ctrlrange, strict=True):
        if not (np.isfinite([low, high]).all() and low < high):
            raise UserError(
                f"actuator {name!r} of {file} has no range that actions could span: give it "
                'ctrlrange="LOW HIGH", or inheritrange="1" if it is a position actuator of a '
                "joint with limits."
            )


def find_part(model: mujoco.MjModel, site: str | None, body: str | None) -> Part:
    """The site or the body of this name; exactly one must be given.

    Raises UserError with the closest names if there is none, or if it can never move.
    """
    sites = [model.site(index).name for index in range(model.nsite)]
    bodies = [model.body(index).name for index in range(1, model.nbody)]
    if (site is None) == (body is None):
        raise UserError(
            "a robot needs one part that should reach the goals, --goal-site or --goal-body: its "
            f"sites are {listed(sites)}, its bodies {listed(bodies)}."
        )
    if site is not None:
        field, index = "goal_site", _index("goal_site", site, sites)
        part = Part(site, "site_xpos", index, int(model.site_bodyid[index]))
    else:
        assert body is not None
        field, index = "goal_body", 1 + _index("goal_body", body, bodies)
        part = Part(body, "xpos", index, index)
    if not _joints_towards(model, part.body):
        raise bad_field(field, part.name, "it is fixed to the world, choose a part that moves")
    return part


def listed(names: Sequence[str]) -> str:
    """Names for an error message."""
    named = [name for name in names if name]
    more = f" and {len(named) - MAX_LISTED_NAMES} more" if len(named) > MAX_LISTED_NAMES else ""
    return ", ".join(named[:MAX_LISTED_NAMES]) + more if named else "none with a name"


def _index(field: str, name: str, names: Sequence[str]) -> int:
    if name and name in names:
        return names.index(name)
    kind = field.removeprefix("goal_")
    closest = nearest(name, filter(None, names))
    if closest is None:
        raise bad_field(field, name, f"the model has no {kind} with a name, give one a name first")
    raise bad_field(field, name, f"the model has no such {kind}", closest)


def _joints_towards(model: mujoco.MjModel, body: int) -> list[int]:
    """The joints between the world and a body."""
    joints: list[int] = []
    while body != 0:
        first = int(model.body_jntadr[body])
        joints += range(first, first + int(model.body_jntnum[body]))
        body = int(model.body_parentid[body])
    return joints


def reachable_positions(model: mujoco.MjModel, part: Part, start: np.ndarray) -> np.ndarray | None:
    """Positions of the part in random poses over the ranges of its joints, `[poses, 3]` m.

    The other joints stay as in `start [nq]`; collisions are ignored. None if the part can travel
    without limit, on a free joint or an unlimited slide.
    """
    generator = np.random.default_rng(0)
    qpos = np.tile(start, (POSES, 1))
    for joint in _joints_towards(model, part.body):
        kind, at = int(model.jnt_type[joint]), int(model.jnt_qposadr[joint])
        limited = bool(model.jnt_limited[joint])
        if kind == int(JOINT.mjJNT_FREE) or (kind == int(JOINT.mjJNT_SLIDE) and not limited):
            return None
        if kind == int(JOINT.mjJNT_BALL):
            qpos[:, at : at + 4] = generator.normal(size=(POSES, 4))  # MuJoCo normalises
        else:
            low, high = model.jnt_range[joint] if limited else (-math.pi, math.pi)
            qpos[:, at] = generator.uniform(low, high, POSES)
    data, positions = mujoco.MjData(model), np.empty((POSES, 3))
    for pose in range(POSES):
        data.qpos[:] = qpos[pose]
        mujoco.mj_kinematics(model, data)
        positions[pose] = getattr(data, part.field)[part.index]
    return positions


def check_reach(box: np.ndarray, positions: np.ndarray, part: Part) -> None:
    """Raise UserError if a box `[2, 3]` (lowest, highest corner) lies beyond `positions [n, 3]`."""
    low, high = positions.min(0), positions.max(0)
    outside = np.maximum(0, np.maximum(box[0] - positions, positions - box[1]))
    gap = np.linalg.norm(outside, axis=-1).min()
    if gap > POSE_GAP * np.linalg.norm(high - low):
        text = ",".join(f"{value:g}" for value in box.ravel())
        reach = ",".join(f"{value:.2g}" for value in (*low, *high))
        allowed = f"the robot cannot reach it, {part.name} stays {gap:.2g} m away at least"
        raise bad_field("goal_box", text, allowed, reach)
