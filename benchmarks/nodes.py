"""Counts what a GPU must start for one update of actor and critic, without a GPU.

python -m benchmarks.nodes [--depths 64] [--ways apart lean towers] [--width 256] [--batch-size 512]

The update is compiled for an H100 that XLA knows from a description. A node is a kernel, a matrix
product or a copy that the compiled program starts: one node of a CUDA graph. Each takes about two
microseconds on an H100, however little it computes.

Needs Python 3.12 and XLA's compiler for NVIDIA GPUs, of the same version as jax:
pip install --no-deps jax-cuda13-plugin==VERSION jax-cuda13-pjrt==VERSION. The kernels are not tuned
as they would be on a GPU, so another choice of matrix kernels is possible there.
"""

import argparse
import importlib.util
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from benchmarks.lean import WAYS, update_in
from benchmarks.updates import random_batch
from kilolayer.errors import UserError
from kilolayer.networks.lean import segment_length
from kilolayer.types import Array

COMPILER = "jax_plugins.xla_cuda13"
MISSING = (
    "The compiler for NVIDIA GPUs is not installed: in an environment of Python 3.12, "
    f"pip install --no-deps jax-cuda13-plugin=={jax.__version__} "
    f"jax-cuda13-pjrt=={jax.__version__}."
)
H100 = Path(__file__).with_name("h100.txtpb")
LAYERS_PER_BLOCK = 4
# Lines of a program's list of what it starts; these stand for what is listed below them.
THUNK = re.compile(r"( *)\d+: (k\w+)")
AROUND_OTHERS = {"kAsyncStart", "kAsyncDone", "kSequential", "kCommandBuffer"}
AROUND_OTHERS |= {"kDynamicSliceFusion", "kWhile"}


@dataclass
class Loop:
    """A loop of the compiled program, or the whole of it: nodes of one turn, and loops inside."""

    nodes: int = 0
    inner: list["Loop"] = field(default_factory=list)

    def passes(self) -> Iterator["Loop"]:
        """The loops that pass block after block."""
        for loop in self.inner:
            if loop.inner:
                yield from loop.passes()
            else:
                yield loop

    def started(self, blocks: int) -> int:
        """Nodes of an update of stacks of so many blocks; a loop around others passes segments."""
        total, segment = self.nodes, segment_length(blocks)
        for loop in self.inner:
            turns = blocks // segment if loop.inner else blocks
            total += turns * (loop.nodes + sum(segment * each.nodes for each in loop.inner))
        return total


def installed() -> bool:
    """Whether this environment can compile for an NVIDIA GPU."""
    try:
        return importlib.util.find_spec(COMPILER) is not None
    except ModuleNotFoundError:
        return False


def read_thunks(text: str) -> Loop:
    """The loops of a program, from the list that XLA writes of what it starts."""
    program = Loop()
    around, in_condition = [(-1, program)], False
    for line in text.splitlines():
        if line.strip() in ("condition:", "body:"):
            in_condition = line.strip() == "condition:"
        if in_condition or (found := THUNK.match(line)) is None:
            continue
        indent, kind = len(found[1]), found[2]
        while around[-1][0] >= indent:
            around.pop()
        loop = around[-1][1]
        if kind not in AROUND_OTHERS:
            loop.nodes += 1
        elif kind == "kWhile":
            loop.inner.append(Loop())
            around.append((indent, loop.inner[-1]))
    return program


def compile_for_h100(function: Any, *arguments: Any) -> tuple[Loop, int]:
    """Loops and bytes of temporary memory of a function of arguments of these shapes.

    Raises UserError where the compiler is not installed.
    """
    if not installed():
        raise UserError(MISSING)
    description = topologies.get_topology_desc(
        platform="cuda", target_config=H100.read_text(), topology="1x1x1"
    )
    on_gpu = jax.sharding.SingleDeviceSharding(description.devices[0])

    def shape(leaf: Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on_gpu)

    lowered = jax.jit(function).lower(*jax.tree.map(shape, arguments))
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        memory: Any = lowered.compile(compiler_options=options).memory_analysis()
        (listing,) = Path(folder).glob("*thunk_sequence_after_thunk_passes.txt")
        return read_thunks(listing.read_text()), memory.temp_size_in_bytes


def nodes_of_update(way: str, depth: int, width: int, batch_size: int) -> tuple[Loop, int]:
    """Loops and bytes of temporary memory of one update, in one of the ways of benchmarks.lean."""
    agent, update = update_in(way, depth, width)
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: (agent.init(key), random_batch(batch_size), key))
    return compile_for_h100(update, *shapes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[64])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--ways", nargs="+", default=["apart", "lean", "towers"], choices=WAYS)
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # there need not be a GPU
    print(f"jax {jax.__version__}, compiled for an H100")
    print("| depth | way | passes over the blocks | nodes per block | per update | temporary MB |")
    print("| --: | --- | --: | --: | --: | --: |")
    for depth in arguments.depths:
        for way in arguments.ways:
            program, temporary = nodes_of_update(way, depth, arguments.width, arguments.batch_size)
            passes = [loop.nodes for loop in program.passes()]
            # A single block has no loop: its nodes are among the others.
            each = f"{sum(passes)} = {' + '.join(map(str, passes))}" if passes else "no loop"
            started = program.started(depth // LAYERS_PER_BLOCK)
            print(
                f"| {depth} | {way} | {len(passes)} | {each} | {started} | {temporary / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
