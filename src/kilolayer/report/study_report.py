"""The report of a study as one HTML file: question, verdicts, evidence and caveats."""

from pathlib import Path

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.groups import range_text
from kilolayer.analysis.study import Study
from kilolayer.report.answer_plots import answer_body, answer_verdicts
from kilolayer.report.group_curves import CURVES_CAPTION
from kilolayer.report.page import SectionSpec, cards, page, paragraph
from kilolayer.report.run_metadata import COMPARABILITY_NOTE, has_published_scores
from kilolayer.report.study_layout import Layout
from kilolayer.report.study_metadata import (
    compute_hours,
    cost_section,
    environment_section,
    notes_section,
    published_section,
    run_counts,
    runs_section,
)
from kilolayer.report.study_sections import behaviour_section, curves_section, maps_section
from kilolayer.runtime.files import write_atomically
from kilolayer.types import UserError

MAX_NAMES = 6  # in a notice


def write_study_report(study: Study, answer: Answer, published: Path | None = None) -> Path:
    """Write `report.html` into the study directory and return its path.

    published: a file of published curves (see `read_published`), drawn beside the study's curves.
    The study may have no finished runs. A section that cannot be drawn shows the reason. Films are
    also stored in `media/`. Raises UserError if the file cannot be written.
    """
    layout = Layout(study, answer, published)
    sections = [spec.section(layout) for spec in SECTIONS]
    target = study.path / "report.html"
    write_atomically(target, page(study.question_text, _top(layout), sections))
    return target


def _evidence(layout: Layout) -> str:
    answer = layout.answer
    if not answer.plots and not answer.tables:
        raise UserError(
            "the analysis has no plots and no tables, since too few runs have finished."
        )
    return answer_body(answer)


SECTIONS: tuple[SectionSpec[Layout], ...] = (
    SectionSpec(
        "evidence",
        "Evidence",
        "The plots and tables behind the verdicts. Error bars and bands are 95 % intervals over "
        "seeds. Intervals of few seeds may extend beyond the panel.",
        _evidence,
    ),
    SectionSpec("curves", "Learning curves", CURVES_CAPTION, curves_section),
    SectionSpec(
        "behaviour",
        "Movement",
        "Films and movement metrics of the trained agents: whether agents with a better score also "
        "move differently.",
        behaviour_section,
    ),
    SectionSpec(
        "maps",
        "Value maps",
        "The values of each critic for the same goals (stars). Brighter is higher. If a critic has "
        "learnt the walls, values fall along the corridors; otherwise they fall along the straight "
        "line through the walls.",
        maps_section,
    ),
    SectionSpec(
        "cost",
        "Cost",
        "Time, steps, parameters and operations of each group of runs.",
        cost_section,
    ),
    SectionSpec(
        "published",
        "Published curves",
        "Thick: this study. Dashed: published. Colour: depth. The axis of steps is logarithmic.",
        published_section,
    ),
    SectionSpec(
        "runs",
        "Runs",
        "Every run of the grid, with the scores of its newest evaluation. Highlighted rows have "
        "not finished and are excluded from all results above.",
        runs_section,
    ),
    SectionSpec(
        "notes", "Methods", "How the results were computed, and the assumptions.", notes_section
    ),
    SectionSpec(
        "environment",
        "Environment",
        "What is needed to reproduce the study: question, size, versions, code and devices. "
        "study.json has the config of every run.",
        environment_section,
    ),
)


def _top(layout: Layout) -> str:
    study, answer = layout.study, layout.answer
    verdicts = (
        answer_verdicts(answer) if answer.verdicts else paragraph("No verdict yet.", "notice")
    )
    subtitle = f"Study {study.question}, size {study.size}. {run_counts(study)}"
    return paragraph(subtitle, "caption") + verdicts + _notices(layout) + _cards(layout)


def _notices(layout: Layout) -> str:
    study, notices = layout.study, []
    unfinished = [f"{run.name} ({run.state})" for run in study.runs if run.state != "finished"]
    if unfinished:
        notices.append(
            f"{len(unfinished)} of {len(study.runs)} runs did not finish and are excluded from the "
            f"verdicts: {_first_names(unfinished)}."
        )
    if study.finished:
        few = [group.name for group in layout.groups if group.seeds < 3]
        if few:
            notices.append(f"Fewer than three seeds: {_first_names(few)}.")
        if any(has_published_scores(group.runs[0].task) for group in layout.groups):
            notices.append(COMPARABILITY_NOTE)
    return "".join(paragraph(text, "notice") for text in notices)


def _first_names(names: list[str]) -> str:
    """At most `MAX_NAMES` names, and the number of the remaining names."""
    more = len(names) - MAX_NAMES
    return "; ".join(names[:MAX_NAMES]) + (f"; and {more} more" if more > 0 else "")


def _cards(layout: Layout) -> str:
    study = layout.study
    if not study.finished:
        return ""
    seeds = [group.seeds for group in layout.groups]
    tasks = dict.fromkeys(group.runs[0].task.name for group in layout.groups)
    hours = compute_hours(study)
    duration = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return cards(
        [
            (f"{len(study.finished)} of {len(study.runs)}", "runs finished"),
            (str(len(seeds)), "groups of runs that differ only by their seed"),
            (range_text(seeds, str), "seeds per group"),
            (str(len(tasks)), f"task{'s' * (len(tasks) > 1)}: {', '.join(tasks)}"),
            (duration, "wall-clock time of all runs together"),
        ]
    )
