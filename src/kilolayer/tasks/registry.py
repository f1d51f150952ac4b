"""Tasks by name."""

from collections.abc import Callable

from kilolayer.lookup import make
from kilolayer.tasks.ant import Ant, GymAnt
from kilolayer.tasks.ant_objects import AntBall, AntPush
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
from kilolayer.types import bad_field

# Fields of a config that apply only to a robot of the user's own.
OWN_ROBOT_FIELDS = ("goal_site", "goal_body", "goal_box", "control_step")

TASKS: dict[str, Callable[[], Task]] = {
    "point_u_maze": lambda: PointMaze("u"),
    "point_big_maze": lambda: PointMaze("big"),
    "point_hardest_maze": lambda: PointMaze("hardest"),
    "point_spiral_maze": lambda: PointMaze("spiral"),
    "point_medium_maze": lambda: PointMaze("medium"),
    "point_large_maze": lambda: PointMaze("large"),
    "point_giant_maze": lambda: PointMaze("giant"),
    "ant": Ant,
    "ant_u_maze": lambda: Ant("u"),
    "ant_u4_maze": lambda: Ant("u4"),
    "ant_u4_maze_stitching": lambda: Ant("u4", stitching=True),
    "ant_u5_maze": lambda: Ant("u5"),
    "ant_big_maze": lambda: Ant("big"),
    "ant_hardest_maze": lambda: Ant("hardest"),
    "ant_medium_maze": lambda: Ant("medium"),
    "ant_large_maze": lambda: Ant("large"),
    "ant_giant_maze": lambda: Ant("giant"),
    "gym_ant": GymAnt,
    "gym_ant_u_maze": lambda: GymAnt("u"),
    "gym_ant_u4_maze": lambda: GymAnt("u4"),
    "gym_ant_u4_maze_stitching": lambda: GymAnt("u4", stitching=True),
    "gym_ant_u5_maze": lambda: GymAnt("u5"),
    "gym_ant_big_maze": lambda: GymAnt("big"),
    "gym_ant_hardest_maze": lambda: GymAnt("hardest"),
    "ant_ball": AntBall,
    "ant_push": AntPush,
    "half_cheetah": HalfCheetah,
    "humanoid": Humanoid,
    "humanoid_u_maze": lambda: Humanoid("u"),
    "humanoid_big_maze": lambda: Humanoid("big"),
    "humanoid_hardest_maze": lambda: Humanoid("hardest"),
    "reacher": Reacher,
    "pusher_easy": lambda: Pusher("easy"),
    "pusher_hard": lambda: Pusher("hard"),
    "arm_reach": ArmReach,
    "arm_reach_easy": ArmReachEasy,
    "arm_grasp": ArmGrasp,
    "arm_push_easy": lambda: ArmMove("push_easy"),
    "arm_push_hard": lambda: ArmMove("push_hard"),
    "arm_binpick_easy": lambda: ArmMove("binpick_easy"),
    "arm_binpick_hard": lambda: ArmMove("binpick_hard"),
}


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
