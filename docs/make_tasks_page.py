"""Make `docs/tasks.md` and `docs/tasks.png`, the table and the gallery of all tasks.

python -m docs.make_tasks_page
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kilolayer.render.media import render_start
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import TASKS, make_task

HERE = Path(__file__).parent
TILE, LABEL, COLUMNS, GAP = 240, 22, 6, 6  # pixels
TEXT = """# The tasks

![All tasks: a start with its goal](tasks.png)

*A start of an evaluation, with its goal. Mazes from above, x to the right and y up; open ground
from behind the agent.*

`kilolayer inspect TASK` lists a task's coordinates with their units and the values that random
actions give them. Actions lie in [-1, 1] and span each actuator's range. A step is a success within
the radius of the goal, in the goal's unit. Scores within the easy radius, and within the hard one
where it exists, are reported too. Tasks and radii are those of arXiv 2503.14858 and 2408.11052. The
physics is MuJoCo's own and the published results used other engines: compare trends with the paper,
not absolute scores.

| task | control step | episode | actions | observation | goal | radius | easy | hard |
|---|---|---|---|---|---|---|---|---|
"""
AFTER = """
Two ants share one body. `ant` has the motors, contacts and control step of the ant in MuJoCo's
goal-reaching benchmarks (OGBench, and D4RL before it). Its episodes never end early. `gym_ant` has
those of Gym, as in the published results, which used another engine: use it to compare with them.
In MuJoCo its motors throw it on its back.

`..._medium_maze`, `..._large_maze` and `..._giant_maze` have the walls of OGBench (arXiv
2410.20092), transposed: a position of the ant is OGBench's plus (4, 4) m. An evaluation draws one
of OGBench's five tasks, each a start cell and a goal cell. Training draws start and goal from all
free cells, since the five tasks begin in at most five places. Both lie up to a quarter of a
cell from the centre of their cell. Point mazes have cells of one unit and our own point.
[OGBench's own environments score a policy too](gymnasium.md#scored-by-ogbench).

Our choices where the benchmark specifies nothing:

- The easy radii of `reacher` and the pushers are twice their radius.
- The ant's ball starts 0.28 of the way to its goal; nearer it would lie among the legs.
- In `ant_push` one block bars both goals and must be pushed aside, not ahead.
- `..._stitching` trains on paths of at most three cells anywhere in the maze, and is evaluated from
  its start to every cell.
- Three quarters of the goals of `arm_reach` lie within the radius of what its four joints reach,
  and all within the easy radius; ranges and goals are as published.
- `arm_reach_easy` is our own task: the goals of the same box that the arm can hold, and half the
  radius.
"""


def main() -> None:
    rows = [row(make_task(name)) for name in TASKS]
    (HERE / "tasks.md").write_text(TEXT + "\n".join(rows) + "\n" + AFTER)
    tiles = []
    for name in TASKS:
        print(name, flush=True)
        tiles.append(tile(name, render_start(make_task(name), TILE)))
    gallery(tiles).save(HERE / "tasks.png", optimize=True)


def row(task: Task) -> str:
    goal = task.goal
    names = ", ".join(coordinate.name for coordinate in goal.coordinates)
    hard = "" if goal.hard_radius is None else f"{goal.hard_radius:g}"
    cells = (
        f"`{task.name}`",
        f"{task.world.control_step:g} s",
        task.episode_length,
        task.action_dim,
        len(task.observation),
        f"{names} ({goal.coordinates[0].unit})",
        f"{goal.radius:g}",
        f"{goal.easy_radius:g}",
        hard,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def tile(name: str, picture: np.ndarray) -> Image.Image:
    """The picture in the middle of a square, its name below."""
    image = Image.new("RGB", (TILE, TILE + LABEL), "white")
    height, width = picture.shape[:2]
    image.paste(Image.fromarray(picture), ((TILE - width) // 2, (TILE - height) // 2))
    place, font = (TILE / 2, TILE + LABEL / 2), ImageFont.load_default(15)
    ImageDraw.Draw(image).text(place, name, fill="black", font=font, anchor="mm")
    return image


def gallery(tiles: list[Image.Image]) -> Image.Image:
    rows = math.ceil(len(tiles) / COLUMNS)
    size = (COLUMNS * (TILE + GAP) - GAP, rows * (TILE + LABEL + GAP) - GAP)
    image = Image.new("RGB", size, "white")
    for index, part in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        image.paste(part, (column * (TILE + GAP), row * (TILE + LABEL + GAP)))
    return image


if __name__ == "__main__":
    main()
