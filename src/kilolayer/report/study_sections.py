"""The sections of a study's page that show what the agents learnt. Each returns HTML.

A section that cannot be drawn raises UserError; the page then shows the error's sentence instead.
"""

from collections.abc import Callable, Mapping, Sequence

from kilolayer.analysis.groups import Group, score_bounds, with_interval
from kilolayer.analysis.value_map import ValueMap, chosen_goals, value_map, value_order
from kilolayer.report.film import MARK_OF_GOALS, embedded, write_film
from kilolayer.report.group_curves import group_curves
from kilolayer.report.maps import value_grid
from kilolayer.report.page import films, heading, paragraph, table
from kilolayer.report.plots import BEHAVIOUR_UNITS
from kilolayer.report.sections import place_text
from kilolayer.report.study_layout import Layout, first_seed, shown
from kilolayer.tasks.base import Task
from kilolayer.types import UserError

MOST_ROWS = 8  # of learning curves and tables
MOST_PICTURED = 3  # rows with films and maps
MOST_COLUMNS = 5  # films and maps in a row
MAP_RESOLUTION = 48
FILM_ENVS, FILM_PIXELS, FILM_FRAMES = 4, 160, 120
# Bytes of all films together: a page stays below 15 MB, and base64 adds a third.
FILM_BUDGET = 8_000_000


def curves_section(layout: Layout) -> str:
    rows = dict(list(layout.rows.items())[:MOST_ROWS])
    return _left_out(layout, MOST_ROWS) + group_curves(rows, layout.names)


def behaviour_section(layout: Layout) -> str:
    spent = 0

    def draw(title: str, groups: list[Group]) -> str:
        nonlocal spent
        videos, notes = [], []
        for group in shown(groups, MOST_COLUMNS):
            try:
                video, size = _film(layout, group, FILM_BUDGET - spent)
                videos.append((layout.column(group), video))
                spent += size
            except UserError as error:
                notes.append(paragraph(f"No film with {layout.column(group)}: {error}", "notice"))
        if not videos:
            notes = notes[:1]  # all films fail for the same reason
        return films(videos) + "".join(notes) + _measures(layout, groups)

    text = (
        f"Films: the first {FILM_ENVS} episodes of the newest evaluation of the lowest seed, "
        f"nothing picked; runs of equal length and seed face the same goals. {MARK_OF_GOALS} "
        "Tables: newest evaluation, mean over seeds with its 95 % interval."
    )
    return paragraph(text) + _pictured(layout, draw)


def _film(layout: Layout, group: Group, budget: int) -> tuple[str, int]:
    run = first_seed(group)
    path = layout.study.path / "media" / f"{run.path.name}.mp4"
    film = write_film(run, path, FILM_ENVS, FILM_PIXELS, FILM_FRAMES)
    return embedded(film, budget), film.path.stat().st_size


def _measures(layout: Layout, groups: list[Group]) -> str:
    """A row for each measure of movement, a column for each group."""
    prefix = "evaluation/behaviour/"
    logged = {
        name
        for group in groups
        for run in group.runs
        for event in run.events
        for name in event.get("metrics", {})
    }
    names = sorted(name for name in logged if name.startswith(prefix))
    names += ["evaluation/path_efficiency"] * ("evaluation/path_efficiency" in logged)
    if not names:
        return paragraph("This task measures no movement, and no episode has succeeded yet.")
    task = groups[0].runs[0].task
    unit = task.goal.coordinates[0].unit
    rows = []
    for name in names:
        measure = name.rsplit("/", 1)[-1]
        unit_of = BEHAVIOUR_UNITS.get(measure, "").format(unit)
        cells = [with_interval(group.final(name), score_bounds(task, name)) for group in groups]
        rows.append((measure.replace("_", " "), unit_of, *cells))
    header = ("measure", "unit", *(_seeded(layout, group) for group in groups))
    return table(header, rows)


def _seeded(layout: Layout, group: Group) -> str:
    return f"{layout.column(group)} ({group.seeds} seed{'s' * (group.seeds > 1)})"


def maps_section(layout: Layout) -> str:
    def draw(title: str, groups: list[Group]) -> str:
        task = groups[0].runs[0].task
        if task.maze is None:
            raise UserError("this task has no maze, so there are no walls for a critic to know.")
        goals = chosen_goals(task)
        columns, notes = {}, []
        for group in shown(groups, MOST_COLUMNS):
            name, run = layout.column(group), first_seed(group)
            try:
                columns[name] = [value_map(run, goal, MAP_RESOLUTION) for goal in goals]
            except UserError as error:
                notes.append(paragraph(f"No map with {name}: {error}", "notice"))
        if not columns:
            return "".join(notes)
        grid = value_grid(task, columns, f"maps-{list(layout.rows).index(title)}")
        return grid + _orders(task, columns) + "".join(notes)

    return paragraph("The critic of the lowest seed.") + _pictured(layout, draw)


def _orders(task: Task, columns: Mapping[str, Sequence[ValueMap]]) -> str:
    """For each goal and critic: whether the value follows the walls or the straight line."""
    rows = []
    for maps in zip(*columns.values(), strict=True):
        orders = [value_order(values, task.maze) for values in maps]
        cells = [f"{order.path:.2f}, {order.line:.2f}: {order.verdict}" for order in orders]
        rows.append((place_text(task, maps[0]), *cells))
    text = (
        "Rank correlation of the value with nearness along the shortest path, then along the "
        "straight line (1: strictly), over the free cells:"
    )
    return paragraph(text) + table(("goal", *columns), rows)


def _pictured(layout: Layout, draw: Callable[[str, list[Group]], str]) -> str:
    """Draw the first rows; raises the first UserError if no row can be drawn."""
    parts, errors = [], []
    for title, groups in list(layout.rows.items())[:MOST_PICTURED]:
        try:
            parts.append((heading(title) if title else "") + draw(title, groups))
        except UserError as error:
            errors.append(str(error))
            parts.append(paragraph(f"Not shown for {title}: {error}", "notice"))
    if len(errors) == len(parts):
        raise UserError(errors[0])
    return _left_out(layout, MOST_PICTURED) + "".join(parts)


def _left_out(layout: Layout, most: int) -> str:
    count = len(layout.rows)
    if count <= most:
        return ""
    return paragraph(
        f"Shown are the first {most} of {count} combinations of the other factors; the table of "
        "costs has all of them.",
        "notice",
    )
