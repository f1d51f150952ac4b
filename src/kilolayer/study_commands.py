"""The command that answers a question about depth. Like `cli.py`, no logic."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

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
    the questions that there are.

    Finished runs are never repeated: the same command continues an interrupted study, and more
    seeds or depths extend it.

    Args:
        name: The question, or module:function of your own.
        size: quick trains on a point maze, minutes on two cores; laptop on the hardest one,
            hours; body trains an arm that pushes, a day; paper is for GPUs.
        out: The study directory. Default: studies/NAME-SIZE.
        task: Train on this task instead of the study's. Repeat the option for several tasks.
        depths: Depths to compare instead of the study's.
        seeds: Seeds of every combination instead of the study's. An interval needs at least two.
        executor: Where the runs go: local processes, a Ray cluster or Slurm jobs.
        jobs: Runs at once. Default: as many as cores and memory allow.
        from_: Analyse the runs of this study directory instead of training.
        smallest_effect: The largest difference that does not matter, as a share of the best
            possible score, such as 0.1. Default: that of the study, 0.05 for a new one.
        dry_run: Print the grid and its cost, and train nothing.
        calibration: Compile and time one run for the hours and the memory of a dry run.
    """
    from kilolayer.studies import run as studies
    from kilolayer.studies.tables import cost_table, memory_sentence, question_table

    if name is None:
        asked = {key: question().asks for key, question in studies.QUESTIONS.items()}
        OUTPUT.print(question_table(asked))
        return
    if dry_run:
        cells, cost = studies.dry_run(name, size, task, depths, seeds, calibration)
        OUTPUT.print(cost_table(cells, cost))
        OUTPUT.print(memory_sentence(cost))
        return
    found = studies.study(
        name, size, out, task, depths, seeds, executor, jobs, from_, smallest_effect
    )
    OUTPUT.print(f"\n{found.study.asks}", style="bold")
    for verdict in found.answer.verdicts:
        OUTPUT.print(f"- {verdict}")
    for run in found.study.runs:
        if run.failure is not None:
            OUTPUT.print(f"failed: {run.name}, see {found.study.path}/failures/{run.name}.txt")
    OUTPUT.print(f"report  {found.report}")


COMMANDS = {"study": study}
