"""Resident memory of one update of actor and critic, by rematerialisation.

python -m benchmarks.memory [--depth 1024] [--width 256] [--batch-size 512] [--ways none block]

Each way runs three updates in a process of its own, for a process never gives its peak back.
"""

import argparse
import dataclasses
import subprocess
import sys
import time
from typing import get_args

import jax

from benchmarks.measure import seconds_of
from benchmarks.updates import make_agent, random_batch
from kilolayer.networks.block import Rematerialisation
from kilolayer.runtime.devices import resident_bytes

UPDATES = 3


def measure(depth: int, width: int, batch_size: int, way: Rematerialisation) -> str:
    """The way's row, measured in this process."""
    agent = make_agent(depth, width)
    torso = dataclasses.replace(agent.critic_torso, rematerialisation=way)
    agent = dataclasses.replace(agent, actor_torso=torso, critic_torso=torso)
    batch, key = random_batch(batch_size), jax.random.key(2)
    state = jax.jit(agent.init)(jax.random.key(1))
    began = time.perf_counter()
    # As in training, the state before an update gives its memory to the one after it.
    update = jax.jit(agent.update, donate_argnums=0).lower(state, batch, key).compile()
    compiled, seconds, losses = time.perf_counter() - began, [], []
    for _ in range(UPDATES):
        (state, metrics), took = seconds_of(update, state, batch, key)
        seconds.append(took)
        losses.append(f"{metrics['critic/loss']:.4f}")
    temporary = update.memory_analysis().temp_size_in_bytes
    return (
        f"| {way} | {compiled:.1f} s | {min(seconds):.3g} s | {resident_bytes() / 1e9:.2f} GB | "
        f"{temporary / 1e9:.2f} GB | {', '.join(losses)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=512)
    ways = get_args(Rematerialisation)
    parser.add_argument("--ways", nargs="+", default=list(ways), choices=ways)
    arguments = parser.parse_args()
    sizes = arguments.depth, arguments.width, arguments.batch_size
    if len(arguments.ways) == 1:
        print(measure(*sizes, arguments.ways[0]), flush=True)
        return
    print("| rematerialisation | compile | update | resident | temporary | critic losses |")
    print("|---|---:|---:|---:|---:|---|", flush=True)
    options = ("--depth", "--width", "--batch-size")
    given = [word for pair in zip(options, map(str, sizes), strict=True) for word in pair]
    for way in arguments.ways:
        command = [sys.executable, "-m", "benchmarks.memory", *given, "--ways", way]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
