"""Finds things by name: in a table of ours, or as the user's own `module:function`."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kilolayer.errors import OutsideError, UserError, bad_field, nearest

Made = TypeVar("Made")


def find(field: str, name: str, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function called `name`: an entry of the table, or a function of the user's own module.

    Modules are searched for in the current directory too. Raises UserError with the nearest name,
    or with what is wrong with the user's function.
    """
    if ":" in name:
        return _from_module(field, name)
    if name not in table:
        allowed = f"one of {', '.join(table)}, or module:function of your own"
        raise bad_field(field, name, allowed, nearest(name, table))
    return table[name]


def make(field: str, name: str, table: Mapping[str, Callable[..., Any]], kind: type[Made]) -> Made:
    """What the function called `name` returns when called without arguments, a `kind`.

    Raises UserError as `find` does, and if the user's own function fails or returns something else.
    """
    maker = find(field, name, table)
    if ":" not in name:
        return maker()
    try:
        made = maker()
    except UserError:
        raise
    except Exception as error:
        way_out = "it is called without arguments, correct what it raises"
        raise OutsideError.of(f"{field} = {name!r} fails", error, way_out) from error
    if not isinstance(made, kind):
        raise UserError(
            f"{field} = {name!r} returns {_described(made)} where a {kind.__module__}."
            f"{kind.__name__} is needed: return one."
        )
    return made


def _from_module(field: str, name: str) -> Callable[..., Any]:
    module_name, function_name = name.split(":", 1)
    try:
        with current_directory_importable():
            module = importlib.import_module(module_name)
    except UserError:
        raise
    # The user's module may fail in any way.
    except Exception as error:
        own = isinstance(error, ModuleNotFoundError) and error.name == module_name
        way_out = (
            "write module:function, with the module in the current directory or installed"
            if own or not module_name
            else "correct the module"
        )
        what = f"{field} = {name!r}: the module {module_name!r} cannot be imported"
        raise OutsideError.of(what, error, way_out) from error
    found = getattr(module, function_name, None)
    if found is None:
        names = [each for each, value in vars(module).items() if callable(value)]
        close = nearest(function_name, names)
        allowed = f"the module {module_name} has no {function_name!r}"
        raise bad_field(field, name, allowed, close and f"{module_name}:{close}")
    if not callable(found):
        raise bad_field(field, name, f"it is {_described(found)} and no function")
    return found


def _described(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """Within the context, modules of the current directory can be imported, also by an installed
    command of this package."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)
