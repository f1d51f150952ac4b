"""Measures of how a body moves, from recorded positions. A score alone does not show these."""

# MuJoCo ships no type stubs for its compiled module.
# pyright: reportAttributeAccessIssue=false
import mujoco
import numpy as np

from kilolayer.physics.native import MujocoWorld

UPRIGHT = 0.5  # cosine of the tilt; a body below it counts as lying
EVERY = 10  # control steps between two counts of contacts


def legged(world: MujocoWorld, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
    """Measures of a body whose first seven positions are a free joint; qpos `[time, envs, nq]`.

    torso_height: mean, m. upright_share: of all steps. speed: mean over the ground, m/s. contacts:
    mean number at once. falls: share of episodes that ended early.
    """
    x, y = qpos[..., 4], qpos[..., 5]
    upright = 1 - 2 * (np.square(x) + np.square(y))  # vertical part of the torso's own z axis
    return measures(world, qpos, alive, qpos[..., :2], qpos[..., 2], upright)


def measures(
    world: MujocoWorld,
    qpos: np.ndarray,
    alive: np.ndarray,
    position: np.ndarray,
    height: np.ndarray,
    upright: np.ndarray,
) -> dict[str, float]:
    """The measures of `legged` from its parts; place `[time, envs, axes]`, the others
    `[time, envs]`. Steps after the end of an episode do not count."""
    both = alive[1:] & alive[:-1]
    moved = np.linalg.norm(np.diff(position, axis=0), axis=-1) / world.control_step
    return {
        "torso_height": _mean(height, alive),
        "upright_share": _mean(upright > UPRIGHT, alive),
        "speed": _mean(moved, both),
        "contacts": _mean(contacts(world.model, qpos[::EVERY]), alive[::EVERY]),
        "falls": 1.0 - float(alive[-1].mean()),
    }


def contacts(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Number of contacts at once, `[time, envs]`, for `qpos [time, envs, nq]`."""
    data = mujoco.MjData(model)
    counts = np.zeros(qpos.shape[:2])
    for index in np.ndindex(*counts.shape):
        data.qpos[:] = qpos[index]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        counts[index] = data.ncon
    return counts


def _mean(values: np.ndarray, counted: np.ndarray) -> float:
    """Mean of the values that count; 0 if none does."""
    return float(values[counted].mean()) if counted.any() else 0.0
