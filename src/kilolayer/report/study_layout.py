"""The layout of a study's finished runs on its page."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.groups import (
    Group,
    factor_text,
    group_rows,
    leading_factor,
    study_groups,
)
from kilolayer.analysis.load import Run
from kilolayer.analysis.study import Study
from kilolayer.types import UserError


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
        return leading_factor(self.groups)

    @cached_property
    def rows(self) -> dict[str, list[Group]]:
        """Lists of groups that differ only by the leading factor, keyed by the other factors."""
        return group_rows(self.groups, self.leading)

    @cached_property
    def names(self) -> dict[str, str]:
        """The short name of each group within its row, keyed by its full name."""
        return {group.name: self.column(group) for group in self.groups}

    def column(self, group: Group) -> str:
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
