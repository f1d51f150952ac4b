"""Things by name: from a table of ours, or `module:function` for a thing of the user's own."""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kilolayer.errors import UserError, bad_field, nearest


def find(field: str, name: str, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The maker called `name`: an entry of the table, or a function of the user's own module.

    A module is looked for in the current directory too. Raises UserError with the nearest name.
    """
    if ":" in name:
        return _from_module(field, name)
    if name not in table:
        allowed = f"one of {', '.join(table)}, or module:function of your own"
        raise bad_field(field, name, allowed, nearest(name, table))
    return table[name]


def _from_module(field: str, name: str) -> Callable[..., Any]:
    module_name, function_name = name.split(":", 1)
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{field} = {name!r} cannot be found: {error}.") from error
    finally:
        if added:
            sys.path.remove(here)
