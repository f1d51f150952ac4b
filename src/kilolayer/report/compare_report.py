"""A comparison of groups of runs, as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.compare import groups_by_task
from kilolayer.analysis.groups import Group
from kilolayer.report.answer_plots import answer_body, answer_verdicts
from kilolayer.report.group_curves import group_curves
from kilolayer.report.page import Section, bullets, page, paragraph, table
from kilolayer.runtime.files import write_atomically


def write_comparison(groups: Sequence[Group], answer: Answer, target: Path) -> Path:
    """Write the page of a comparison; raises UserError if the file cannot be written."""
    by_task = groups_by_task(groups)
    runs = [
        (group.name, str(run.config.seed), str(run.path)) for group in groups for run in group.runs
    ]
    names = {group.name: group.name for own in by_task.values() for group in own}
    sections = [
        Section(
            "scores",
            "Scores",
            "Mean over seeds with its 95 % interval; a single seed has none.",
            answer_body(answer),
        ),
        Section(
            "curves",
            "Learning curves",
            "Evaluations with the deterministic policy. Thin: one seed each. Thick: their mean. "
            "Band: 95 % interval of the mean, which may leave the panel.",
            group_curves(by_task, names),
        ),
        Section(
            "runs",
            "Runs",
            "Groups are named by the fields in which their configs differ.",
            table(("group", "seed", "directory"), runs),
        ),
        Section("notes", "Methods", "How the figures were made.", bullets(answer.notes)),
    ]
    count = sum(group.seeds for group in groups)
    top = paragraph(f"{count} runs in {len(groups)} groups that differ by more than their seed.")
    title = f"{', '.join(by_task)}: {len(groups)} groups of runs compared"
    write_atomically(target, page(title, top + answer_verdicts(answer), sections))
    return target
