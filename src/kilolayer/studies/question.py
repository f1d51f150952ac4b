"""A question: a grid of runs at three sizes, and an analysis of the runs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from kilolayer.analysis.aggregate import over_tasks
from kilolayer.analysis.answer import Answer, followed, joined
from kilolayer.analysis.claims import unsettled
from kilolayer.analysis.groups import study_groups
from kilolayer.analysis.outcomes import final_score
from kilolayer.analysis.study import Study
from kilolayer.config import RunConfig
from kilolayer.errors import OutsideError
from kilolayer.studies.grid import Cell, Grid, all_cells, field_factor
from kilolayer.types import UserError, bad_field
from kilolayer.user_code import UserCode, all_are

Size = Literal["quick", "laptop", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)


@dataclass(frozen=True)
class Setup:
    """What one size of a question sets and a user may change: config, tasks, depths, seeds."""

    base: RunConfig
    depths: tuple[int, ...]
    seeds: int
    tasks: tuple[str, ...] = ()

    def grid(self, factors: Mapping[str, Mapping], **fields: object) -> Grid:
        """A grid of these factors; `fields` change the base config."""
        return Grid(self.base.having(**fields), factors, self.seeds)

    @property
    def depth_factor(self) -> dict:
        return field_factor("depth", self.depths)


@dataclass(frozen=True)
class Question:
    """name: as in `kilolayer study NAME`; asks: the question in a sentence.

    grids: the runs of a setup. analyse: gets the finished and failed runs of one task, and may
    raise UserError if too few runs have finished. needs: the factor that the runs of another study
    must have to answer this question.
    """

    name: str
    asks: str
    setups: Mapping[Size, Setup]
    grids: Callable[[Setup], Sequence[Grid]]
    analyse: Callable[[Study], Answer]
    needs: str = "seed"

    def require_whole(self, name: str) -> None:
        """Raises UserError, calling the question `name`, for a field that holds something else."""
        own = UserCode(f"question = {name!r}")
        for field in ("name", "asks", "needs"):
            value = getattr(self, field)
            own.require(isinstance(value, str), field, value, "a text")
        for field in ("grids", "analyse"):
            value = getattr(self, field)
            own.require(callable(value), field, value, "a function")
        known = (
            isinstance(self.setups, Mapping) and bool(self.setups) and set(self.setups) <= {*SIZES}
        )
        own.require(known, "setups", self.setups, f"a dictionary of {', '.join(SIZES)}")
        for size, setup in self.setups.items():
            own.require(isinstance(setup, Setup), f"setups[{size!r}]", setup, "a Setup")

    def setup(
        self,
        size: Size,
        tasks: Sequence[str] = (),
        depths: Sequence[int] = (),
        seeds: int | None = None,
    ) -> Setup:
        """The setup of a size; values that the user gave replace those of the size."""
        if size not in self.setups:
            raise bad_field("size", size, f"one of {', '.join(self.setups)}", SIZES[0])
        chosen = self.setups[size]
        return dataclasses.replace(
            chosen,
            tasks=tuple(tasks) or chosen.tasks,
            depths=tuple(sorted(set(depths))) or chosen.depths,
            seeds=chosen.seeds if seeds is None else seeds,
        )

    def cells(self, setup: Setup) -> dict[str, Cell]:
        """The runs by name, each checked; raises UserError if one cannot be trained."""
        tasks = setup.tasks or (setup.base.task.task,)
        own, grids = UserCode(f"question {self.name}"), []
        for task in tasks:
            base = setup.base.having(task=task)
            labels = {"task": task} if len(tasks) > 1 else {}
            asked = dataclasses.replace(setup, base=base)
            found = own.call_if_user_code("grids", self.grids, asked)
            own.require(all_are(found, Grid), "grids", found, "a list of Grid")
            grids += [dataclasses.replace(grid, labels={**labels, **grid.labels}) for grid in found]
        return all_cells(grids)

    def answer(self, study: Study) -> Answer:
        """Analyse every task by itself; too few runs give a verdict, not an error."""
        by_task: dict[str, list] = {}
        for run in study.runs:
            if run.state in ("finished", "failed"):
                by_task.setdefault(run.task, []).append(run)
        if not study.finished:
            return Answer((unsettled("No run has finished yet."),))
        own, answers = UserCode(f"question {self.name}"), {}
        for task, runs in by_task.items():
            try:
                part = dataclasses.replace(study, runs=tuple(runs))
                found = own.call_if_user_code("analyse", self.analyse, part)
            except OutsideError:
                raise
            except UserError as error:
                found = Answer((unsettled(f"Nothing can be said: {error}"),))
            own.require(isinstance(found, Answer), "analyse", found, "an Answer")
            answers[task] = found
        answer = next(iter(answers.values()))
        if len(answers) > 1:
            together = over_tasks(study_groups(study), final_score, study.failed)
            answer = followed(together, joined(answers))
        missing = [run.name for run in study.runs if run.state != "finished"]
        if missing:
            left_out = f"Left out, for they have not finished: {', '.join(missing)}."
            answer = dataclasses.replace(answer, notes=(*answer.notes, left_out))
        return answer
