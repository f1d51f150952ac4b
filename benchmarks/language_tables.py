"""The tables of `benchmarks.language`, in markdown, from its cells."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.distillation import told
from kilolayer.language.base import SPLITS


def grouped(cells: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """By method, encoder and depth: what is left in a group differs by its seed."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["method"], cell["encoder"], cell["depth"]), []).append(cell)
    return groups


def tables(cells: list[dict[str, Any]]) -> str:
    """All tables in markdown."""
    played = grouped([cell for cell in cells if "splits" in cell])
    lines: list[str] = []
    for score, title, form in (
        ("success", "Success", ".2f"),
        ("hard_success", "Success within the hard radius", ".2f"),
        ("time_at_goal", "Control steps at the goal", ".1f"),
    ):
        groups = {
            group: found for group, found in played.items() if score in found[0]["splits"]["seen"]
        }
        lines += by_split(groups, title, lambda s, score=score: s[score], form) if groups else []
    answered = {g: f for g, f in played.items() if g[0].startswith("grounded")}
    for name, title, form in (
        ("right", "Answers within the success radius", ".2f"),
        ("confidence", "Mean confidence", ".2f"),
        ("goal_error", "Goal error", ".2f"),
    ):
        groups = {g: f for g, f in answered.items() if name in f[0]["splits"]["seen"]["goals"]}
        if groups:
            lines += by_split(groups, title, lambda s, name=name: s["goals"][name], form)
    if answered:
        lines += by_split(answered, "Marked as familiar", lambda s: s["familiar"], ".2f")
        lines += by_kind(answered)
    modules = {g: f for g, f in played.items() if "act_ms" in f[0]}
    if modules:
        lines += [
            "",
            "| module | encoder | depth | act, median ms | making a chunk, ms |",
            "|---|---|---|---|---|",
        ]
        for (method, label, depth), found in modules.items():
            times = [
                f"{np.median([c['act_ms'][k] for c in found]):.3f}" for k in ("median", "chunk")
            ]
            lines.append(f"| {method} | {label} | {depth} | {' | '.join(times)} |")
    encoders = [cell for cell in cells if cell["method"] == "encoder"]
    if encoders:
        lines += [
            "",
            "| encoder | seed | first pass, s | from the cache, s | times faster | trainings | "
            "bits unchanged |",
            "|---|---|---|---|---|---|---|",
        ]
        for cell in encoders:
            first, second = cell["first_pass"], cell["second_pass"]
            lines.append(
                f"| {cell['encoder']} | {cell['seed']} | {first:.2f} | {second:.3f} | "
                f"{first / second:.0f} | {cell['trained_with']} | "
                f"{'yes' if cell['unchanged'] else 'NO'} |"
            )
    return "\n".join(lines).strip() + "\n"


def by_split(
    groups: dict, title: str, value: Callable[[dict[str, Any]], float], form: str
) -> list[str]:
    """A table with a column for each split: means and 95 % intervals over seeds."""
    lines = [
        "",
        f"| {title} | encoder | depth | {' | '.join(SPLITS)} | seeds |",
        "|" + "---|" * (len(SPLITS) + 4),
    ]
    for (method, label, depth), found in groups.items():
        columns = [told([value(c["splits"][split]) for c in found], form) for split in SPLITS]
        lines.append(f"| {method} | {label} | {depth} | {' | '.join(columns)} | {len(found)} |")
    return lines


def by_kind(groups: dict) -> list[str]:
    """Answers within the success radius by kind of instruction, means over seeds."""
    lines = [
        "",
        f"| Right, by kind | encoder | depth | kind | {' | '.join(SPLITS)} |",
        "|" + "---|" * (len(SPLITS) + 4),
    ]
    for (method, label, depth), found in groups.items():
        for kind in found[0]["splits"]["seen"]["kinds"]:
            columns = []
            for split in SPLITS:
                kinds = [cell["splits"][split]["goals"]["kinds"] for cell in found]
                values = [each[kind]["right"] for each in kinds if kind in each]
                columns.append(f"{np.mean(values):.2f}" if values else "")
            lines.append(f"| {method} | {label} | {depth} | {kind} | {' | '.join(columns)} |")
    return lines
