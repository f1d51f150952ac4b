"""Checks of the user's own code before it is used. Each fault is reported in one sentence.

Functions that a compiled program will call are traced once on shapes only. This takes milliseconds
and computes nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.errors import OutsideError, UserError
from kilolayer.lookup import FAILURES, describe_type

# JAX raises these errors if a function needs the values of an array while it is traced.
TRACING_ERRORS = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)

PACKAGE = __name__.partition(".")[0]


class ExpectedArray(NamedTuple):
    """An array that a function must return: its shape, the names of its axes, float32 or bool."""

    shape: tuple[int, ...]
    axes: str
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)} ({self.axes})"

    def accepts(self, value: Any) -> bool:
        """Whether a value is such an array; JAX converts float64 to float32."""
        if not isinstance(value, jax.Array | np.ndarray) or value.shape != self.shape:
            return False
        if self.dtype == "float32" and not jnp.issubdtype(value.dtype, jnp.floating):
            return False
        return str(jax.dtypes.canonicalize_dtype(value.dtype)) == self.dtype


@dataclass(frozen=True)
class UserCode:
    """Calls and checks a user's code. label: its name in messages, such as `task = 'mine:make'`."""

    label: str

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function and return its result; raises OutsideError if the function fails."""
        try:
            return function(*arguments)
        except UserError:
            raise
        except FAILURES as error:
            remedy = "correct what it raises"
            if isinstance(error, TRACING_ERRORS):
                remedy = (
                    "it is compiled, so write it with jax.numpy, and jnp.where in the place of if"
                )
            raise OutsideError.of(f"{self.label}: its {name} fails", error, remedy) from error

    def call_if_user_code(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Like `call`, but an error in a function of this package is raised unchanged."""
        if is_user_code(function):
            return self.call(name, function, *arguments)
        return function(*arguments)

    def check_traced(
        self,
        name: str,
        function: Callable[..., Any],
        expected: ExpectedArray | tuple[ExpectedArray, ...],
        *arguments: Any,
    ) -> Any:
        """`trace` a function that must return this array, or this tuple of arrays."""
        alone = isinstance(expected, ExpectedArray)
        each = (expected,) if alone else expected
        needed = str(expected) if alone else f"a tuple of {' and '.join(map(str, each))}"

        def check(found: Any) -> Any:
            parts = (found,) if alone else found
            if not isinstance(parts, tuple | list) or len(parts) != len(each):
                raise self.misfit(f"{name} returns {describe(found)}", needed)
            if not all(array.accepts(part) for array, part in zip(each, parts, strict=True)):
                returned = " and ".join(map(describe, parts))
                raise self.misfit(f"{name} returns {returned}", needed)
            return found

        return self.trace(name, function, check, *arguments)

    def trace(
        self, name: str, function: Callable[..., Any], check: Callable[[Any], Any], *arguments: Any
    ) -> Any:
        """Trace the function and return the shapes of what `check` returns for its result.

        arguments: arrays or shapes. Raises UserError if the function fails, or as `check` does.
        """

        def inside(*arguments: Any) -> Any:
            return check(self.call(name, function, *arguments))

        return jax.eval_shape(inside, *arguments)

    def require(self, holds: bool, name: str, found: Any, needed: str) -> None:
        """Raises UserError about the attribute `name` unless the condition holds."""
        if not holds:
            raise self.misfit(f"{name} is {describe(found)}", needed)

    def attribute(self, owner: Any, name: str) -> Any:
        """The value of an attribute; raises UserError if it is missing or its property fails."""
        missing = object()
        found = self.call(name, getattr, owner, name, missing)
        if found is missing:
            raise UserError(f"{self.label}: it has no {name}: add one.")
        return found

    def misfit(self, what: str, needed: str) -> UserError:
        """The error for a value that does not fit. what: its name and its value."""
        return UserError(f"{self.label}: its {what} where {needed} is needed: correct it.")


def is_user_code(thing: Any) -> bool:
    """Whether a function or a class is the user's own."""
    return getattr(thing, "__module__", "").partition(".")[0] != PACKAGE


def describe(value: Any) -> str:
    """A value for a message: an array by its dtype and shape, a number or a text unchanged."""
    if isinstance(value, bool | int | float | str | np.generic):
        return repr(value)[:80]
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return describe_type(value)


def is_count(value: Any, least: int) -> bool:
    """Whether a value is a whole number of at least `least`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and int(value) >= least


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and 0 < float(value) < math.inf


def all_are(values: Any, kind: type) -> bool:
    """Whether a value is a list or tuple of at least one value, all of this type."""
    listed = isinstance(values, tuple | list) and len(values) > 0
    return listed and all(isinstance(each, kind) for each in values)
