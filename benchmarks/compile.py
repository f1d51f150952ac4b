"""Seconds to trace and compile one update, by depth.

python -m benchmarks.compile [--depths 8 64 256 1024] [--width 256]
"""

import argparse
import time

import jax

from kilolayer.config import TrainConfig
from kilolayer.training.build import build_trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 64, 256, 1024])
    parser.add_argument("--width", type=int, default=256)
    arguments = parser.parse_args()
    first = None
    for depth in arguments.depths:
        trainer = build_trainer(TrainConfig(depth=depth, width=arguments.width))
        state = jax.eval_shape(trainer.init)
        batch = jax.eval_shape(trainer.sample, state, jax.random.key(0))
        start = time.perf_counter()
        jax.jit(trainer.agent.update).lower(state.agent, batch, jax.random.key(0)).compile()
        seconds = time.perf_counter() - start
        first = first or seconds
        print(f"depth {depth:5d}: {seconds:6.2f} s, {seconds / first:.2f} times the first")


if __name__ == "__main__":
    main()
