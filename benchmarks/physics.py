"""Control steps per second of native ant physics: bare, and with policy, observation and reset.

python -m benchmarks.physics [--worlds 256] [--repeats 7]
"""

import argparse
import statistics
import time

import jax
import numpy as np

from benchmarks.measure import seconds_of
from kilolayer.config import TrainConfig
from kilolayer.training.build import build_trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    config = TrainConfig(task="ant", num_envs=arguments.worlds, width=256, depth=4)
    trainer = build_trainer(config)
    print(f"bare:    {bare(trainer, arguments.repeats):9,.0f} control steps/s")
    print(f"rollout: {rollout(trainer, arguments.repeats):9,.0f} control steps/s, depth-4 policy")


def bare(trainer, repeats: int) -> float:
    """The engine alone, called from Python with random controls."""
    from mujoco.batch import Batch

    worlds = trainer.config.num_envs
    batch = Batch(trainer.task.world.model, worlds)
    goal = trainer.task.sample_goal(jax.random.key(0), worlds, "training")
    qpos, qvel = trainer.task.reset(jax.random.key(0), goal, "training")
    batch.bind("qpos")[:], batch.bind("qvel")[:] = np.asarray(qpos), np.asarray(qvel)
    generator, control, rates = np.random.default_rng(0), batch.bind("ctrl"), []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(100):
            control[:] = generator.uniform(-1, 1, control.shape)
            batch.step(nstep=trainer.task.world.substeps)
        rates.append(100 * worlds / (time.perf_counter() - start))
    return statistics.median(rates)


def rollout(trainer, repeats: int) -> float:
    """The training program's own collection: policy, physics, observation, reset, insertion."""
    collect = jax.jit(trainer.collect, donate_argnums=0)
    state = collect(jax.jit(trainer.init)())
    seconds = []
    for _ in range(repeats):
        state, elapsed = seconds_of(collect, state)
        seconds.append(elapsed)
    return trainer.plan.steps_per_unroll / statistics.median(seconds)


if __name__ == "__main__":
    main()
