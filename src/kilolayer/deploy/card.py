"""The robot card of a task: coordinates, ranges, control step and safe action."""

import numpy as np

from kilolayer.tasks.base import Coordinate, Task
from kilolayer_robot import card as robot

# (lowest [dim], highest [dim]) recorded values
Range = tuple[np.ndarray, np.ndarray]


def task_card(task: Task, observed: Range | None = None, goals: Range | None = None) -> robot.Card:
    """The card for policies of this task, without files.

    observed, goals: recorded ranges of observations and goals, written into the card. Actions are
    shares of each actuator's range, [-1, 1]; the safe action is zeros.
    """
    action = tuple(
        robot.Coordinate(f"action {index}", "share of the range", -1.0, 1.0)
        for index in range(task.action_dim)
    )
    return robot.Card(
        name=task.name,
        observation=_coordinates(task.observation, observed),
        goal=_coordinates(task.goal.coordinates, goals),
        action=action,
        radius=float(task.goal.radius),
        control_step=float(task.world.control_step),
        safe_action=(0.0,) * task.action_dim,
    )


def _coordinates(
    coordinates: tuple[Coordinate, ...], recorded: Range | None
) -> tuple[robot.Coordinate, ...]:
    if recorded is None:
        return tuple(robot.Coordinate(each.name, each.unit) for each in coordinates)
    return tuple(
        robot.Coordinate(each.name, each.unit, float(low), float(high))
        for each, low, high in zip(coordinates, *recorded, strict=True)
    )
