"""The one error that a user may see, and the nearest valid choice. Loads nothing heavy.

One class for both packages: what the robot's package raises is told in one sentence here too.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from kilolayer_robot.errors import UserError as UserError
from kilolayer_robot.errors import bad_field as bad_field


class OutsideError(UserError):
    """Code that is not ours has failed: the user's own, or a library's.

    Raise it from the error of that code, whose traceback the command line keeps in a log file.
    """

    @staticmethod
    def of(what: str, error: BaseException, way_out: str) -> "OutsideError":
        """what: whose code failed, doing what; its error's kind and first lines follow."""
        said = _first_lines(str(error)).rstrip(".")
        told = f"{type(error).__name__}: {said}" if said else type(error).__name__
        found = OutsideError(f"{what} ({told}): {way_out}.")
        found.__cause__ = error
        return found


def require_choice(field: str, value: object, choices: Collection[str]) -> None:
    """Raises UserError with the nearest choice unless the value is one of the choices.

    For functions of the Python API, whose callers may misspell what the command line refuses.
    """
    if value not in choices:
        raise bad_field(field, value, f"one of {', '.join(choices)}", nearest(str(value), choices))


def require_at_least(least: float, **values: float | None) -> None:
    """Raises UserError for the first value below the least; None stands for a default."""
    for name, value in values.items():
        if value is not None and value < least:
            raise bad_field(name, value, f"it must be at least {least}", least)


def require_defaults(command: Callable[..., Any], reason: str, **options: Any) -> None:
    """Raises UserError for the first option that differs from its default in `command`.

    reason: what the option needs.
    """
    for name, value in options.items():
        if value != inspect.signature(command).parameters[name].default:
            raise bad_field(name, str(value) if isinstance(value, Path) else value, reason)


def _first_lines(text: str) -> str:
    """The first line, and what follows it where it only counts or announces what went wrong."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()] or [""]
    counts = re.match(r"\d+ validation errors? for", lines[0])
    return f"{lines[0]}: {' '.join(lines[1:3])}" if counts else lines[0]


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that is most like a name that was mistyped, or None if there are no options."""
    spelled = {option.lower(): option for option in reversed(list(options))}
    found = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.0)
    return spelled[found[0]] if found else None
