"""The settings that choose a task."""

from dataclasses import dataclass
from pathlib import Path

from kilolayer.errors import bad_field
from kilolayer.settings import Positive, Settings


@dataclass(frozen=True, kw_only=True)
class TaskChoice(Settings):
    """The task: a named one, or the user's own robot."""

    task: str = "point_u_maze"
    """Name of the task, or module:function of your own. `docs/tasks.md` lists all names."""
    gym: str | None = None
    """Train in this Gymnasium environment with goals instead of `task` (extra `gym`)."""
    mjcf: str | None = None
    """Train your own robot from this MJCF file instead of `task`. Needs --goal-site or
    --goal-body."""
    goal_site: str | None = None
    """Site of your robot that should reach goal positions. Only with --mjcf."""
    goal_body: str | None = None
    """Body of your robot that should reach goal positions. Only with --mjcf."""
    goal_box: str | None = None
    """Box of your robot's goals: x0,y0,z0,x1,y1,z1 in m. Default: positions that random actions
    reach. Set it if the robot works in another region."""
    goal_radius: Positive | None = None
    """Distance within which a goal counts as reached, in the goal's unit. Default: the task's own.
    Only with --gym and --mjcf."""
    control_step: float | None = None
    """Seconds between two actions of your robot, a multiple of the model's time step. Default:
    about 0.05. Lower it for fast robots. Only with --mjcf."""

    @property
    def name(self) -> str:
        """The task's name before it is made; a user's own robot has the name of its file."""
        if self.mjcf is not None:
            return Path(self.mjcf).stem
        return self.task if self.gym is None else self.gym.rsplit("/", 1)[-1]


def require_one_task(choice: TaskChoice, task: str | None) -> None:
    """Raises UserError for a `task` that the user names beside a choice that takes another one."""
    for field in ("gym", "mjcf"):
        other = getattr(choice, field)
        if task is not None and other is not None:
            raise bad_field("task", task, f"{field} = {other!r} is the task already, omit one")
