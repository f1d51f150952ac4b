"""Shared by the tests of commands with instructions."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def grounded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """See `tiny_grounding.ground`. Read only."""
    # Imported late: most tests of this directory need none of it.
    from tiny_grounding import ground

    return ground(tmp_path_factory.mktemp("runs"))
