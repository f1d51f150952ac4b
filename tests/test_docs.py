"""Generated pages match the code."""

from pathlib import Path

import pytest
from docs.make_tasks_page import row

from kilolayer.tasks.registry import TASKS, make_task

PAGE = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text()


@pytest.mark.parametrize("name", TASKS)
def test_the_page_of_tasks_is_current(name):
    assert row(make_task(name)) in PAGE, "run: python -m docs.make_tasks_page"
