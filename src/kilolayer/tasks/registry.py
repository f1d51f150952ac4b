"""Tasks by name."""

from collections.abc import Callable

from kilolayer.config import TrainConfig
from kilolayer.lookup import find
from kilolayer.tasks.ant import Ant
from kilolayer.tasks.arm import ArmGrasp, ArmMove, ArmReach
from kilolayer.tasks.base import Task
from kilolayer.tasks.cheetah import HalfCheetah
from kilolayer.tasks.humanoid import Humanoid
from kilolayer.tasks.point import PointMaze
from kilolayer.tasks.pusher import Pusher
from kilolayer.tasks.reacher import Reacher

TASKS: dict[str, Callable[[], Task]] = {
    "point_u_maze": lambda: PointMaze("u"),
    "point_big_maze": lambda: PointMaze("big"),
    "point_hardest_maze": lambda: PointMaze("hardest"),
    "point_spiral_maze": lambda: PointMaze("spiral"),
    "ant": Ant,
    "ant_u_maze": lambda: Ant("u"),
    "ant_u4_maze": lambda: Ant("u4"),
    "ant_big_maze": lambda: Ant("big"),
    "ant_hardest_maze": lambda: Ant("hardest"),
    "half_cheetah": HalfCheetah,
    "humanoid": Humanoid,
    "humanoid_u_maze": lambda: Humanoid("u"),
    "humanoid_big_maze": lambda: Humanoid("big"),
    "humanoid_hardest_maze": lambda: Humanoid("hardest"),
    "reacher": Reacher,
    "pusher_easy": lambda: Pusher("easy"),
    "pusher_hard": lambda: Pusher("hard"),
    "arm_reach": ArmReach,
    "arm_grasp": ArmGrasp,
    "arm_push_easy": lambda: ArmMove("push_easy"),
    "arm_push_hard": lambda: ArmMove("push_hard"),
    "arm_binpick_easy": lambda: ArmMove("binpick_easy"),
    "arm_binpick_hard": lambda: ArmMove("binpick_hard"),
}


def task_of(config: TrainConfig) -> Task:
    """The task that a config describes; raises UserError if there is none."""
    return make_task(config.task)


def make_task(name: str) -> Task:
    """The task called `name`, or what the user's own `module:function` returns.

    Raises UserError with the nearest name if there is none.
    """
    return find("task", name, TASKS)()
