"""What a program of JAX computes and what an agent holds, from shapes alone.

Nothing is run and no array is made.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from kilolayer.networks.encoders import Encoder


@dataclass(frozen=True)
class Arithmetic:
    """The matrix products of a program.

    products: how many. flops: their floating-point operations, two for each factor pair. All else
    that a network computes grows with batch times width alone and is a few percent of them.
    """

    products: int = 0
    flops: int = 0

    def __add__(self, other: "Arithmetic") -> "Arithmetic":
        return Arithmetic(self.products + other.products, self.flops + other.flops)

    def __mul__(self, times: int) -> "Arithmetic":
        return Arithmetic(self.products * times, self.flops * times)


def arithmetic(function: Callable, *arguments: Any) -> Arithmetic:
    """Count what `function` computes for arguments of these shapes.

    It is traced, so every agent and rematerialisation is counted as it stands. A loop without a
    known number of iterations counts once, a branch as its most expensive side.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> Arithmetic:
    total = Arithmetic()
    for equation in jaxpr.eqns:
        inner = [_count(each) for each in _inner(equation.params)]
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            output: Any = equation.outvars[0].aval
            length = math.prod(left.shape[axis] for axis in contracted)
            total += Arithmetic(1, 2 * math.prod(output.shape) * length)
        elif name == "cond":
            total += max(inner, key=lambda each: each.flops)
        else:
            total += sum(inner, Arithmetic()) * equation.params.get("length", 1)
    return total


def _inner(parameters: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs within a step of a program: bodies of loops, branches, functions called."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each


def parameters_of(agent_state: Any) -> dict[str, int]:
    """Numbers in each network of an agent's state, and in each parameter outside of them."""
    parameters = getattr(agent_state, "parameters", agent_state)
    parts = jax.tree_util.tree_flatten_with_path(
        parameters, is_leaf=lambda part: isinstance(part, Encoder)
    )[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator=" "): sum(
            math.prod(leaf.shape) for leaf in jax.tree.leaves(part)
        )
        for path, part in parts
    }


def bytes_of(tree: Any) -> int:
    """Size of a tree's arrays, or of those that its shapes stand for."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
