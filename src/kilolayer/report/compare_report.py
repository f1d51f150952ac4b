"""A comparison of groups of runs, as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.compare import groups_by_task
from kilolayer.analysis.groups import Group
from kilolayer.report.answer_plots import answer_body, answer_verdicts
from kilolayer.report.group_curves import CURVES_CAPTION, group_curves
from kilolayer.report.page import Section, bullet_list, page, paragraph, table
from kilolayer.runtime.files import write_atomically


def write_comparison(groups: Sequence[Group], answer: Answer, target: Path) -> Path:
    """Write the page of a comparison; raises UserError if the file cannot be written."""
    by_task = groups_by_task(groups)
    runs = [
        (group.name, str(run.config.seed), str(run.path)) for group in groups for run in group.runs
    ]
    names = {group.name: group.name for task_groups in by_task.values() for group in task_groups}
    sections = [
        Section(
            "scores",
            "Scores",
            "Mean over seeds with its 95 % interval. A single seed has no interval.",
            answer_body(answer),
        ),
        Section("curves", "Learning curves", CURVES_CAPTION, group_curves(by_task, names)),
        Section(
            "runs",
            "Runs",
            "A group is named after the config fields that differ between groups.",
            table(("group", "seed", "directory"), runs),
        ),
        Section("notes", "Methods", "How the results were computed.", bullet_list(answer.notes)),
    ]
    count = sum(group.seeds for group in groups)
    top = paragraph(
        f"{count} runs in {len(groups)} groups. Runs of a group differ only by their seed."
    )
    title = f"{', '.join(by_task)}: comparison of {len(groups)} groups of runs"
    write_atomically(target, page(title, top + answer_verdicts(answer), sections))
    return target
