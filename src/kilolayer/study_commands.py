"""The command `kilolayer study`: parses and prints only."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from kilolayer.errors import UserError
from kilolayer.terminal import OUTPUT


def study(
    name: str | None = None,
    size: Literal["quick", "laptop", "body", "paper"] = "quick",
    out: Path | None = None,
    task: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    depths: tuple[int, ...] = (),
    seeds: int | None = None,
    executor: Literal["local", "ray", "slurm"] = "local",
    jobs: int | None = None,
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    smallest_effect: float | None = None,
    dry_run: bool = False,
    calibration: bool = False,
) -> None:
    """Answer a question about depth with many runs: `kilolayer study NAME`. Without a name, list
    all questions.

    Finished runs are never repeated. The same command continues an interrupted study. More seeds
    or depths extend it.

    Args:
        name: The question to answer, or module:function of your own question. Default: list the
            questions and train nothing.
        size: Size of the grid. quick rehearses the question on a point maze, minutes on two cores;
            laptop trains on the hardest point maze, hours; body trains an arm that pushes, about
            six hours of a core; paper needs GPUs.
        out: The study directory. Default: studies/NAME-SIZE. Set it to keep two studies of one
            question and size.
        task: Task of the runs. Repeat the option for several tasks. Default: the task of the size.
        depths: Depths to compare. Default: the depths of the size.
        seeds: Seeds per combination. Default: the seeds of the size. An interval needs at least
            two, a p-value below 0.05 at least four.
        executor: Where the runs train: local processes, a Ray cluster or Slurm jobs.
        jobs: Number of runs at the same time. Default: as many as cores and memory allow. Reduce it
            if the machine has other work.
        from_: Analyse all runs of this study directory instead of training. Default: train. Use it
            to answer another question with existing runs.
        smallest_effect: The largest difference that does not matter, as a share of the score's
            range, such as 0.1. Default: that of the existing study, 0.05 for a new study. Set it
            before the runs.
        dry_run: Print the runs and their cost, and train nothing. Default: train.
        calibration: With --dry-run: compile and time one run of each task to forecast hours and
            memory. Default: count operations only, which takes about a second per run.
    """
    from rich.table import Table

    from kilolayer.studies import run as studies
    from kilolayer.studies.cost import cost_table, memory_sentence

    if name is None:
        table = Table("name", "question", title="kilolayer study NAME", title_justify="left")
        for key, question in studies.QUESTIONS.items():
            table.add_row(key, question().text)
        OUTPUT.print(table)
        return
    if calibration and not dry_run:
        raise UserError("--calibration times a run for the table of --dry-run: give both.")
    if dry_run and from_ is not None:
        raise UserError("--from trains nothing, so there is no cost to forecast: omit --dry-run.")
    if dry_run:
        studies.check_options(jobs, smallest_effect)  # what the study itself would refuse
        cost = studies.dry_run(name, size, task, depths, seeds, calibration)
        OUTPUT.print(cost_table(cost))
        OUTPUT.print(memory_sentence(cost))
        return
    result = studies.study(
        name, size, out, task, depths, seeds, executor, jobs, from_, smallest_effect
    )
    OUTPUT.print(f"\n{result.study.question_text}", style="bold")
    for verdict in result.answer.verdicts:
        OUTPUT.print(f"- {verdict}")
    for run in result.study.runs:
        if run.failure is not None:
            OUTPUT.print(f"failed: {run.name}, see {result.study.path}/failures/{run.name}.txt")
    OUTPUT.print(f"report  {result.report}")


COMMANDS = {"study": study}
