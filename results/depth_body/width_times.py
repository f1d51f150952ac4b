"""Time of one update at depth 4 and several widths, over that of depth 16 and width 128.

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 0 python -m results.depth_body.width_times

Batch 128, processor time, 20 updates in one program, the networks in turn, medians of 15 repeats.
"""

import statistics
import time

import jax
import numpy as np
from benchmarks.updates import make_agent, random_batch

REFERENCE = (16, 128)
NETWORKS = (REFERENCE, (4, 128), (4, 256), (4, 288), (4, 320), (4, 352))
UPDATES, REPEATS, BATCH = 20, 15, 128


def main() -> None:
    batches = jax.tree.map(lambda leaf: np.stack([leaf] * UPDATES), random_batch(BATCH))
    programs, seconds = {}, {network: [] for network in NETWORKS}
    for network in NETWORKS:
        agent = make_agent(*network)
        state = agent.init(jax.random.key(0))

        def train(state, batches, agent=agent):
            keys = jax.random.split(jax.random.key(1), UPDATES)
            step = lambda state, inputs: (agent.update(state, *inputs)[0], None)  # noqa: E731
            return jax.lax.scan(step, state, (batches, keys))[0]

        programs[network] = (jax.jit(train).lower(state, batches).compile(), state)
    for _ in range(REPEATS):
        for network, (program, state) in programs.items():
            began = time.process_time()
            jax.block_until_ready(program(state, batches))
            seconds[network].append((time.process_time() - began) / UPDATES)
    for (depth, width), found in seconds.items():
        ratios = [own / base for own, base in zip(found, seconds[REFERENCE], strict=True)]
        milliseconds = 1000 * statistics.median(found)
        ratio = statistics.median(ratios)
        print(f"depth {depth}, width {width}: {milliseconds:.2f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
