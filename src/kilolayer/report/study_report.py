"""A study as one HTML file: question, verdicts, evidence and caveats."""

from pathlib import Path

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.study import Study
from kilolayer.physics.native import MujocoWorld
from kilolayer.report.answer_plots import answer_body, answer_verdicts
from kilolayer.report.ledger import NOT_COMPARABLE
from kilolayer.report.page import Plan, cards, page, paragraph
from kilolayer.report.study_layout import Layout
from kilolayer.report.study_ledger import (
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
from kilolayer.tasks.registry import TASKS
from kilolayer.types import UserError

MOST_NAMES = 6  # in a notice


def write_study_report(study: Study, answer: Answer, published: Path | None = None) -> Path:
    """Write `report.html` into the study directory and return its path.

    published: a file of published curves (see `read_published`); the page draws the study's curves
    over them. A study without finished runs works too. A section that cannot be drawn shows the
    reason in a sentence. Films are also kept in `media/`. Raises UserError if the file cannot be
    written.
    """
    layout = Layout(study, answer, published)
    sections = [plan.section(layout) for plan in SECTIONS]
    target = study.path / "report.html"
    write_atomically(target, page(study.asks, _top(layout), sections))
    return target


def _evidence(layout: Layout) -> str:
    answer = layout.answer
    if not answer.plots and not answer.tables:
        raise UserError("the analysis gave neither plots nor tables, for want of finished runs.")
    return answer_body(answer)


SECTIONS: tuple[Plan[Layout], ...] = (
    Plan(
        "evidence",
        "Evidence",
        "What the verdicts rest on. Whiskers and bands are 95 % intervals over seeds; those of few "
        "seeds may leave the panel.",
        _evidence,
    ),
    Plan(
        "curves",
        "Learning curves",
        "Evaluations with the deterministic policy. Thin: one seed each. Thick: their mean. "
        "Band: 95 % interval of the mean, which may leave the panel.",
        curves_section,
    ),
    Plan(
        "behaviour",
        "Behaviour side by side",
        "How the trained agents move: whether a better score is also another way of moving.",
        behaviour_section,
    ),
    Plan(
        "maps",
        "What the critics believe",
        "The same goals (stars) seen by each critic. Brighter is closer in its view; where it "
        "knows the walls, brightness fades along the corridors and not through them.",
        maps_section,
    ),
    Plan(
        "cost",
        "Cost",
        "What each group of runs took, to be held against what it gained.",
        cost_section,
    ),
    Plan(
        "published",
        "Beside published curves",
        "Thick: this study. Dashed: published. A colour is a depth; the axis of steps is "
        "logarithmic.",
        published_section,
    ),
    Plan(
        "runs",
        "What was run and what failed",
        "Every run of the grid, with the scores of its newest evaluation. Marked rows have not "
        "finished and count in no figure above.",
        runs_section,
    ),
    Plan(
        "notes",
        "Methods",
        "How the figures were made, and what was assumed.",
        notes_section,
    ),
    Plan(
        "environment",
        "Environment",
        "What a repeat needs: the command, versions, code and devices.",
        environment_section,
    ),
)


def _top(layout: Layout) -> str:
    study, answer = layout.study, layout.answer
    verdicts = (
        answer_verdicts(answer) if answer.verdicts else paragraph("No verdict yet.", "notice")
    )
    subtitle = f"Study {study.question}, size {study.size}. {run_counts(study)}"
    return paragraph(subtitle, "how") + verdicts + _notices(layout) + _cards(layout)


def _notices(layout: Layout) -> str:
    study, notices = layout.study, []
    absent = [f"{run.name} ({run.state})" for run in study.runs if run.state != "finished"]
    if absent:
        notices.append(
            f"{len(absent)} of {len(study.runs)} runs did not finish, and the verdicts rest on the "
            f"others: {_some(absent)}."
        )
    if study.finished:
        few = [group.name for group in layout.groups if group.seeds < 3]
        if few:
            notices.append(f"Fewer than three seeds: {_some(few)}.")
        tasks = {group.runs[0].task.name: group.runs[0].task for group in layout.groups}
        if any(name in TASKS and isinstance(t.world, MujocoWorld) for name, t in tasks.items()):
            notices.append(NOT_COMPARABLE)
    return "".join(paragraph(text, "notice") for text in notices)


def _some(names: list[str]) -> str:
    """At most `MOST_NAMES` names, and the number of the other names."""
    more = len(names) - MOST_NAMES
    return "; ".join(names[:MOST_NAMES]) + (f"; and {more} more" if more > 0 else "")


def _cards(layout: Layout) -> str:
    study = layout.study
    if not study.finished:
        return ""
    seeds = [group.seeds for group in layout.groups]
    tasks = dict.fromkeys(group.runs[0].task.name for group in layout.groups)
    hours = compute_hours(study)
    spent = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return cards(
        [
            (f"{len(study.finished)} of {len(study.runs)}", "runs finished"),
            (str(len(seeds)), "groups that differ by more than their seed"),
            (" to ".join(dict.fromkeys(str(n) for n in (min(seeds), max(seeds)))), "seeds each"),
            (str(len(tasks)), f"task{'s' * (len(tasks) > 1)}: {', '.join(tasks)}"),
            (spent, "wall-clock of all runs together"),
        ]
    )
