"""Tasks by name."""

from collections.abc import Callable
from copy import copy
from functools import partial

from kilolayer.errors import bad_field
from kilolayer.lookup import make
from kilolayer.tasks.ant import Ant, AntBall, AntPush, GymAnt
from kilolayer.tasks.arm import ArmGrasp, ArmMove, ArmReach, ArmReachEasy
from kilolayer.tasks.base import Task
from kilolayer.tasks.cheetah import HalfCheetah
from kilolayer.tasks.choice import TaskChoice
from kilolayer.tasks.gymnasium import make_gymnasium_task
from kilolayer.tasks.humanoid import Humanoid
from kilolayer.tasks.own_robot import make_own_robot
from kilolayer.tasks.point import PointMaze
from kilolayer.tasks.pusher import Pusher
from kilolayer.tasks.reacher import Reacher
from kilolayer.tasks.validation import require_valid

# Fields of a config that apply only to a robot of the user's own.
OWN_ROBOT_FIELDS = ("goal_site", "goal_body", "goal_box", "control_step")

_TASKS: tuple[Task, ...] = (
    *map(PointMaze, ("u", "big", "hardest", "spiral", "medium", "large", "giant")),
    *map(Ant, (None, "u", "u4")), Ant("u4", stitching=True),
    *map(Ant, ("u5", "big", "hardest", "medium", "large", "giant")),
    *map(GymAnt, (None, "u", "u4")), GymAnt("u4", stitching=True),
    *map(GymAnt, ("u5", "big", "hardest")),
    AntBall(), AntPush(), HalfCheetah(), *map(Humanoid, (None, "u", "big", "hardest")),
    Reacher(), Pusher("easy"), Pusher("hard"), ArmReach(), ArmReachEasy(), ArmGrasp(),
    ArmMove("push_easy"), ArmMove("push_hard"), ArmMove("binpick_easy"), ArmMove("binpick_hard"),
)  # fmt: skip
# Errors list the names in this order.
TASKS: dict[str, Callable[[], Task]] = {task.name: partial(copy, task) for task in _TASKS}


# The user's own tasks that passed their checks in this process, which imports their modules once.
_CHECKED: set[str] = set()


def task_of(config: TaskChoice) -> Task:
    """The task that a config describes; raises UserError if there is none."""
    if config.mjcf is not None and config.gym is not None:
        raise bad_field("gym", config.gym, "give either --gym or --mjcf, not both")
    if config.mjcf is not None:
        return make_own_robot(config)
    for field in OWN_ROBOT_FIELDS:
        if getattr(config, field) is not None:
            raise bad_field(field, getattr(config, field), "it needs a robot given with --mjcf")
    if config.gym is not None:
        return make_gymnasium_task(config.gym, config.goal_radius)
    if config.goal_radius is not None:
        allowed = f"task {config.task} has a fixed radius; the option is for --gym and --mjcf"
        raise bad_field("goal_radius", config.goal_radius, allowed)
    return make_task(config.task)


def make_task(name: str) -> Task:
    """The task called `name`, or what the user's own `module:function` returns.

    Raises UserError with the nearest name if there is none, and for one of the user's own that
    cannot work.
    """
    task = make("task", name, TASKS, Task)
    if ":" in name and name not in _CHECKED:
        require_valid(name, task)
        _CHECKED.add(name)
    return task
