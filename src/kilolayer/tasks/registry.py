"""Tasks by name."""

from collections.abc import Callable

from kilolayer.lookup import find
from kilolayer.tasks.ant import Ant
from kilolayer.tasks.base import Task
from kilolayer.tasks.point import PointMaze

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
    """The task called `name`, or what the user's own `module:function` returns.

    Raises UserError with the nearest name if there is none.
    """
    return find("task", name, TASKS)()
