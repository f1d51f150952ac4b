"""What an accelerator makes of updates and of physics, as a training round asks for them.

python -m benchmarks.accelerator [--depths 4 8 16 64 256 1024] [--unroll 1] [--batch-size 512]
    [--compute-dtype float32] [--engines native mjx] [--envs 256 2048] [--quick]

Updates of actor and critic follow one another inside one program, and so do control steps of the
ant under random actions: medians of five calls.
"""

import argparse
import statistics
from typing import Any

import jax

from benchmarks.measure import Program, seconds_of
from benchmarks.updates import TASK, UNSCALED_LAYERS, random_batch
from kilolayer.agents.base import Problem
from kilolayer.agents.crl import CRL
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.physics.build import build_physics
from kilolayer.physics.config import PhysicsConfig
from kilolayer.tasks.registry import make_task
from kilolayer.types import Array

REPEATS = 5
LAYERS = 3_200  # that the updates of one call pass, all together


def updates(depth: int, arguments: argparse.Namespace) -> tuple[Program, int]:
    """A program of several updates, and how many they are."""
    torso = TorsoSpec(
        depth,
        arguments.width,
        branch_scale=min(1.0, UNSCALED_LAYERS / depth),
        scan_unroll=arguments.unroll,
        compute_dtype=arguments.compute_dtype,
    )
    agent, count = CRL().on(Problem(TASK, torso, torso)), max(4, LAYERS // depth)
    batch = random_batch(arguments.batch_size)

    def run(state: Any, keys: Array) -> Any:
        return jax.lax.scan(lambda s, key: (agent.update(s, batch, key)[0], None), state, keys)[0]

    state = jax.jit(agent.init)(jax.random.key(1))
    return Program.compile(run, state, jax.random.split(jax.random.key(2), count)), count


def steps(engine: Any, envs: int, count: int) -> tuple[Program, int]:
    """A program of `count` control steps of every ant, and how many they are in all."""
    task, key = make_task("ant"), jax.random.key(0)
    physics = build_physics(task.world, envs, PhysicsConfig(physics=engine))
    goal = task.sample_goal(key, envs, "training")
    state = jax.jit(physics.init)(*task.reset(key, goal, "training"))

    def run(state: Any, keys: Array) -> Any:
        def step(state: Any, key: Array) -> tuple[Any, None]:
            action = jax.random.uniform(key, (envs, task.action_dim), minval=-0.5, maxval=0.5)
            return physics.step(state, action), None

        return jax.lax.scan(step, state, keys)[0]

    return Program.compile(run, state, jax.random.split(key, count)), envs * count


def each(program: Program, items: int) -> float:
    """Seconds per item, the median."""
    program()
    return statistics.median(seconds_of(program)[1] for _ in range(REPEATS)) / items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="*", default=[4, 8, 16, 64, 256, 1024])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--unroll", type=int, default=1, help="blocks per iteration of the scan")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--compute-dtype", default="float32")
    parser.add_argument("--engines", nargs="*", default=["native", "mjx"])
    parser.add_argument("--envs", type=int, nargs="*", default=[256, 2048])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.depths, arguments.width, arguments.batch_size = [4], 8, 8
        arguments.engines, arguments.envs, arguments.steps = ["native"], [2], 2
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}", flush=True)
    for depth in arguments.depths:
        program, count = updates(depth, arguments)
        print(
            f"depth {depth:5d}: {1e3 * each(program, count):9.3f} ms an update, "
            f"{program.temporary_bytes / 1e6:6.0f} MB, compiled in {program.compile_seconds:.1f} s",
            flush=True,
        )
    for engine in arguments.engines:
        for envs in arguments.envs:
            program, count = steps(engine, envs, arguments.steps)
            rate = 1 / each(program, count)
            print(f"{engine}, {envs} ants: {rate:9.0f} control steps a second", flush=True)


if __name__ == "__main__":
    main()
