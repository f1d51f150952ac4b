"""Why a trained ant does not arrive: does it fall, turn over, or stand still?

python -m benchmarks.ant_stops RUN [--noise 0 0.25 0.5 1] [--envs 128] [--steps 1000]

noise: factor of the policy's own standard deviation; 0 is the evaluation, 1 is training. `over`:
share that ever lay on its back. `stands`: share that is upright at the end, not at its goal, and
has not moved by the success radius in the last 200 control steps; `from the start`: where those
stand, in m, lower quartile, median and upper quartile.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ant_exploration import tilt_and_heading
from kilolayer.analysis.load import Run, load
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import is_success
from kilolayer.training.evaluate import evaluation_key, evaluation_start
from kilolayer.types import Array

STILL = 200  # control steps


def play(run: Run, noise: float, envs: int, steps: int) -> tuple[Array, ...]:
    """Goals `[envs, 2]`; of every control step whether alive, places and observations."""
    task, physics = run.task, build_physics(run.task.world, envs, run.config.physics)
    start = evaluation_start(task, evaluation_key(0, 0), envs, "evaluation")

    @jax.jit
    def episodes(parameters, key: Array):
        def control_step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
            state, alive = carry
            mean, log_std = parameters.actor(task.observe(state), start.goal)
            drawn = noise * jnp.exp(log_std) * jax.random.normal(key, mean.shape)
            state = physics.step(state, jnp.tanh(mean + drawn))
            alive &= ~task.terminated(state)
            return (state, alive), (alive, task.achieved_goal(state), task.observe(state))

        state = physics.init(start.qpos, start.qvel), jnp.ones(envs, bool)
        return jax.lax.scan(control_step, state, jax.random.split(key, steps))[1]

    return start.goal, *episodes(run.agent_state.parameters, jax.random.key(1))


def row(run: Run, noise: float, arguments: argparse.Namespace) -> str:
    goal, alive, places, observations = map(
        np.asarray, play(run, noise, arguments.envs, arguments.steps)
    )
    distance = np.where(alive, np.linalg.norm(places - goal, axis=-1), np.inf)
    upright, _ = tilt_and_heading(observations)
    moved = np.linalg.norm(places[-1] - places[-min(STILL, len(places))], axis=-1)
    radius = run.task.goal.radius
    near = np.asarray(is_success(run.task, places[-1], goal))
    stands = alive[-1] & (upright[-1] > 0) & ~near & (moved < radius)
    away = np.linalg.norm(places[-1] - places[0], axis=-1)[stands]
    quartiles = np.quantile(away, (0.25, 0.5, 0.75)).round(1).tolist() if len(away) else "-"
    cells = (
        f"{noise:g}",
        f"{distance.min(0).clip(max=99).mean():.2f}",
        f"{(distance.min(0) < radius).mean():.2f}",
        f"{(distance.min(0) < run.task.goal.easy_radius).mean():.2f}",
        f"{alive[-1].mean():.2f}",
        f"{((upright < 0) & alive).any(0).mean():.2f}",
        f"{stands.mean():.2f}",
        f"{quartiles}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.25, 0.5, 1.0])
    parser.add_argument("--envs", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    run = load(arguments.run)
    print("| noise | smallest distance | success | easy | alive | over | stands | from the start |")
    print("|---|---|---|---|---|---|---|---|")
    for noise in arguments.noise:
        print(row(run, noise, arguments), flush=True)


if __name__ == "__main__":
    main()
