"""Several seeds as one program: functions are vmapped, arrays have a leading axis `[seeds]`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.settings import MAX_SEED
from kilolayer.types import Array, bad_field

MAX_SEEDS = 4096  # together in one program


@dataclass(frozen=True)
class Seeds:
    """The seeds that train together. A single seed is not vmapped and adds no axis."""

    values: tuple[int, ...]

    @staticmethod
    def consecutive(first: int, count: int) -> "Seeds":
        """`count` seeds from `first` on; raises UserError for no seeds or a seed that is too
        large."""
        if count < 1:
            raise bad_field("seeds", count, "it must be at least 1", 1)
        if count > MAX_SEEDS:
            raise bad_field("seeds", count, f"one program trains {MAX_SEEDS} at most", MAX_SEEDS)
        last = first + count - 1
        if count > 1 and last >= MAX_SEED:
            allowed = f"with seed = {first} the last one, {last}, must lie below {MAX_SEED}"
            raise bad_field("seeds", count, allowed, MAX_SEED - first)
        return Seeds(tuple(range(first, first + count)))

    @property
    def several(self) -> bool:
        return len(self.values) > 1

    def array(self) -> Array:
        """The seeds as an argument of compiled functions, which take Python integers only below
        2^31."""
        return jnp.asarray(self.values if self.several else self.values[0], jnp.uint32)

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one seed's arrays, mapped over all seeds."""
        return jax.vmap(function) if self.several else function

    def stack(self, trees: Sequence[Any]) -> Any:
        """Stack the trees of all seeds into one tree."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if self.several else trees[0]

    def first(self, tree: Any) -> Any:
        """The first tree of `split`, without a copy of the others."""
        return jax.tree.map(lambda leaf: leaf[0], tree) if self.several else tree

    def split(self, tree: Any) -> list[Any]:
        """The inverse of `stack`."""
        if not self.several:
            return [tree]
        return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(len(self.values))]
