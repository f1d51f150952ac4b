"""The headline of a run's report, and its sections on time, config and environment."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kilolayer.analysis.load import Run
from kilolayer.analysis.run_cost import wall_clock_seconds
from kilolayer.config import RunConfig
from kilolayer.physics.native import MujocoWorld
from kilolayer.report.page import cards, paragraph, table
from kilolayer.report.run_plots import time_bar
from kilolayer.report.svg import rounded_count
from kilolayer.runtime.progress import duration
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import TASKS
from kilolayer.types import UserError

COMPARABILITY_NOTE = (
    "Compare trends with published scores of this task, not absolute scores: contacts, solver and "
    "integrator of the published simulator differ."
)


def headline(run: Run) -> str:
    """Notices on the run's state, and its headline figures."""
    config, task, unit = run.config, run.task, run.task.goal.coordinates[0].unit
    steps, updates = run.newest_count("env_steps"), run.newest_count("updates")
    actor, critic = run.plan.actor_torso.depth, run.plan.critic_torso.depth
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
        _progress(run, steps, updates),
        (duration(wall_clock_seconds(run.events)), "wall-clock time"),
        depth,
        (str(config.network.width), "units wide"),
    ]
    return _notices(run, steps, updates) + cards(figures) + paragraph(_subtitle(run), "caption")


def _progress(run: Run, steps: int, updates: int) -> tuple[str, str]:
    if run.config.collection.dataset is not None:
        return rounded_count(updates), "updates from a dataset"
    return rounded_count(steps), f"environment steps, {updates:,} updates"


def _subtitle(run: Run) -> str:
    return (
        f"Newest evaluation: deterministic policy, goals of the evaluation split. A step is a "
        f"success within {run.task.goal.radius:.3g} {run.task.goal.coordinates[0].unit} of the "
        f"goal. Seed {run.config.seed}. Directory: {run.path.name}."
    )


def _notices(run: Run, steps: int, updates: int) -> str:
    notices = []
    nonfinite = [event for event in run.events if event["event"] == "nonfinite"]
    if not run.directory.finished:
        done = steps if run.config.collection.dataset is None else updates
        notices.append(
            f"This run is unfinished: {done:,} of {run.planned_progress:,} {run.progress_unit} are "
            "logged."
        )
    if nonfinite and not run.directory.finished:
        notices.append(f"Training stopped because {nonfinite[-1].get('tensor')} was not finite.")
    if any(event.get("stopped") for event in run.events) and not run.directory.finished:
        notices.append("Training stopped because too many environments diverged in one unroll.")
    notices += divergence_notes(run)
    return "".join(paragraph(text, "notice") for text in notices)


def comparability_notice(run: Run) -> str:
    """Notice on comparisons with published scores; empty for a task without them."""
    return paragraph(COMPARABILITY_NOTE, "notice") if has_published_scores(run.task) else ""


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
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    return entries(manifest)


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
    values = run.curve(metric)[1]
    return format(float(values[-1]), form) if len(values) else "none yet"
