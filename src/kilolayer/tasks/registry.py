"""Tasks by name."""

import difflib
from collections.abc import Callable

from kilolayer.tasks.ant import Ant
from kilolayer.tasks.base import Task
from kilolayer.tasks.point import PointMaze
from kilolayer.types import bad_field

TASKS: dict[str, Callable[[], Task]] = {
    "point_u_maze": lambda: PointMaze("u"),
    "point_big_maze": lambda: PointMaze("big"),
    "point_hardest_maze": lambda: PointMaze("hardest"),
    "point_spiral_maze": lambda: PointMaze("spiral"),
    "ant": Ant,
    "ant_u_maze": lambda: Ant("u"),
    "ant_u4_maze": lambda: Ant("u4"),
    "ant_big_maze": lambda: Ant("big"),
}


def make_task(name: str) -> Task:
    """The task called `name`; raises UserError with the nearest name if there is none."""
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.0)
        raise bad_field("task", name, f"one of {', '.join(TASKS)}", nearest[0])
    return TASKS[name]()
