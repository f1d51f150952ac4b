"""Pairwise energies, forward and backward, against the broadcast."""

from collections.abc import Callable, Sequence
from functools import partial

import jax

from benchmarks.measure import Program, Row, compare
from benchmarks.yardsticks import broadcast_energies
from kilolayer.losses.energies import pairwise
from kilolayer.types import Array

LARGEST_YARDSTICK = 6e9  # bytes; it is not run where it would need more


def measure(batch_sizes: Sequence[int], dim: int, repeats: int) -> list[Row]:
    """Rows by batch size."""
    rows = []
    for size in batch_sizes:
        keys = jax.random.split(jax.random.key(0), 3)
        shapes = ((size, dim), (size, dim), (size, size))
        arguments = [jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]
        ours = Program.compile(partial(both_ways, partial(pairwise, "euclidean")), *arguments)
        yardstick = Program.compile(partial(both_ways, broadcast_energies), *arguments)
        fits = yardstick.temporary_bytes < LARGEST_YARDSTICK
        rows.append(compare("energies", size, ours, yardstick if fits else None, repeats))
    return rows


def both_ways(
    energies: Callable[[Array, Array], Array], phi: Array, psi: Array, cotangent: Array
) -> tuple[Array, tuple[Array, Array]]:
    """The energies, and what `cotangent` on them gives for phi and psi."""
    values, pull_back = jax.vjp(energies, phi, psi)
    return values, pull_back(cotangent)
