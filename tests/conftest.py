"""Shared by all tests: how hypothesis runs, and a few arrays."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from hypothesis import settings

# Each example may compile, so there is no deadline; derandomised, so a failure repeats.
settings.register_profile("kilolayer", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("kilolayer")


@pytest.fixture
def normal() -> Callable[..., jax.Array]:
    """`normal(seed, *shape)`: standard normal float32 numbers."""

    def draw(seed: int, *shape: int) -> jax.Array:
        return jax.random.normal(jax.random.key(seed), shape)

    return draw


@pytest.fixture
def assert_trees_equal() -> Callable[..., None]:
    """Compare two pytrees leaf by leaf, bit for bit, dtypes and shapes included."""

    def compare(left: object, right: object) -> None:
        left_leaves, left_structure = jax.tree.flatten(left)
        right_leaves, right_structure = jax.tree.flatten(right)
        assert left_structure == right_structure
        for a, b in zip(left_leaves, right_leaves, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()

    return compare
