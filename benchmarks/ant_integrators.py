"""What the integrator changes for the ant: speed, and what a trained policy does under each.

python -m benchmarks.ant_integrators RUN [--episodes 256] [--threads 1]

speed: control steps a second of 256 ants under random controls, without policy or observation, the
median of five turns that the integrators take one after the other. The policy plays the same starts
and goals under each, without noise.
"""

# MuJoCo ships no type stubs for its compiled module.
# pyright: reportAttributeAccessIssue=false
import argparse
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from kilolayer.analysis.load import Run, load
from kilolayer.physics.native import MujocoWorld, NativePhysics
from kilolayer.tasks.ant import BENCHMARK_DRIVE, Ant, build_scene
from kilolayer.training.evaluate import (
    Evaluator,
    episode_metrics,
    evaluation_key,
    evaluation_start,
)

KINDS = mujoco.mjtIntegrator
# Name, integrator, time step in s.
INTEGRATORS = (
    ("Runge-Kutta 4", KINDS.mjINT_RK4, 0.02),
    ("Euler", KINDS.mjINT_EULER, 0.02),
    ("Euler, half the time step", KINDS.mjINT_EULER, 0.01),
    ("implicit, fast", KINDS.mjINT_IMPLICITFAST, 0.02),
)
ENVS, STEPS, TURNS = 256, 40, 5


def env_of(integrator: mujoco.mjtIntegrator, time_step: float) -> MujocoWorld:
    spec = build_scene(None)
    spec.option.integrator, spec.option.timestep = integrator, time_step
    return MujocoWorld.compile(spec, BENCHMARK_DRIVE.control_step)


def speeds(envs: list[MujocoWorld], threads: int) -> list[float]:
    """Control steps a second, in the order of `envs`."""
    starts = Ant().reset(jax.random.key(0), jnp.zeros((ENVS, 2)), "training")
    engines = [NativePhysics(world, ENVS, threads) for world in envs]
    states = [engine.init(*starts) for engine in engines]
    step = [jax.jit(engine.step) for engine in engines]
    draw, taken = np.random.default_rng(0), [[] for _ in engines]
    for _ in range(TURNS + 1):
        for index in range(len(engines)):
            began = time.perf_counter()
            for _ in range(STEPS):
                controls = jnp.asarray(draw.uniform(-1, 1, (ENVS, 8)), jnp.float32)
                states[index] = step[index](states[index], controls)
            jax.block_until_ready(states[index])
            taken[index].append(time.perf_counter() - began)
    return [ENVS * STEPS / statistics.median(times[1:]) for times in taken]


def scores(run: Run, world: MujocoWorld, episodes: int, threads: int) -> dict[str, float]:
    physics = NativePhysics(world, episodes, threads)
    evaluator = Evaluator(run.task, physics, run.agent, run.task.episode_length)
    key = evaluation_key(0, 0)
    start = evaluation_start(run.task, key, episodes, "evaluation")
    return episode_metrics(run.task, jax.jit(evaluator.run)(run.agent_state, key, start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    run = load(arguments.run)
    envs = [env_of(kind, time_step) for _, kind, time_step in INTEGRATORS]
    print(
        "| integrator | steps/s | success | time at goal | final distance |\n|---|---|---|---|---|"
    )
    fast = speeds(envs, arguments.threads)
    for (name, *_), world, speed in zip(INTEGRATORS, envs, fast, strict=True):
        found = scores(run, world, arguments.episodes, arguments.threads)
        print(
            f"| {name} | {speed:,.0f} | {found['success']:.2f} | {found['time_at_goal']:.0f} | "
            f"{found['final_distance']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
