"""Speed and memory, each figure beside its yardstick's: makes docs/performance.md and its plot.

python -m benchmarks.performance [--out docs] [--quick]

About ten minutes on two idle cores. --quick: tiny sizes, does it run?
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import deep_stack, energies, parts, physics, sampling, updates
from benchmarks.page import Measured, page
from benchmarks.plot import plot
from kilolayer.config import run_config


@dataclass(frozen=True)
class Sizes:
    """How large everything is; the aims of the page are stated for these."""

    depths: tuple[int, ...] = (4, 16, 64, 256, 1024)
    narrow: int = 64  # width and batch size of the sweep over depth
    depth: int = 64
    wide: int = 256  # width and batch size at that depth
    energy_batches: tuple[int, ...] = (256, 1024, 2048, 4096)
    sample_batches: tuple[int, ...] = (256, 4096)
    envs: int = 256
    buffer_steps: int = 10_000
    transitions: int = 12_800
    unroll_length: int = 31
    replay: int = 992
    peak: int = 3072
    ways: tuple[str, ...] = tuple(deep_stack.WAYS)
    repeats: int = 7


QUICK = Sizes(
    depths=(4,),
    narrow=8,
    depth=4,
    wide=8,
    energy_batches=(8,),
    sample_batches=(4,),
    envs=4,
    buffer_steps=40,
    transitions=8,
    unroll_length=10,
    replay=20,
    peak=32,
    ways=(),
    repeats=1,
)


def measure(sizes: Sizes) -> Measured:
    """All figures, one subject after the other."""
    repeats, wide = sizes.repeats, sizes.wide
    config = run_config(
        task="ant",
        num_envs=sizes.envs,
        unroll_length=sizes.unroll_length,
        width=wide,
        batch_size=min(wide, sizes.envs * (sizes.replay - 1)),
        replay_steps_per_env=sizes.replay,
        min_replay_steps_per_env=sizes.replay,
    )
    load, begun = os.getloadavg()[0], time.perf_counter()
    subjects: dict[str, Callable[[], Any]] = {
        "sweep": lambda: updates.measure(sizes.depths, sizes.narrow, sizes.narrow, repeats),
        "headline": lambda: updates.measure([sizes.depth], wide, wide, repeats)[0],
        "profile": lambda: parts.measure(sizes.depth, wide, wide, sizes.peak, repeats),
        "ways": lambda: ways(sizes),
        "energies": lambda: energies.measure(sizes.energy_batches, 64, repeats),
        "hindsight": lambda: sampling.measure(
            sizes.sample_batches, sizes.envs, sizes.buffer_steps, sizes.transitions, repeats
        ),
        "collection": lambda: physics.measure(config, max(1, repeats // 2)),
    }
    found = {}
    for number, (name, run) in enumerate(subjects.items(), 1):
        print(f"{number}/{len(subjects)} {name}", end="", flush=True)
        start = time.perf_counter()
        found[name] = run()
        print(f": {time.perf_counter() - start:.0f} s", flush=True)
    collection, round_parts = found.pop("collection")
    return Measured(
        **found,
        collection=collection,
        round_parts=round_parts,
        width=wide,
        narrow=sizes.narrow,
        load=load,
        minutes=(time.perf_counter() - begun) / 60,
    )


def ways(sizes: Sizes) -> dict[str, tuple[float, int]]:
    """Seconds and bytes of the update in each way to run the deep stack."""
    torso = updates.make_agent(sizes.depth, sizes.wide).critic_torso
    programs = deep_stack.updates(torso, sizes.wide, list(sizes.ways))
    medians = deep_stack.medians(programs, sizes.repeats)
    return {name: (medians[name], program.peak_bytes) for name, program in programs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    measured = measure(QUICK if arguments.quick else Sizes())
    text = page(measured)
    (arguments.out / "performance.md").write_text(text)
    plot(measured).savefig(arguments.out / "performance.png", dpi=110)
    print(f"written: {arguments.out / 'performance.md'}, {arguments.out / 'performance.png'}")


if __name__ == "__main__":
    main()
