"""Words shared by every room: arrays, metrics and the one error a user may see."""

import difflib
from collections.abc import Iterable

import jax

Array = jax.Array
Metrics = dict[str, jax.Array]


class UserError(ValueError):
    """Something the user asked for cannot be done; the message says why and the way out.

    The command line prints the message alone and exits with code 2.
    """


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that is most like a name that was mistyped, or None if there are no options."""
    spelled = {option.lower(): option for option in reversed(list(options))}
    found = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.0)
    return spelled[found[0]] if found else None


def bad_field(field: str, value: object, allowed: str, nearest: object | None = None) -> UserError:
    """Build the error for a config field: its name, its value, what is allowed, what is nearest."""
    hint = "" if nearest is None else f"; the nearest valid choice is {nearest}"
    return UserError(f"{field} = {value!r} is not allowed: {allowed}{hint}.")
