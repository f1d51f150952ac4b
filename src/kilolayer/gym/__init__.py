"""Every task as a Gymnasium environment with goals, single and vectorised (extra `gym`).

Importing this module registers every task: the task `ant_u_maze` as `Kilolayer/ant_u_maze-v0`. The
import is needed because Gymnasium does not look for plugins. Observations follow the GoalEnv
convention: a dictionary of `observation`, `achieved_goal` and `desired_goal`. The reward is 0
within the success radius and -1 elsewhere.
"""

from typing import Any

from kilolayer.errors import UserError
from kilolayer.physics.gymnasium_group import MISSING
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import TASKS

try:
    import gymnasium
except ImportError as error:
    raise UserError(MISSING) from error

from kilolayer.gym.environments import TaskEnv, TaskVectorEnv

__all__ = ["TaskEnv", "TaskVectorEnv", "make_vec"]


def make_vec(task: str | Task, num_envs: int, **arguments: Any) -> TaskVectorEnv:
    """A task's vector environment, as `gymnasium.make_vec` returns it for a registered task."""
    return TaskVectorEnv(task, num_envs, **arguments)


for name, maker in TASKS.items():
    gymnasium.register(
        id=f"Kilolayer/{name}-v0",
        entry_point="kilolayer.gym:TaskEnv",
        vector_entry_point="kilolayer.gym:TaskVectorEnv",
        max_episode_steps=maker().episode_length,
        kwargs={"task": name},
    )
