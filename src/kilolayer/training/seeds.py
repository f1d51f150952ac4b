"""Several seeds as one program: every function vmapped, every array with a leading axis [seeds]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.types import Array


@dataclass(frozen=True)
class Seeds:
    """The seeds that train together. One alone is not vmapped and has no axis."""

    values: tuple[int, ...]

    @property
    def many(self) -> bool:
        return len(self.values) > 1

    def array(self) -> Array | int:
        """The seeds as `lift`ed functions take them."""
        return jnp.array(self.values, jnp.uint32) if self.many else self.values[0]

    def lift(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one seed's arrays as one of all seeds' arrays."""
        return jax.vmap(function) if self.many else function

    def stack(self, trees: Sequence[Any]) -> Any:
        """One tree of arrays for each seed, as one."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if self.many else trees[0]

    def split(self, tree: Any) -> list[Any]:
        """The inverse of `stack`."""
        if not self.many:
            return [tree]
        return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(len(self.values))]
