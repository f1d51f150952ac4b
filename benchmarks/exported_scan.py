"""The policy of `benchmarks.latency` as another exporter writes it, its scan and all.

python -m benchmarks.exported_scan FILE.onnx [--depth 64] [--width 256]

Runs where jax2onnx is installed beside this package's dependencies; it is none of them. Then
`python -m benchmarks.latency --exported FILE.onnx` times the file among the others.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import onnx

from kilolayer.networks.actor import Actor
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.types import Array

SIZES = {"observation": 29, "goal": 2, "action": 8}  # the ant's


def drawn(depth: int, width: int) -> Actor:
    """A fresh actor of the published architecture."""
    torso = TorsoSpec(depth, width, branch_scale=min(1.0, 8 / depth))
    return jax.jit(lambda key: Actor.init(key, *SIZES.values(), torso))(jax.random.key(0))


def main() -> None:
    from jax2onnx import to_onnx

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--depth", type=int, default=64)
    arguments.add_argument("--width", type=int, default=256)
    found = arguments.parse_args()
    encoder = drawn(found.depth, found.width).encoder

    def act(observation: Array, goal: Array) -> Array:
        x = encoder.embed(jnp.concatenate([observation, goal], -1))
        # The scan without rematerialisation, for which the exporter has no operator.
        outputs = encoder.outputs(encoder.stack.statistics(x)[0])
        return jnp.tanh(outputs[:, : SIZES["action"]])

    inputs = [("batch", SIZES[name]) for name in ("observation", "goal")]
    onnx.save(to_onnx(act, inputs), found.file)
    print(f"written: {found.file}")


if __name__ == "__main__":
    main()
