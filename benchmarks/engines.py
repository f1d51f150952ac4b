"""Control steps a second of every MuJoCo task, native and on MJX-JAX: makes docs/speed.md.

python -m benchmarks.engines [--tasks ...] [--envs 256] [--steps 30] [--repeats 3]
                             [--mjx-tasks ...] [--mjx-envs 64] [--mjx-steps 1] [--mjx-repeats 3]
                             [--out docs/speed.md] [--quick]

Every repeat plays the same random actions from the same starts. Tasks of one environment and as
large an observation share a row. All rows are measured native first, then on MJX. A humanoid among
walls takes MJX eight minutes here and is measured there only where --mjx-tasks names it.
--quick: two steps of one task, printed only.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from mujoco.batch import Batch

from benchmarks.measure import Program, alternate, busy, machine
from kilolayer.errors import UserError
from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.physics.mjx import MjxPhysics
from kilolayer.physics.native import MujocoWorld, NativePhysics
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import TASKS, make_task
from kilolayer.types import Array


@dataclass(frozen=True)
class Row:
    """What one environment does natively: rates in control steps a second, one per repeat.

    bare: the batch alone, by threads; native: with observation, by threads.
    """

    names: str
    bare: tuple[list[float], list[float]]
    native: tuple[list[float], list[float]]

    def cells(self) -> list[str]:
        bare, native = (list(map(statistics.median, rates)) for rates in (self.bare, self.native))
        scaling = f"{native[1] / native[0]:.2f}"
        return [self.names, *(f"{rate:,.0f}" for rate in (*bare, *native)), scaling]


@dataclass(frozen=True)
class MjxRow:
    """The same environment on MJX. rates: empty if it was not measured, for the reason in
    `refused`."""

    rates: list[float]
    compile_seconds: float = 0.0
    refused: str = ""

    def cells(self, native: float) -> list[str]:
        if not self.rates:
            return ["refused" if self.refused else "not measured", "", ""]
        mjx = statistics.median(self.rates)
        return [f"{mjx:,.0f}", f"{native / mjx:,.1f}", f"{self.compile_seconds:.0f}"]


def starts(task: Task, envs: int) -> tuple[Array, Array]:
    goal = task.sample_goal(jax.random.key(0), envs, "training")
    return task.reset(jax.random.key(1), goal, "training")


def observed_play(task: Task, physics: Physics, envs: int, steps: int) -> Program:
    """The jitted step with its observation."""

    def play(state: PhysicsState, key: Array) -> Array:
        def step(state: PhysicsState, key: Array) -> tuple[PhysicsState, Array]:
            control = jax.random.uniform(key, (envs, task.action_dim), minval=-1.0)
            state = physics.step(state, control)
            return state, task.observe(state).sum()

        return jnp.sum(jax.lax.scan(step, state, jax.random.split(key, steps))[1])

    return Program.compile(play, physics.init(*starts(task, envs)), jax.random.key(2))


def rates(play: Callable[[], object], envs: int, steps: int, repeats: int) -> list[float]:
    """Control steps a second, one per repeat."""
    return [steps * envs / seconds for seconds in alternate([play], repeats)[0]]


def bare_play(task: Task, envs: int, steps: int, threads: int) -> Callable[[], None]:
    """MuJoCo's batch alone, called from Python: plays the same steps at every call."""
    world = task.world
    assert isinstance(world, MujocoWorld)
    batch = Batch(world.model, envs, threads)
    qpos, qvel = map(np.asarray, starts(task, envs))
    controls = random_controls(world, envs, steps)

    def play() -> None:
        batch.reset(np.arange(envs))
        batch.bind("qpos")[:], batch.bind("qvel")[:] = qpos, qvel
        for control in controls:
            batch.bind("ctrl")[:] = control
            batch.step(nstep=world.substeps)

    return play


def random_controls(world: MujocoWorld, envs: int, steps: int) -> np.ndarray:
    """`[steps, envs, nu]`, uniform over each actuator's range."""
    low, high = world.model.actuator_ctrlrange.T
    return np.random.default_rng(2).uniform(low, high, (steps, envs, world.model.nu))


def measure(names: list[str], arguments: argparse.Namespace) -> Row:
    """The batch alone and the engine, on one thread and on all."""
    task, envs = make_task(names[0]), arguments.envs
    size = (envs, arguments.steps)
    bare, native = [], []
    for threads in (1, arguments.threads):
        bare.append(rates(bare_play(task, *size, threads), *size, arguments.repeats))
        play = observed_play(task, NativePhysics(task.world, envs, threads), *size)
        native.append(rates(play, *size, arguments.repeats))
    return Row(", ".join(names), (bare[0], bare[1]), (native[0], native[1]))


def measure_mjx(names: list[str], arguments: argparse.Namespace) -> MjxRow:
    if not set(names) & set(arguments.mjx_tasks):
        return MjxRow([])
    task = make_task(names[0])
    size = (arguments.mjx_envs, arguments.mjx_steps)
    try:
        play = observed_play(task, MjxPhysics(task.world, arguments.mjx_envs), *size)
        return MjxRow(rates(play, *size, arguments.mjx_repeats), play.compile_seconds)
    except UserError as error:
        return MjxRow([], refused=str(error))


def rows_of(tasks: Sequence[str]) -> list[list[str]]:
    """The MuJoCo tasks, those that would give the same figures together."""
    groups: dict[tuple, list[str]] = {}
    for name in tasks:
        task = make_task(name)
        if isinstance(task.world, MujocoWorld):
            kind = (id(task.world.model), len(task.observation))
            groups.setdefault(kind, []).append(name)
    return list(groups.values())


def spread(rates: Sequence[list[float]]) -> float:
    """The largest difference of a repeat from its median, in percent of it."""
    return 100 * max(abs(r / statistics.median(each) - 1) for each in rates for r in each)


def page(rows: list[Row], on_mjx: list[MjxRow], arguments: argparse.Namespace, load: float) -> str:
    threads = arguments.threads
    header = [
        "task", "batch, 1 thread", f"batch, {threads} threads", "native, 1 thread",
        f"native, {threads} threads", "scaling", "MJX-JAX", "native / MJX", "MJX compiles, s",
    ]  # fmt: skip
    lines = [header, ["---", *["--:"] * (len(header) - 1)]]
    for row, mjx in zip(rows, on_mjx, strict=True):
        lines.append(row.cells() + mjx.cells(statistics.median(row.native[1])))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    native = spread([rates for row in rows for rates in (*row.bare, *row.native)])
    mjx = spread([row.rates for row in on_mjx if row.rates] or [[1.0]])
    packages = ", ".join(f"{name} {version(name)}" for name in ("mujoco", "mujoco-mjx", "jax"))
    refused = "".join(
        f"\n- {row.names}: {found.refused}"
        for row, found in zip(rows, on_mjx, strict=True)
        if found.refused
    )
    return f"""# Speed of the engines

Control steps per second under random actions, summed over {arguments.envs} environments (MJX:
{arguments.mjx_envs}). Medians of {arguments.repeats} repeats of {arguments.steps} control steps
(MJX: {arguments.mjx_repeats} of {arguments.mjx_steps}), which differ from their median by at most
{native:.0f} % (MJX: {mjx:.0f} %).

- *batch*: MuJoCo's batched stepping alone, called from Python.
- *native*, *MJX-JAX*: the engine inside a jitted program, with the task's observation.
- *scaling*: native with {threads} threads over native with 1.
- *native / MJX*: native with {threads} threads over MJX-JAX.

{table}
{refused}
Made by `python -m benchmarks.engines` on {machine()};
{packages}.
{busy(load)}"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    among_walls = {name for name in TASKS if name.startswith("humanoid_")}
    parser.add_argument(
        "--mjx-tasks", nargs="+", default=[t for t in TASKS if t not in among_walls]
    )
    parser.add_argument("--mjx-envs", type=int, default=64)
    parser.add_argument("--mjx-steps", type=int, default=1)
    parser.add_argument("--mjx-repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("docs/speed.md"))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tasks = ["reacher"]
        arguments.envs = arguments.mjx_envs = 4
        arguments.steps = arguments.mjx_steps = 2
        arguments.repeats = arguments.mjx_repeats = 1
    return arguments


def main() -> None:
    arguments, load = parse(), os.getloadavg()[0]
    groups, rows, on_mjx = rows_of(arguments.tasks), [], []
    for number, names in enumerate(groups, 1):
        rows.append(measure(names, arguments))
        print(f"{number}/{len(groups)}", *rows[-1].cells(), sep="  ", flush=True)
    for names, row in zip(groups, rows, strict=True):
        on_mjx.append(measure_mjx(names, arguments))
        cells = on_mjx[-1].cells(statistics.median(row.native[1]))
        print(row.names, *cells, sep="  ", flush=True)
    text = page(rows, on_mjx, arguments, load)
    if arguments.quick:
        print(text)
    else:
        arguments.out.write_text(text)
        print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
