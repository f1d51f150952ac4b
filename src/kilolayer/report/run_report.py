"""The report of a run: one HTML file that needs no network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kilolayer.analysis.load import Run
from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.physics.native import MujocoWorld
from kilolayer.report.page import SectionSpec, cards, notices, page, paragraph, section_html, table
from kilolayer.report.run_sections import (
    behaviour_curves,
    blocks_section,
    learning_curves,
    success_by_path,
    time_bar,
    trajectories_section,
    values_section,
    video_section,
)
from kilolayer.report.svg import rounded_count
from kilolayer.runtime.files import read_json, write_atomically
from kilolayer.runtime.progress import duration
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import TASKS

COMPARABILITY_NOTE = (
    "Compare trends with published scores of this task, not absolute scores: contacts, solver and "
    "integrator of the published simulator differ."
)


def write_report(run: Run) -> Path:
    """Write `report.html` into the run directory and return its path.

    The run may be unfinished. A section that cannot be drawn shows the reason. The film is also
    stored in `media/`. Raises UserError if the file cannot be written.
    """
    title = f"{run.task.name}, depth {run.config.network.depth}"
    sections = [spec.section(run) for spec in SECTIONS]
    # Score and film come before the table of contents.
    film = "".join(section_html(part) for part in sections if part.anchor == FILM_ANCHOR)
    others = [part for part in sections if part.anchor != FILM_ANCHOR]
    notice = notices([COMPARABILITY_NOTE] * has_published_scores(run.task))
    target = run.path / "report.html"
    write_atomically(target, page(title, headline(run) + film + notice, others))
    return target


def headline(run: Run) -> str:
    """Notices on the run's state, and its headline figures."""
    config, task, unit = run.config, run.task, run.task.goal.coordinates[0].unit
    steps, updates = run.newest_count("env_steps"), run.newest_count("updates")
    progress = (rounded_count(steps), f"environment steps, {updates:,} updates")
    if config.collection.dataset is not None:
        progress = (rounded_count(updates), "updates from a dataset")
    actor, critic = run.schedule.actor_torso.depth, run.schedule.critic_torso.depth
    depth = (str(actor), "layers deep")
    if actor != critic:
        depth = (f"{actor} / {critic}", "layers deep: actor / critic")
    figures = [
        (_last(run, "evaluation/success", ".0%"), "success, share of episodes"),
        (
            _last(run, "evaluation/time_at_goal", ".1f"),
            f"control steps at the goal, of {task.episode_length}",
        ),
        (_last(run, "evaluation/smallest_distance", ".2f"), f"{unit}, smallest distance (mean)"),
        progress,
        (duration(run.wall_clock_seconds), "wall-clock time"),
        depth,
        (str(config.network.width), "units wide"),
    ]
    subtitle = (
        f"Newest evaluation: deterministic policy, goals of the evaluation split. A step is a "
        f"success within {task.goal.radius:.3g} {unit} of the goal. Seed {config.seed}. "
        f"Directory: {run.path.name}."
    )
    return _notices(run, steps, updates) + cards(figures) + paragraph(subtitle, "caption")


def _notices(run: Run, steps: int, updates: int) -> str:
    texts = []
    if not run.directory.finished:
        done = steps if run.config.collection.dataset is None else updates
        texts.append(
            f"This run is unfinished: {done:,} of {run.planned_progress:,} {run.progress_unit} are "
            "logged."
        )
        if nonfinite := [event for event in run.events if event["event"] == "nonfinite"]:
            tensor = nonfinite[-1].get("tensor")
            texts.append(f"Training stopped because {tensor} was not finite.")
        if any(event.get("stopped") for event in run.events):
            texts.append("Training stopped because too many environments diverged in one unroll.")
    return notices([*texts, *divergence_notes(run)])


def has_published_scores(task: Task) -> bool:
    """Whether scores of this task, from another simulator, are published."""
    return task.name in TASKS and isinstance(task.world, MujocoWorld)


def divergence_notes(run: Run) -> list[str]:
    """One sentence on environments that diverged during training, an empty list if none did."""
    count, share = run.diverged
    if count == 0:
        return []
    return [
        f"Environments diverged {count:,} times during training ({share:.2g} of the environment "
        "steps) and were reset. A smaller time step or weaker actuators prevent this."
    ]


def time_section(run: Run) -> str:
    """Bar and table of the run's seconds by part."""
    profiles = [event for event in run.events if event["event"] == "profile"]
    if not profiles or not profiles[-1]["seconds_per_round"]:
        return _time_of_unprofiled(run)
    seconds, per_round = profiles[-1]["seconds"], profiles[-1]["seconds_per_round"]
    parts = _split_training(seconds, per_round)
    total = sum(parts.values()) or 1.0
    rows = [
        (
            name,
            f"{value:,.1f}",
            f"{value / total:.1%}",
            f"{1000 * per_round[name]:,.1f}" if name in per_round else "",
        )
        for name, value in parts.items()
    ]
    notes = (
        "Physics, policy, sampling and update are shares of the training rounds, measured "
        "separately on the final state. Evaluation includes its compilation."
    )
    header = ("part", "seconds", "share", "milliseconds per round")
    return time_bar(parts) + table(header, rows) + paragraph(notes)


def _split_training(seconds: dict[str, float], per_round: dict[str, float]) -> dict[str, float]:
    """Seconds of the whole run; training is divided in the proportions of the profiled round."""
    round_seconds = sum(per_round.values()) or 1.0
    train = seconds.get("train", 0.0)
    parts = {name: seconds[name] for name in ("compile", "prefill") if name in seconds}
    parts |= {name: train * value / round_seconds for name, value in per_round.items()}
    return parts | {name: value for name, value in seconds.items() if name not in (*parts, "train")}


def _time_of_unprofiled(run: Run) -> str:
    seconds = [event["seconds"] for event in run.events if "seconds" in event]
    if not seconds:
        raise UserError("The run has no checkpoint yet, so no times are known.")
    rows = [(name, f"{value:,.1f}") for name, value in seconds[-1].items()]
    text = (
        "The parts of a round are measured at the end of training, unless the run has "
        "--no-profile. Only these times are known."
    )
    return paragraph(text, "notice") + table(("part", "seconds"), rows)


def config_section(run: Run) -> str:
    """Every field of the config beside its default."""
    values = run.config.flat()
    defaults = RunConfig().having(agent=run.config.agent_name).flat()
    changed = [values[name] != defaults[name] for name in values]
    rows = [
        (name, _value(values[name]), _value(defaults[name]), "changed" if differs else "")
        for name, differs in zip(values, changed, strict=True)
    ]
    return table(("field", "value", "default", ""), rows, changed)


def environment_section(run: Run) -> str:
    """The manifest, one line per entry."""
    return table(("entry", "value"), list(manifest_entries(run.path / "manifest.json")))


def manifest_entries(path: Path) -> Iterator[tuple[str, str]]:
    """A manifest as names and values; raises UserError if it cannot be read."""
    return entries(read_json(path, "put it back from a copy"))


def entries(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All values of nested JSON, each with its path as its name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from entries(inner, f"{name} {key}".strip())
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _last(run: Run, metric: str, form: str) -> str:
    value = run.newest(metric)
    return "none yet" if value is None else format(value, form)


FILM_ANCHOR = "video"

SECTIONS: tuple[SectionSpec[Run], ...] = (
    SectionSpec(
        FILM_ANCHOR,
        "Film",
        "The first environments of the newest evaluation, not selected by score.",
        video_section,
    ),
    SectionSpec(
        "curves",
        "Learning curves",
        "Upper row: evaluations with the deterministic policy. Higher is better, except for the "
        "distance. Lower row: metrics of every training round. A contrastive critic's accuracy is "
        "the share of state-action pairs with the highest energy for their own goal in the batch.",
        learning_curves,
    ),
    SectionSpec(
        "trajectories",
        "Trajectories",
        "The environment from above. A line is one episode; a circle is a goal with its success "
        "radius.",
        trajectories_section,
    ),
    SectionSpec(
        "paths",
        "Success by path length",
        "Share of successful episodes for each length of the shortest path from start to goal.",
        success_by_path,
    ),
    SectionSpec(
        "behaviour",
        "Movement",
        "Movement metrics of each evaluation. They show changes of behaviour that the score does "
        "not show. Path efficiency is the length of the shortest path divided by the length of "
        "the path taken, in successful episodes.",
        behaviour_curves,
    ),
    SectionSpec(
        "values",
        "Value maps",
        "The critic's value with the body at each position, for the goal at the star. Brighter is "
        "higher. If the critic has learnt the walls, values fall along the corridors; otherwise "
        "they fall along the straight line through the walls.",
        values_section,
    ),
    SectionSpec(
        "blocks",
        "Residual blocks",
        "Diagnostics from the first block to the last, on a batch from the replay buffer. A "
        "falling rank, an exploding norm, dormant units or a vanishing gradient show that depth "
        "is not used.",
        blocks_section,
    ),
    SectionSpec("time", "Time", "Wall-clock seconds of the whole run, by part.", time_section),
    SectionSpec(
        "config",
        "Config",
        "The config of the run. Highlighted rows differ from the defaults of RunConfig.",
        config_section,
    ),
    SectionSpec(
        "environment",
        "Environment",
        "What is needed to reproduce the run: command, versions, code and devices.",
        environment_section,
    ),
)
