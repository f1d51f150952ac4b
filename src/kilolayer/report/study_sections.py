"""The sections of a study's page on learning curves, movement and value maps. Each returns HTML.

A section that cannot be drawn raises UserError; the page then shows the error message.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.groups import TASK, Group, factor_text, study_groups, varying_factors
from kilolayer.analysis.load import Run
from kilolayer.analysis.study import Study
from kilolayer.analysis.value_map import (
    ValueMap,
    maps_of_goals,
    representative_goals,
    value_correlation,
)
from kilolayer.errors import UserError
from kilolayer.report.film import GOAL_LEGEND, embed_video, write_film
from kilolayer.report.group_curves import group_curves
from kilolayer.report.maps import value_grid
from kilolayer.report.page import heading, paragraph, table, video_row
from kilolayer.report.run_sections import NO_MOVEMENT, behaviour_label, behaviour_metrics, goal_text
from kilolayer.tasks.base import Task

MAX_CURVE_ROWS = 8  # of learning curves
MAX_PICTURE_ROWS = 3  # of films and maps
MAX_COLUMNS = 5  # films and maps in a row
MAP_RESOLUTION = 48
FILM_ENVS, FILM_PIXELS, FILM_FRAMES = 4, 160, 120
# Bytes of all films: the page stays below 15 MB, and base64 adds a third.
FILM_BUDGET = 8_000_000


@dataclass(frozen=True)
class Layout:
    """The finished runs of a study in groups: columns by the leading factor, rows by the others.

    published: a file of published curves, if one was given.
    """

    study: Study
    answer: Answer
    published: Path | None = None

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Raises UserError if no run has finished."""
        groups = study_groups(self.study)
        if not groups:
            raise UserError("no run of this study has finished yet: continue it.")
        return groups

    @cached_property
    def leading(self) -> str | None:
        """Depth if it varies, else the first factor other than the task."""
        names = varying_factors([group.factors for group in self.groups])
        if "depth" in names:
            return "depth"
        return next((name for name in names if name != TASK), next(iter(names), None))

    @cached_property
    def rows(self) -> dict[str, list[Group]]:
        """Lists of groups that differ only by the leading factor, keyed by the other factors."""
        rows: dict[str, list[Group]] = {}
        for group in self.groups:
            rows.setdefault(factor_text(group.without(self.leading).factors), []).append(group)
        return rows

    def column(self, group: Group) -> str:
        """The short name of a group within its row."""
        if self.leading is None:
            return group.name
        return factor_text({self.leading: group.factors.get(self.leading)})


def first_seed(group: Group) -> Run:
    """The run of the lowest seed, a selection that does not depend on results."""
    return min(group.runs, key=lambda run: run.config.seed)


def evenly_spaced(groups: list[Group], most: int) -> list[Group]:
    """At most `most` groups, including the first and the last."""
    if len(groups) <= most:
        return groups
    return [groups[round(index * (len(groups) - 1) / (most - 1))] for index in range(most)]


def curves_section(layout: Layout) -> str:
    rows = dict(list(layout.rows.items())[:MAX_CURVE_ROWS])
    names = {group.name: layout.column(group) for group in layout.groups}
    return _truncation_notice(layout, MAX_CURVE_ROWS) + group_curves(rows, names)


def behaviour_section(layout: Layout) -> str:
    used_bytes = 0

    def draw(title: str, groups: list[Group]) -> str:
        nonlocal used_bytes
        videos, notes = [], []
        for group in evenly_spaced(groups, MAX_COLUMNS):
            try:
                video, size = _film(layout, group, FILM_BUDGET - used_bytes)
                videos.append((layout.column(group), video))
                used_bytes += size
            except UserError as error:
                notes.append(paragraph(f"No film for {layout.column(group)}: {error}", "notice"))
        if not videos:
            notes = notes[:1]  # all films failed for the same reason
        return video_row(videos) + "".join(notes) + _movement_table(layout, groups)

    text = (
        f"Films: the first {FILM_ENVS} episodes of the newest evaluation of the lowest seed, not "
        f"selected by score. Runs of equal length and seed have the same goals. {GOAL_LEGEND} "
        "Tables: newest evaluation, mean over seeds with its 95 % interval."
    )
    return paragraph(text) + _picture_rows(layout, draw)


def _film(layout: Layout, group: Group, budget: int) -> tuple[str, int]:
    run = first_seed(group)
    path = layout.study.path / "media" / f"{run.path.name}.mp4"
    film = write_film(run, path, FILM_ENVS, FILM_PIXELS, FILM_FRAMES)
    return embed_video(film.path, film.width, budget), film.path.stat().st_size


def _movement_table(layout: Layout, groups: list[Group]) -> str:
    """A row for each movement metric, a column for each group."""
    names = behaviour_metrics(run for group in groups for run in group.runs)
    if not names:
        return paragraph(NO_MOVEMENT)
    task = groups[0].task
    rows = [
        (*behaviour_label(task, name), *(group.score_text(name) for group in groups))
        for name in names
    ]
    seeds = [f"{group.seeds} seed{'s' * (group.seeds > 1)}" for group in groups]
    columns = [f"{layout.column(group)} ({n})" for group, n in zip(groups, seeds, strict=True)]
    return table(("metric", "unit", *columns), rows)


def maps_section(layout: Layout) -> str:
    def draw(title: str, groups: list[Group]) -> str:
        task = groups[0].task
        if task.maze is None:
            raise UserError("this task has no maze, so there are no walls.")
        goals = representative_goals(task)
        columns, notes = {}, []
        for group in evenly_spaced(groups, MAX_COLUMNS):
            name, run = layout.column(group), first_seed(group)
            try:
                columns[name] = maps_of_goals(run, goals, MAP_RESOLUTION)
            except UserError as error:
                notes.append(paragraph(f"No map for {name}: {error}", "notice"))
        if not columns:
            return "".join(notes)
        grid = value_grid(task, columns, f"maps-{list(layout.rows).index(title)}")
        return grid + _correlation_table(task, columns) + "".join(notes)

    return paragraph("The critic of the lowest seed.") + _picture_rows(layout, draw)


def _correlation_table(task: Task, columns: Mapping[str, Sequence[ValueMap]]) -> str:
    """Rank correlations of the value with path length and distance, for each goal and critic."""
    rows = []
    for maps in zip(*columns.values(), strict=True):
        correlations = [value_correlation(values, task.maze) for values in maps]
        cells = [f"{c.path:.2f}, {c.straight_line:.2f}: {c.conclusion}" for c in correlations]
        rows.append((goal_text(task, maps[0]), *cells))
    text = (
        "Rank correlation of the value with the negative length of the shortest path, then with "
        "the negative straight-line distance, over the free cells:"
    )
    return paragraph(text) + table(("goal", *columns), rows)


def _picture_rows(layout: Layout, draw: Callable[[str, list[Group]], str]) -> str:
    """Draw the first rows; raises the first UserError if no row can be drawn."""
    parts, errors = [], []
    for title, groups in list(layout.rows.items())[:MAX_PICTURE_ROWS]:
        try:
            parts.append((heading(title) if title else "") + draw(title, groups))
        except UserError as error:
            errors.append(str(error))
            parts.append(paragraph(f"Not shown for {title}: {error}", "notice"))
    if len(errors) == len(parts):
        raise UserError(errors[0])
    return _truncation_notice(layout, MAX_PICTURE_ROWS) + "".join(parts)


def _truncation_notice(layout: Layout, most: int) -> str:
    count = len(layout.rows)
    if count <= most:
        return ""
    return paragraph(
        f"Only the first {most} of {count} combinations of the other factors are shown. The table "
        "of costs has all.",
        "notice",
    )
