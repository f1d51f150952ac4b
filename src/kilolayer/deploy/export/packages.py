"""Import of packages that belong to the extra `export`."""

import importlib
from typing import Any

from kilolayer.types import UserError


def require(name: str) -> Any:
    """Import a package of the extra `export`; raises UserError if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(
            f"this needs the package {name}, which is not installed: "
            "`pip install 'kilolayer[export]'` brings it."
        ) from error
