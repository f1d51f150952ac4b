"""Finds functions by name: in a table of the package, or as the user's own `module:function`."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kilolayer.errors import OutsideError, UserError, bad_field, nearest

Made = TypeVar("Made")

# SystemExit: a module or function that ends the program has failed too, such as a script without a
# main guard.
FAILURES = (Exception, SystemExit)


def find(field: str, name: str, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function called `name`: an entry of the table, or a function of the user's own module.

    Modules may be in the current directory. Raises UserError with the nearest name or the fault.
    """
    if ":" in name:
        return _from_module(field, name)
    if name not in table:
        allowed = f"one of {', '.join(table)}, or module:function of your own"
        raise bad_field(field, name, allowed, nearest(name, table))
    return table[name]


def make(field: str, name: str, table: Mapping[str, Callable[..., Any]], kind: type[Made]) -> Made:
    """Call the function called `name` without arguments and return its result, a `kind`.

    Raises UserError as `find` does, and if the user's own function fails or returns something else.
    """
    maker = find(field, name, table)
    if ":" not in name:
        return maker()
    try:
        made = maker()
    except UserError:
        raise
    except FAILURES as error:
        remedy = "it is called without arguments, correct what it raises"
        raise OutsideError.of(f"{field} = {name!r} fails", error, remedy) from error
    if not isinstance(made, kind):
        if inspect.iscoroutine(made):
            made.close()  # prevents Python's warning about a coroutine without await
        raise UserError(
            f"{field} = {name!r} returns {describe_type(made)} where a {kind.__module__}."
            f"{kind.__name__} is needed: return one."
        )
    return made


def _from_module(field: str, name: str) -> Callable[..., Any]:
    module_name, function_name = name.split(":", 1)
    require_module_name(field, name, module_name, function_name)
    try:
        with current_directory_importable():
            module = importlib.import_module(module_name)
        found = getattr(module, function_name, None)
    except UserError:
        raise
    # The user's module may fail in any way.
    except FAILURES as error:
        remedy = "correct the module"
        missing = f"{error.name}." if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(missing):
            remedy = "write module:function, with the module in the current directory or installed"
        what = f"{field} = {name!r}: the module {module_name!r} cannot be imported"
        raise OutsideError.of(what, error, remedy) from error
    if found is None:
        file = getattr(module, "__file__", None) or "built into Python"
        names = [each for each, value in vars(module).items() if callable(value)]
        close = nearest(function_name, names)
        allowed = f"the module {module_name} ({file}) has no {function_name!r}"
        raise bad_field(field, name, allowed, close and f"{module_name}:{close}")
    if not callable(found):
        raise bad_field(field, name, f"it is {describe_type(found)}, which cannot be called")
    return found


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def require_module_name(
    field: str, name: str, module_name: str, rest: str, form: str = "module:function"
) -> None:
    """Raises UserError unless `name`, which is `module_name:rest`, begins as an `import` does."""
    guess = module_name.removesuffix(".py").removeprefix("./").replace("/", ".")
    if guess != module_name or not _is_module_name(guess):
        allowed = f"write {form}, the module's name as in `import`"
        raise bad_field(field, name, allowed, f"{guess}:{rest}" if _is_module_name(guess) else None)


def describe_type(value: Any) -> str:
    """A value for a message, by its type."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    size = f" of length {len(value)}" if isinstance(value, tuple | list) else ""
    return "None" if value is None else f"a value of type {type(value).__name__}{size}"


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """Inside, modules of the current directory can be imported, also by an installed command."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)
