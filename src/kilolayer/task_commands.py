"""The command that shows a task. Like `cli.py`, no logic."""

from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from kilolayer.errors import UserError
from kilolayer.runtime.files import require_file
from kilolayer.tasks.choice import TaskChoice, require_one_task
from kilolayer.terminal import OUTPUT


def inspect(task: Annotated[TaskChoice, tyro.conf.arg(name="")], out: Path | None = None) -> None:
    """Show a task before training on it: `kilolayer inspect TASK`, or with the options of `train`
    for your own robot.

    Prints the coordinates of the observation and of goals, with units and their values under random
    actions; the actuators, the control step and the episode; how often random actions succeed;
    control steps per second on this machine. Writes a picture of a start with its goal.

    Look for: a coordinate that never changes (is it connected?), values in the thousands (choose a
    larger unit), a success rate of random actions near 1 (the radius is too large) or goals outside
    the range that random actions achieve (exploration will be hard).

    Args:
        task: The task.
        out: The picture to write, a .png. Default: inspect_TASK.png.
    """
    from kilolayer import api

    require_one_task(task, task.task if task.task != TaskChoice.task else None)
    if out is not None:
        require_file(out, ".png")
    found = api.inspect(task)
    goal, name = found.task.goal, found.task.name
    observed = {"random actions": found.observation}
    goals = {"random actions": found.achieved, "drawn": found.commanded}
    OUTPUT.print(_ranges("observation", found.task.observation, observed))
    OUTPUT.print(_ranges("goal", goal.coordinates, goals))
    table = Table(title=f"task {name}", title_justify="left", show_header=False)
    step = found.task.world.control_step
    for row in (
        (f"actions, {found.task.action_dim} in [-1, 1]", ", ".join(found.actions)),
        ("control step", f"{step:g} s"),
        ("episode", f"{found.task.episode_length} control steps"),
        ("success radius", f"{goal.radius:.3g} {goal.coordinates[0].unit}"),
        ("easy radius", f"{goal.easy_radius:.3g} {goal.coordinates[0].unit}"),
        ("random actions", f"{found.envs} environments, {found.steps} control steps"),
        ("  reach their goal", f"{found.success:.0%}"),
        ("  end early", f"{found.ended_early:.0%}"),
        ("  diverge", f"{found.diverged} environments"),
        ("speed here", f"{found.steps_per_second:,.0f} control steps/s with the observation"),
    ):
        table.add_row(*row)
    OUTPUT.print(table)
    try:
        OUTPUT.print(f"picture  {api.picture(found.task, out or f'inspect_{name}.png')}")
    except UserError as error:
        OUTPUT.print(f"no picture: {error}")


def _ranges(title: str, coordinates: Any, ranges: dict[str, Any]) -> Table:
    """One row per coordinate: its name, its unit, and the lowest and highest of each range."""
    table = Table("coordinate", "unit", title=title, title_justify="left")
    for source in ranges:
        table.add_column(f"{source}\nlowest", justify="right")
        table.add_column("\nhighest", justify="right")
    for index, coordinate in enumerate(coordinates):
        values = [f"{end:.3g}" for bounds in ranges.values() for end in bounds[:, index]]
        table.add_row(coordinate.name, coordinate.unit, *values)
    return table


COMMANDS = {"inspect": inspect}
