"""Code of a user's own, tried before anything is built on it: one sentence names what is wrong.

Functions that a compiled program will call are traced once on shapes alone, which takes
milliseconds and runs nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.errors import OutsideError, UserError
from kilolayer.lookup import FAILURES

# What JAX raises where a function needs the numbers of an array that has none while it is traced.
TRACED = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)

PACKAGE = __name__.partition(".")[0]


class Wanted(NamedTuple):
    """An array that a function must return: its shape, what the axes are, float32 or bool."""

    shape: tuple[int, ...]
    axes: str
    dtype: str = "float32"


@dataclass(frozen=True)
class OwnCode:
    """label: what sentences call it, such as `task = 'mine:make'`."""

    label: str

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; OutsideError that names it if it fails."""
        try:
            return function(*arguments)
        except UserError:
            raise
        except FAILURES as error:
            way_out = "correct what it raises"
            if isinstance(error, TRACED):
                way_out = (
                    "it is compiled, so write it with jax.numpy, and jnp.where in the place of if"
                )
            raise OutsideError.of(f"{self.label}: its {name} fails", error, way_out) from error

    def call_if_own(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same for a function that may be one of ours, whose errors are faults of ours."""
        return (self.call if is_own(function) else _called)(name, function, *arguments)

    def traced(
        self,
        name: str,
        function: Callable[..., Any],
        wanted: Wanted | tuple[Wanted, ...],
        *arguments: Any,
    ) -> Any:
        """The shapes of what the function returns for arguments that may be shapes alone.

        Raises UserError if it fails or returns other arrays than are wanted.
        """

        def inside(*arguments: Any) -> Any:
            found = self.call(name, function, *arguments)
            self.require_arrays(name, found, wanted)
            return found

        return jax.eval_shape(inside, *arguments)

    def require_arrays(self, name: str, found: Any, wanted: Wanted | tuple[Wanted, ...]) -> None:
        """Raises UserError unless `found` is the array that is wanted, or as many of them."""
        if isinstance(wanted, Wanted):
            if not fits(found, wanted):
                raise self.unfit(f"{name} returns {described(found)}", told(wanted))
            return
        needed = f"a tuple of {' and '.join(map(told, wanted))}"
        if not isinstance(found, tuple | list) or len(found) != len(wanted):
            raise self.unfit(f"{name} returns {described(found)}", needed)
        if not all(map(fits, found, wanted)):
            both = " and ".join(map(described, found))
            raise self.unfit(f"{name} returns {both}", needed)

    def require(self, holds: bool, name: str, found: Any, needed: str) -> None:
        """Raises UserError unless an attribute holds what is needed."""
        if not holds:
            raise self.unfit(f"{name} is {described(found)}", needed)

    def attribute(self, owner: Any, name: str) -> Any:
        """An attribute, which may be a property that fails; UserError if it is not there."""
        missing = object()
        found = self.call(name, getattr, owner, name, missing)
        if found is missing:
            raise UserError(f"{self.label}: it has no {name}: add one.")
        return found

    def unfit(self, what: str, needed: str) -> UserError:
        return UserError(f"{self.label}: its {what} where {needed} is needed: correct it.")


def is_own(thing: Any) -> bool:
    """Whether a function or a class is the user's own."""
    return getattr(thing, "__module__", "").partition(".")[0] != PACKAGE


def _called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def fits(found: Any, wanted: Wanted) -> bool:
    """Whether a value is an array of this shape and type; JAX takes float64 for float32."""
    if not isinstance(found, jax.Array | np.ndarray) or found.shape != wanted.shape:
        return False
    if wanted.dtype == "float32" and not jnp.issubdtype(found.dtype, jnp.floating):
        return False
    return str(jax.dtypes.canonicalize_dtype(found.dtype)) == wanted.dtype


def told(wanted: Wanted) -> str:
    return f"{wanted.dtype} {list(wanted.shape)} ({wanted.axes})"


def described(value: Any) -> str:
    """A value in a few words: an array by its type and shape, a number or a name as it is."""
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return repr(value)[:80]
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    size = f" of length {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a value of type {type(value).__name__}{size}"


def is_count(value: Any, least: int) -> bool:
    """Whether a value is a whole number, not below the least."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and int(value) >= least


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and 0 < float(value) < math.inf


def all_are(values: Any, kind: type) -> bool:
    """Whether a value is a list or tuple of these, with one at least."""
    listed = isinstance(values, tuple | list) and len(values) > 0
    return listed and all(isinstance(each, kind) for each in values)
