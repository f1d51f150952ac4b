"""Microseconds per transition of hindsight sampling from a full buffer.

python -m benchmarks.sampling [--batch-size 256] [--worlds 256] [--steps 10000]
"""

import argparse
import statistics

import jax
import jax.numpy as jnp

from benchmarks.measure import seconds_of
from kilolayer.replay import hindsight
from kilolayer.replay.buffer import Buffer, Transition

DRAWS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10_000)
    arguments = parser.parse_args()
    shape = (arguments.steps, arguments.worlds)
    age = jnp.broadcast_to((jnp.arange(arguments.steps) % 1000)[:, None], shape)
    steps = Transition(
        observation=jnp.zeros((*shape, 29)),
        action=jnp.zeros((*shape, 8)),
        achieved_goal=jnp.zeros((*shape, 2)),
        goal=jnp.zeros((*shape, 2)),
        age=age.astype(jnp.int32),
    )
    buffer = Buffer(steps, jnp.int32(arguments.steps))

    def draw_many(buffer: Buffer, key: jax.Array) -> jax.Array:
        def draw(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            batch = hindsight.sample(buffer, key, arguments.batch_size, 0.99, 1000)
            return total + sum(leaf.sum() for leaf in jax.tree.leaves(batch)), None

        return jax.lax.scan(draw, jnp.zeros(()), jax.random.split(key, DRAWS))[0]

    compiled = jax.jit(draw_many).lower(buffer, jax.random.key(0)).compile()
    times = [seconds_of(compiled, buffer, jax.random.key(i))[1] for i in range(7)]
    each = statistics.median(times) / DRAWS / arguments.batch_size * 1e6
    temporary = compiled.memory_analysis().temp_size_in_bytes
    print(f"{each:.2f} microseconds per transition, {temporary / 1e3:.0f} kB of temporary memory")


if __name__ == "__main__":
    main()
