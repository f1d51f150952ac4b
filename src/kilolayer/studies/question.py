"""A question: a grid of runs at several sizes, and an analysis of the runs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from kilolayer.analysis.answer import Answer, concatenate_answers, merge_task_answers
from kilolayer.analysis.claims import inconclusive
from kilolayer.analysis.compare import aggregate_over_tasks
from kilolayer.analysis.groups import study_groups
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import final_score
from kilolayer.config import RunConfig
from kilolayer.errors import OutsideError, UserError, require_choice
from kilolayer.studies.grid import Cell, Grid, Value, field_factor, merge_grids
from kilolayer.user_code import UserCode, all_are

Size = Literal["quick", "laptop", "body", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)


@dataclass(frozen=True)
class Setup:
    """The settings of one size of a question: config, tasks, depths, seeds."""

    base: RunConfig
    depths: tuple[int, ...]
    seeds: int
    tasks: tuple[str, ...] = ()

    def grid(
        self,
        factors: Mapping[str, Mapping],
        labels: Mapping[str, Value] | None = None,
        **fields: object,
    ) -> Grid:
        """A grid of these factors; see `Grid` for labels. fields: changes of the base config."""
        return Grid(self.base.having(**fields), factors, self.seeds, labels or {})

    @property
    def depth_factor(self) -> dict:
        return field_factor("depth", self.depths)


@dataclass(frozen=True)
class Question:
    """name: as in `kilolayer study NAME`; text: the question as a sentence.

    grids: the runs of a setup. analyse: gets the finished and failed runs of one task, and may
    raise UserError if too few runs have finished. required_factor: a factor that the runs of
    another study need, if its runs are to be analysed for this question.
    """

    name: str
    text: str
    setups: Mapping[Size, Setup]
    grids: Callable[[Setup], Sequence[Grid]]
    analyse: Callable[[Study], Answer]
    required_factor: str = "seed"

    def validate(self, name: str) -> None:
        """Raises UserError for a field of a wrong type. name: of the question in the message."""
        own = UserCode(f"question = {name!r}")
        for field in ("name", "text", "required_factor"):
            value = getattr(self, field)
            own.require(isinstance(value, str), field, value, "a text")
        for field in ("grids", "analyse"):
            value = getattr(self, field)
            own.require(callable(value), field, value, "a function")
        valid = (
            isinstance(self.setups, Mapping) and bool(self.setups) and set(self.setups) <= {*SIZES}
        )
        own.require(valid, "setups", self.setups, f"a dictionary of {', '.join(SIZES)}")
        for size, setup in self.setups.items():
            own.require(isinstance(setup, Setup), f"setups[{size!r}]", setup, "a Setup")

    def setup(
        self,
        size: Size,
        tasks: Sequence[str] = (),
        depths: Sequence[int] = (),
        seeds: int | None = None,
    ) -> Setup:
        """The setup of a size; the arguments replace its values."""
        require_choice("size", size, self.setups)
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
        grids = []
        for task in tasks:
            base = setup.base.having(task=task)
            labels = {"task": task} if len(tasks) > 1 else {}
            grids += [
                dataclasses.replace(grid, labels={**labels, **grid.labels})
                for grid in self._checked_grids(dataclasses.replace(setup, base=base))
            ]
        return merge_grids(grids)

    @property
    def factors(self) -> set[str]:
        """The names of the factors that distinguish its runs."""
        grids = self._checked_grids(next(iter(self.setups.values())))
        return {name for grid in grids for name in (*grid.factors, *grid.labels)}

    def _checked_grids(self, setup: Setup) -> Sequence[Grid]:
        own = UserCode(f"question {self.name}")
        grids = own.call_if_user_code("grids", self.grids, setup)
        own.require(all_are(grids, Grid), "grids", grids, "a list of Grid")
        return grids

    def answer(self, study: Study) -> Answer:
        """Analyse every task separately; too few runs give an inconclusive verdict."""
        by_task: dict[str, list] = {}
        for run in study.runs:
            if run.state in ("finished", "failed"):
                by_task.setdefault(run.task, []).append(run)
        if not study.finished:
            return Answer((inconclusive("No run has finished yet."),))
        own, answers = UserCode(f"question {self.name}"), {}
        for task, runs in by_task.items():
            try:
                part = dataclasses.replace(study, runs=tuple(runs))
                answer = own.call_if_user_code("analyse", self.analyse, part)
            except OutsideError:
                raise
            except UserError as error:
                answer = Answer((inconclusive(f"The question cannot be answered: {error}"),))
            own.require(isinstance(answer, Answer), "analyse", answer, "an Answer")
            answers[task] = answer
        answer = next(iter(answers.values()))
        if len(answers) > 1:
            try:
                overall = aggregate_over_tasks(study_groups(study), final_score, study.failed)
            except UserError as error:  # such as runs with too few evaluations for a final score
                overall = Answer((inconclusive(f"The tasks cannot be compared together: {error}"),))
            answer = concatenate_answers(overall, merge_task_answers(answers))
        missing = [run.name for run in study.runs if run.state != "finished"]
        if missing:
            note = f"Excluded, since they have not finished: {', '.join(missing)}."
            answer = dataclasses.replace(answer, notes=(*answer.notes, note))
        return answer
