"""Several seeds as one program: every function vmapped, every array with a leading axis [seeds]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.settings import MAX_SEED
from kilolayer.types import Array, bad_field

MOST_SEEDS = 4096  # together in one program


@dataclass(frozen=True)
class Seeds:
    """The seeds that train together. One alone is not vmapped and has no axis."""

    values: tuple[int, ...]

    @staticmethod
    def starting_at(first: int, count: int) -> "Seeds":
        """`count` seeds in a row; raises UserError if there are none or one is too large."""
        if count < 1:
            raise bad_field("seeds", count, "it must be at least 1", 1)
        if count > MOST_SEEDS:
            raise bad_field("seeds", count, f"one program trains {MOST_SEEDS} at most", MOST_SEEDS)
        last = first + count - 1
        if count > 1 and last >= MAX_SEED:
            allowed = f"with seed = {first} the last one, {last}, must lie below {MAX_SEED}"
            raise bad_field("seeds", count, allowed, MAX_SEED - first)
        return Seeds(tuple(range(first, first + count)))

    @property
    def many(self) -> bool:
        return len(self.values) > 1

    def array(self) -> Array:
        """The seeds as `lift`ed functions take them; a Python integer would have to be below 2^31
        to enter a compiled function."""
        return jnp.asarray(self.values if self.many else self.values[0], jnp.uint32)

    def lift(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one seed's arrays as one of all seeds' arrays."""
        return jax.vmap(function) if self.many else function

    def stack(self, trees: Sequence[Any]) -> Any:
        """One tree of arrays for each seed, as one."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if self.many else trees[0]

    def first(self, tree: Any) -> Any:
        """The first of `split`, without a copy of the others."""
        return jax.tree.map(lambda leaf: leaf[0], tree) if self.many else tree

    def split(self, tree: Any) -> list[Any]:
        """The inverse of `stack`."""
        if not self.many:
            return [tree]
        return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(len(self.values))]
