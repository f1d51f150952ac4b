"""Latency of an action at batch 1 on one core: makes docs/latency.md.

python -m benchmarks.latency [--depth 64] [--width 256] [--calls 200] [--rounds 9]
                             [--exported FILE.onnx] [--out docs/latency.md] [--quick]

One policy as the graph that `kilolayer export` writes, as ONNX graphs that keep its blocks in a
loop, which is what exporters make of `lax.scan`, and in JAX; then small students. Policies are
freshly drawn: latency does not depend on what they have learnt. All are timed in turn.
--exported: the same policy by another exporter, see `benchmarks.exported_scan`.
--quick: small and printed only.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser

from benchmarks.exported_scan import SIZES, drawn
from benchmarks.measure import busy, machine
from benchmarks.page import duration, ratio, table
from kilolayer.deploy.export.check import Function, reference
from kilolayer.deploy.export.onnx_graph import policy_graph
from kilolayer.deploy.export.onnx_session import open_session, session_of
from kilolayer.networks.actor import Actor
from kilolayer.networks.block import NormedLayer

STUDENTS = ((4, 64), (4, 256), (8, 256), (16, 256))
WANTED_RATIO, WANTED_SECONDS = 3.0, 1e-4

# A dense layer with its norm and swish, in ONNX's text: of `{x}`, named `{y}`. As a jaxpr has it,
# each of JAX's primitives the nearest operator, and with the norm fused.
PRIMITIVES = """
{y}_p = MatMul ({x}, {kernel})        {y}_d = Add ({y}_p, {bias})
{y}_t = ReduceSum ({y}_d, axes)       {y}_m = Div ({y}_t, width)
{y}_c = Sub ({y}_d, {y}_m)            {y}_q = Mul ({y}_c, {y}_c)
{y}_u = ReduceSum ({y}_q, axes)       {y}_v = Div ({y}_u, width)
{y}_e = Add ({y}_v, epsilon)          {y}_r = Sqrt ({y}_e)
{y}_i = Reciprocal ({y}_r)            {y}_n = Mul ({y}_c, {y}_i)
{y}_s = Mul ({y}_n, {scale})          {y}_o = Add ({y}_s, {offset})
{y}_g = Sigmoid ({y}_o)               {y} = Mul ({y}_o, {y}_g)
"""
FUSED = """
{y}_d = Gemm ({x}, {kernel}, {bias})
{y}_o = LayerNormalization <axis = -1, epsilon = 1e-6> ({y}_d, {scale}, {offset})
{y}_g = Sigmoid ({y}_o)               {y} = Mul ({y}_o, {y}_g)
"""
EXPORTED = "ONNX of jax2onnx"
YARDSTICKS = {
    "ONNX Loop, primitives": ("Loop", PRIMITIVES),
    "ONNX Loop, norms fused": ("Loop", FUSED),
    "ONNX Scan, primitives": ("Scan", PRIMITIVES),
    "ONNX Scan, norms fused": ("Scan", FUSED),
}
GRAPH = "ONNX graph of `kilolayer export`"


def graph_of(actor: Actor) -> bytes:
    return policy_graph(actor, SIZES).SerializeToString()


def looped(actor: Actor, operator: str, layer: str) -> bytes:
    """The same policy as an ONNX model with its blocks in one Loop or Scan, on stacked weights."""
    encoder = actor.encoder
    width, blocks = encoder.inputs.dense.kernel.shape[1], encoder.stack.num_blocks
    layers = encoder.stack.blocks.layers
    weights = {f"{n}{i}": a for i, each in enumerate(layers) for n, a in arrays(each).items()}
    stream = f"float[batch,{width}]"
    steps = "".join(
        layer.format(x=f"x{i}", y=f"x{i + 1}", **{n: f"own_{n}{i}" for n in arrays(each)})
        for i, each in enumerate(layers)
    )
    block = f"{steps} scaled = Mul (branch_scale, x{len(layers)})  next = Add (x0, scaled)"
    if operator == "Scan":
        own = "".join(f", float{list(a.shape[1:])} own_{name}" for name, a in weights.items())
        body = f"block ({stream} x0{own}) => ({stream} next) {{ {block} }}"
        loop = f"Scan <num_scan_inputs = {len(weights)}, body = {body}> (x, {', '.join(weights)})"
    else:
        own = " ".join(f"own_{name} = Gather <axis = 0> ({name}, index)" for name in weights)
        loop = f"""Loop <body = block (int64 index, bool go, {stream} x0) =>
            (bool go_on, {stream} next) {{ go_on = Identity (go) {own} {block} }}
            > (trips, true, x)"""
    first = layer.format(x="inputs", y="x", **{name: name for name in arrays(encoder.inputs)})
    model = parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 20]>
        policy (float[batch,{SIZES["observation"]}] observation, float[batch,{SIZES["goal"]}] goal)
            => (float[batch,{SIZES["action"]}] action) {{
            inputs = Concat <axis = -1> (observation, goal)
            {first}
            last = {loop}
            outputs = Gemm (last, out_kernel, out_bias)
            squashed = Tanh (outputs)
            action, raw = Split <axis = -1, num_outputs = 2> (squashed)
        }}""")
    out: Any = encoder.outputs
    constants = {
        **weights,
        **arrays(encoder.inputs),
        "out_kernel": out.kernel,
        "out_bias": out.bias,
        "axes": np.array([-1]),
        "width": np.float32(width),
        "epsilon": np.float32(1e-6),
        "branch_scale": np.float32(encoder.stack.torso.branch_scale),
        "trips": np.array(blocks),
        "true": np.array(True),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def arrays(layer: NormedLayer) -> dict[str, Any]:
    dense = {"kernel": layer.dense.kernel, "bias": layer.dense.bias}
    return {**dense, "scale": layer.scale, "offset": layer.offset}


def action_of(model: bytes) -> Function:
    """What a model without `log_std` computes."""
    session = session_of(model)
    return lambda o, g: session.run(["action"], {"observation": o, "goal": g})[0]


def exported_action(path: Path) -> Function:
    """What a file computes whose inputs are observation and goal in this order."""
    session = session_of(path)
    names = [each.name for each in session.get_inputs()]
    return lambda o, g: session.run(None, dict(zip(names, (o, g), strict=True)))[0]


def ways(actor: Actor) -> dict[str, Function]:
    """Each way to run the actor, a function from numpy to its action."""
    session, jitted = open_session(graph_of(actor)), reference(actor)
    found: dict[str, Function] = {GRAPH: lambda o, g: session(o, g)[0]}
    for name, (operator, layer) in YARDSTICKS.items():
        found[name] = action_of(looped(actor, operator, layer))
    found["JAX"] = lambda o, g: np.asarray(jitted(o, g)[0])
    return found


def compared(found: dict[str, Function]) -> float:
    """The largest difference of any way's actions from JAX's; a wrong yardstick times nothing."""
    draw = np.random.default_rng(0).normal
    inputs = [draw(size=(5, SIZES[name])).astype(np.float32) for name in ("observation", "goal")]
    wanted = found["JAX"](*inputs)
    return max(float(np.abs(act(*inputs) - wanted).max()) for act in found.values())


@dataclass(frozen=True)
class Call:
    """Seconds of a call: median, fastest, and the median of the processor time."""

    median: float
    fastest: float
    processor: float


def timed(calls: Sequence[Callable[[], Any]], count: int, rounds: int) -> list[Call]:
    """Each called `count` times in turn, after a few that fill the caches, `rounds` times over."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, found in zip(calls, seconds, strict=True):
            for index in range(-3, count):
                start, used = time.perf_counter(), time.process_time()
                call()
                if index >= 0:
                    found.append((time.perf_counter() - start, time.process_time() - used))
    wall, processor = np.median(seconds, axis=1).T
    fastest = np.min(seconds, axis=1)[:, 0]
    return [Call(*map(float, each)) for each in zip(wall, fastest, processor, strict=True)]


def single(act: Function) -> Callable[[], Any]:
    """The call at batch 1."""
    inputs = [np.full((1, SIZES[name]), 0.5, np.float32) for name in ("observation", "goal")]
    return partial(act, *inputs)


def depth_table(timings: dict[str, Call]) -> str:
    best = timings[GRAPH].fastest
    rows = [
        (
            name,
            *map(duration, (each.median, each.processor, each.fastest)),
            ratio(each.fastest / best),
        )
        for name, each in timings.items()
    ]
    header = "way", "median", "processor time", "fastest", "fastest, times the graph's"
    return table(header, rows)


def student_table(timings: dict[tuple[int, int], tuple[Call, Call]]) -> str:
    rows = [
        (
            f"depth {depth}, width {width}",
            *map(duration, (o.median, o.fastest, j.median, j.fastest)),
        )
        for (depth, width), (o, j) in timings.items()
    ]
    return table(("policy", "ONNX median", "fastest", "JAX median", "fastest"), rows)


def page(arguments: argparse.Namespace, measured: dict, students: dict, apart: float) -> str:
    best = measured[GRAPH].fastest
    name = EXPORTED if EXPORTED in measured else next(iter(YARDSTICKS))
    exported = measured[name].fastest / best
    others = min(measured[name].fastest for name in YARDSTICKS) / best
    small = [students[shape][0].median for shape in STUDENTS[:2]]
    under = all(seconds < WANTED_SECONDS for seconds in small)
    return f"""# Latency of an action

Batch 1, one core, numpy in and numpy out, the ant's sizes. {arguments.rounds} rounds of
{arguments.calls} calls each, alternating in one process. Median and
fastest are wall-clock times; processor time is the median of the process's own time. If other
work shares the core, long calls are interrupted: then compare only the fastest.

## Depth {arguments.depth}, width {arguments.width}

{depth_table(measured)}

- *{EXPORTED}* (`benchmarks.exported_scan`): an exporter's own file. Its scan is a Loop that
  gathers each block's weights.
- *ONNX Loop*, *ONNX Scan*: hand-written loops, leaner than exported ones. The Loop gathers from the
  stacked weights, the Scan reads them in place; norms are JAX's primitives or fused.
- Aim: the graph at least {WANTED_RATIO:g} times as fast as the exported scan. Measured:
  {exported:.1f} times as fast as *{name}*, {verdict(exported >= WANTED_RATIO)}.
  The leanest loop takes {others:.1f} times as long as the graph.
- All actions differ from JAX's by at most {apart:.0e}.

## Small policies

{student_table(students)}

Aim for depth 4, width 64 and 256: under {duration(WANTED_SECONDS)} at the median. Measured:
{" and ".join(map(duration, small))}, {verdict(under)}.

Made by `python -m benchmarks.latency` on one core of {machine()}; onnxruntime
{onnxruntime.__version__}, jax {jax.__version__}.
{busy(arguments.load)}"""


def verdict(holds: bool) -> str:
    return "met" if holds else "missed"


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--depth", type=int, default=64)
    arguments.add_argument("--width", type=int, default=256)
    arguments.add_argument("--calls", type=int, default=200)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--out", type=Path, default=Path("docs/latency.md"))
    arguments.add_argument("--exported", type=Path)
    arguments.add_argument("--quick", action="store_true")
    found = arguments.parse_args()
    if found.quick:
        found.depth, found.width, found.calls, found.rounds = 8, 16, 5, 1
    found.load = os.getloadavg()[0]
    return found


def main() -> None:
    arguments = parse()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = ways(drawn(arguments.depth, arguments.width))
    if arguments.exported is not None:
        found[EXPORTED] = exported_action(arguments.exported)
    apart = compared(found)
    calls = [single(act) for act in found.values()]
    measured = dict(zip(found, timed(calls, arguments.calls, arguments.rounds), strict=True))
    print(depth_table(measured), flush=True)
    calls = []
    for shape in STUDENTS:
        student = ways(drawn(*shape))
        calls += [single(student[GRAPH]), single(student["JAX"])]
    timings = timed(calls, arguments.calls, arguments.rounds)
    students = dict(zip(STUDENTS, zip(timings[::2], timings[1::2], strict=True), strict=True))
    text = page(arguments, measured, students, apart)
    if arguments.quick:
        print(text)
    else:
        arguments.out.write_text(text)
        print(student_table(students), f"written: {arguments.out}", sep="\n\n")


if __name__ == "__main__":
    main()
