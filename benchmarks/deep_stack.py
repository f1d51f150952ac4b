"""Time and memory of one update against depth, for the ways to run the deep stack.

python -m benchmarks.deep_stack [--depths 16 64 256 1024] [--width 256] [--batch-size 256]
    [--repeats 5] [--ways none block ...] [--quick]

Each way changes one thing of the plain stack: no matrix product computed twice, float32, one block
per scan iteration. Medians of interleaved repeats, and ratios to the plain stack of the same depth.
Memory is the compiled program's temporary memory. `towers` compares the gradient of the critic's
two stacks, one after the other against batched into one.
"""

import argparse
import dataclasses
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import Program, alternate
from benchmarks.updates import TASK, random_batch
from kilolayer.agents.base import Problem
from kilolayer.agents.crl import CRL
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.networks.stack import Stack
from kilolayer.types import Array

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "block": {"rematerialisation": "block"},
    "nested": {"rematerialisation": "nested"},
    "unroll 2": {"scan_unroll": 2},
    "unroll 4": {"scan_unroll": 4},
    "bfloat16": {"compute_dtype": "bfloat16"},
}


def updates(torso: TorsoSpec, batch_size: int, ways: list[str]) -> dict[str, Program]:
    """One update of actor and critic, in each of the ways."""
    batch, found, leaves = random_batch(batch_size), {}, None
    for name in ways:
        way = dataclasses.replace(torso, **WAYS[name])
        agent = CRL().on(Problem(TASK, way, way))
        # All ways have equal parameters: at depth 1024 there is room for one state alone.
        structure = jax.tree.structure(jax.eval_shape(agent.init, jax.random.key(1)))
        leaves = leaves or jax.tree.leaves(jax.jit(agent.init)(jax.random.key(1)))
        state = jax.tree.unflatten(structure, leaves)
        found[name] = Program.compile(agent.update, state, batch, jax.random.key(2))
    return found


def towers(torso: TorsoSpec, batch_size: int) -> dict[str, Program]:
    """Gradients of two stacks, apart and as one."""

    def build(key: Array) -> Stack:
        return Stack.init(
            key,
            TorsoSpec(
                torso.depth, torso.width, torso.layers_per_block, branch_scale=torso.branch_scale
            ),
        )

    stacks = jax.vmap(build)(jax.random.split(jax.random.key(0), 2))
    streams = jax.random.normal(jax.random.key(1), (2, batch_size, torso.width))

    def apart(stacks: list[Stack], streams: Array) -> Array:
        outputs = [stack(x) for stack, x in zip(stacks, streams, strict=True)]
        return jnp.square(jnp.stack(outputs)).sum()

    def together(stacks: Stack, streams: Array) -> Array:
        return jnp.square(jax.vmap(lambda stack, x: stack(x))(stacks, streams)).sum()

    parts = [jax.tree.map(lambda leaf, i=i: leaf[i], stacks) for i in range(2)]
    return {
        "towers apart": Program.compile(jax.grad(apart), parts, streams),
        "towers batched": Program.compile(jax.grad(together), stacks, streams),
    }


def medians(programs: dict[str, Program], repeats: int) -> dict[str, float]:
    """Seconds of each, called in turn."""
    seconds = alternate(list(programs.values()), repeats)
    return dict(zip(programs, map(statistics.median, seconds), strict=True))


def report(programs: dict[str, Program], depth: int, repeats: int) -> None:
    """Print seconds, memory and their ratios to the first program's."""
    seconds = medians(programs, repeats)
    first = next(iter(programs))
    for name, program in programs.items():
        time, size = seconds[name], program.temporary_bytes
        print(
            f"depth {depth:5d} {name:15} {1e3 * time:10.2f} ms, {time / seconds[first]:5.2f} times"
            f" {first}; {size / 1e6:9.2f} MB, {size / programs[first].temporary_bytes:5.2f} times",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[16, 64, 256, 1024])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.depths, arguments.width, arguments.batch_size = [16], 8, 8
        arguments.repeats = 1
    for depth in arguments.depths:
        torso = TorsoSpec(depth, arguments.width, branch_scale=min(1.0, 8 / depth))
        programs = updates(torso, arguments.batch_size, arguments.ways)
        report(programs, depth, arguments.repeats)
        report(towers(torso, arguments.batch_size), depth, arguments.repeats)


if __name__ == "__main__":
    main()
