"""A declarative grid of configs: a base, factors whose values change it, and seeds."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kilolayer.config import RunConfig
from kilolayer.errors import UserError, bad_field, require_at_least
from kilolayer.recipes import recipe_named
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.settings import MAX_SEED
from kilolayer.tasks.registry import task_of

Value = int | float | str
Change = Mapping[str, Any]
"""Config fields and their values. `recipe` names one of RECIPES, which is applied first."""
MAX_RUNS = 10_000  # of a grid; counting what one costs takes a second
Factor = Mapping[Value, Change]


@dataclass(frozen=True)
class Cell:
    """One run of a grid. factors: the settings that distinguish it, by name, with the seed."""

    factors: dict[str, Value]
    config: RunConfig


@dataclass(frozen=True)
class Grid:
    """Every combination of the factors' values, with `seeds` seeds each, from the base's seed on.

    labels: constant factors of this grid, which distinguish it from other grids.
    """

    base: RunConfig
    factors: Mapping[str, Factor]
    seeds: int
    labels: Mapping[str, Value] = field(default_factory=dict)

    def cells(self) -> dict[str, Cell]:
        """The runs by name, such as `depth8-seed1`; raises UserError if there are none."""
        require_at_least(1, seeds=self.seeds)
        runs = self.seeds * math.prod(map(len, self.factors.values()))
        if runs > MAX_RUNS:
            allowed = f"they make {runs:,} runs, and a study has at most {MAX_RUNS:,}"
            raise bad_field("seeds", self.seeds, allowed, MAX_RUNS * self.seeds // runs or None)
        last = self.base.seed + self.seeds - 1
        if last >= MAX_SEED:
            allowed = f"the last seed, {last}, must lie below {MAX_SEED}"
            raise bad_field("seeds", self.seeds, allowed, MAX_SEED - self.base.seed)
        empty = [name for name, factor in self.factors.items() if not factor]
        if empty:
            raise UserError(f"the grid is empty: {empty[0]} has no values, give it at least one.")
        cells = {}
        for values in itertools.product(*(factor.items() for factor in self.factors.values())):
            chosen = dict(zip(self.factors, (value for value, _ in values), strict=True))
            for seed in range(self.base.seed, self.base.seed + self.seeds):
                factors: dict[str, Value] = {**self.labels, **chosen, "seed": seed}
                if (name := _run_name(factors)) in cells:
                    raise UserError(
                        f"the grid has two runs called {name}: give its values other names."
                    )
                with _named_errors(name):
                    config = _apply_changes(self.base, [change for _, change in values])
                    cells[name] = Cell(factors, config.having(seed=seed))
        return cells


def merge_grids(grids: Iterable[Grid]) -> dict[str, Cell]:
    """The cells of several grids together, after a check that every config can be trained.

    Raises UserError for an empty grid, two cells of one name, and a config that cannot be run.
    """
    cells: dict[str, Cell] = {}
    for grid in grids:
        for name, cell in grid.cells().items():
            if name in cells:
                raise UserError(
                    f"the grid has two runs called {name}: give them different factors."
                )
            cells[name] = cell
    if not cells:
        raise UserError("the grid is empty: give it at least one run.")
    for name, cell in cells.items():
        with _named_errors(name):
            task = task_of(cell.config.task)
            build_agent(cell.config, TrainSchedule.derive(cell.config, task.episode_length), task)
    return cells


def field_factor(field: str, values: Iterable[Value]) -> dict[Value, Change]:
    """A factor that sets one config field."""
    return {value: {field: value} for value in values}


def _run_name(factors: Mapping[str, Value]) -> str:
    """A run's name, such as `crl-depth8-seed0`: numbers follow the name of their factor."""
    parts = [
        value if isinstance(value, str) else f"{name}{_number_text(value)}"
        for name, value in factors.items()
    ]
    return re.sub(r"[ /\\]", "_", "-".join(parts))  # it is the name of one folder


def _number_text(value: float) -> str:
    """All digits of an integer, since seeds from a million on differ in the last ones only."""
    return f"{value:d}" if isinstance(value, int) else f"{value:g}"


def _apply_changes(config: RunConfig, changes: Iterable[Change]) -> RunConfig:
    """The config with all changes applied at once, since a part of them may be invalid."""
    settings: dict[str, Any] = {}
    for change in changes:
        fields = dict(change)
        if (recipe := fields.pop("recipe", None)) is not None:
            settings |= recipe_named(str(recipe))
        settings |= fields
    return config.having(**settings)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Add the run's name to a UserError about its settings."""
    try:
        yield
    except UserError as error:
        raise UserError(f"the run {name} of the grid cannot be trained: {error}") from error
