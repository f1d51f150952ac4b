"""Matrix products of a JAX program and sizes of an agent, computed from shapes.

Nothing is run and no array is made.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import Jaxpr

from kilolayer.networks.encoders import Encoder


@dataclass(frozen=True)
class Arithmetic:
    """The matrix products of a program.

    products: their number. flops: their floating-point operations, two for each pair of factors.
    All other operations grow only with batch times width and are a few percent of `flops`.
    """

    products: int = 0
    flops: int = 0

    def __add__(self, other: "Arithmetic") -> "Arithmetic":
        return Arithmetic(self.products + other.products, self.flops + other.flops)

    def __mul__(self, times: int) -> "Arithmetic":
        return Arithmetic(self.products * times, self.flops * times)


def arithmetic(function: Callable, *arguments: Any) -> Arithmetic:
    """Count the matrix products of `function` for arguments of these shapes.

    The function is traced, so the count holds for any agent and any rematerialisation. A loop
    without a known number of iterations counts once, a branch as its most expensive side.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> Arithmetic:
    total = Arithmetic()
    for equation in jaxpr.eqns:
        counts = [_count(each) for each in _subprograms(equation.params)]
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            output: Any = equation.outvars[0].aval
            length = math.prod(left.shape[axis] for axis in contracted)
            total += Arithmetic(1, 2 * math.prod(output.shape) * length)
        elif name == "cond":
            total += max(counts, key=lambda each: each.flops)
        else:
            total += sum(counts, Arithmetic()) * equation.params.get("length", 1)
    return total


def _subprograms(parameters: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs inside an equation of a program: loop bodies, branches, called functions."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            # A loop's body is closed over its constants: a program around a program.
            program = getattr(each, "jaxpr", each)
            if isinstance(program, Jaxpr):
                yield program


def parameter_counts(agent_state: Any) -> dict[str, int]:
    """Number of parameters of each network in an agent's state, and of each other parameter."""
    parts = jax.tree_util.tree_flatten_with_path(
        agent_state.parameters, is_leaf=lambda part: isinstance(part, Encoder)
    )[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator=" "): sum(
            math.prod(leaf.shape) for leaf in jax.tree.leaves(part)
        )
        for path, part in parts
    }


def tree_bytes(tree: Any) -> int:
    """Bytes of a tree's arrays, or of the arrays that its shapes describe."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
