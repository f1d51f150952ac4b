"""What random actions tell about where an ant goes, and how often they make it fall.

python -m benchmarks.ant_exploration [--envs 256] [--steps 400] [--noise 0.15 0.25 0.5]

Actions are tanh of Gaussian noise. For every offset k in control steps: the information in nats
that an action carries about the displacement k steps later, given the body's state, by linear
regression in the frame of the torso's heading (so a lower bound). It says how far ahead hindsight
goals may lie before an action no longer shows in them, hence which discount a start from scratch
can learn from.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.native import NativePhysics
from kilolayer.replay.buffer import Transition
from kilolayer.tasks.ant import Ant
from kilolayer.training.rollout import reset, unroll
from kilolayer.types import Array

OFFSETS = (1, 3, 10, 30, 60)
POSITION, QUATERNION, BODY = slice(0, 2), slice(3, 7), slice(7, None)


def record(envs: int, steps: int, noise: float) -> Transition:
    """Steps of ants under random actions, leaves `[steps, envs, ...]`."""
    task = Ant()
    physics = NativePhysics(task.world, envs)

    def policy(observation: Array, goal: Array, key: Array) -> Array:
        return jnp.tanh(noise * jax.random.normal(key, (envs, task.action_dim)))

    @jax.jit
    def run(key: Array) -> Transition:
        start = reset(task, physics, key, task.sample_goal(key, envs, "training"), "training")
        return unroll(task, physics, start, policy, key, steps, task.episode_length)[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def tilt_and_heading(observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of the torso's tilt and its heading in rad, from observations `[..., 29]`."""
    w, x, y, z = np.moveaxis(observation[..., QUATERNION], -1, 0)
    return 1 - 2 * (x * x + y * y), np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def information(steps: Transition, offset: int) -> float:
    """Nats that an action says about the displacement `offset` steps later, given the state."""
    first, last = (
        jax.tree.map(lambda leaf, part=part: leaf[part], steps)
        for part in (slice(None, -offset), slice(offset, None))
    )
    upright, heading = tilt_and_heading(np.asarray(first.observation))
    chosen = (np.asarray(last.episode_step) == np.asarray(first.episode_step) + offset) & (
        upright > 0.3
    )
    observation, action = np.asarray(first.observation)[chosen], np.asarray(first.action)[chosen]
    x, y = (np.asarray(last.observation)[chosen] - observation)[:, POSITION].T
    cosine, sine = np.cos(heading[chosen]), np.sin(heading[chosen])
    displacement = np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=1)
    state = np.concatenate([observation[:, BODY], np.ones((len(observation), 1))], axis=1)

    def unexplained(inputs: np.ndarray) -> float:
        weights = np.linalg.lstsq(inputs, displacement, rcond=None)[0]
        return float(np.square(displacement - inputs @ weights).sum())

    return np.log(unexplained(state) / unexplained(np.concatenate([state, action], axis=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.15, 0.25, 0.5])
    arguments = parser.parse_args()
    print("noise  falls per 1000 steps  on the back  nats at offset", *OFFSETS)
    for noise in arguments.noise:
        steps = record(arguments.envs, arguments.steps, noise)
        falls = 1000 * np.mean(np.asarray(steps.episode_step)[1:] == 0)
        flipped = np.mean(tilt_and_heading(np.asarray(steps.observation)[-1])[0] < 0.3)
        nats = map(functools.partial(information, steps), OFFSETS)
        print(f"{noise:5.2f}  {falls:20.2f}  {flipped:11.2f}  ", *(f"{n:.4f}" for n in nats))


if __name__ == "__main__":
    main()
