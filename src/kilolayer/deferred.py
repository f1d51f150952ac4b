"""Names of a package that are imported when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def deferred(package: dict[str, Any], homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562).

    package: its `globals()`. homes: for each of its modules the names that it defines.
    """

    def get(name: str) -> Any:
        for home, names in homes.items():
            if name in names:
                value = getattr(importlib.import_module(f"{package['__name__']}.{home}"), name)
                package[name] = value
                return value
        raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")

    return get
