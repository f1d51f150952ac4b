"""Several encoders at once: equal deep stacks with a lean gradient share one scan."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.networks.encoders import Encoder
from kilolayer.networks.lean import apply_towers
from kilolayer.types import Array


def apply_together(encoders: Sequence[Encoder], inputs: Sequence[Array]) -> list[Array]:
    """The output of each encoder on its own inputs `[batch, input]`, as if each ran alone.

    A stack that differs in depth, width or batch size, or has no lean gradient, has a scan of its
    own.
    """
    streams = [encoder.embed(x) for encoder, x in zip(encoders, inputs, strict=True)]
    groups: dict[Any, list[int]] = {}
    for index, (encoder, stream) in enumerate(zip(encoders, streams, strict=True)):
        groups.setdefault(_scan_key(index, encoder, stream), []).append(index)
    for members in groups.values():
        stacks = [encoders[index].stack for index in members]
        if len(members) == 1:
            outputs = [stacks[0](streams[members[0]])]
        else:
            stacked = jnp.stack([streams[index] for index in members])
            outputs = apply_towers(
                stacks[0].scan_settings, tuple(s.blocks for s in stacks), stacked
            )
        for index, stream in zip(members, outputs, strict=True):
            streams[index] = stream
    return [encoder.outputs(stream) for encoder, stream in zip(encoders, streams, strict=True)]


def _scan_key(index: int, encoder: Encoder, stream: Array) -> Any:
    """A key that is equal for stacks that can share a scan."""
    if not encoder.stack.lean:
        return index
    leaves, structure = jax.tree.flatten(encoder.stack)
    return structure, tuple(leaf.shape for leaf in leaves), stream.shape
