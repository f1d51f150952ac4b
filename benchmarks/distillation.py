"""Distilling and pruning against the ways to a small policy that need neither, at equal size.

python -m benchmarks.distillation RUN... [--depth 4] [--out results/distillation] [--work runs/...]

RUN...: teachers, finished runs of one config that differ by their seed alone. A cell is one method
on one teacher; what is done is kept in `--out` as `cells/METHOD-seedN.json` and never repeated, and
a training that was stopped goes on where it was. The table is made of all cells there are.

teacher: as it is. distilled, distilled-critic: on-policy distillation, without and with the weights
of the critic. scratch: the small networks trained with the teacher's environment steps and recipe.
small-actor: the small actor beside a critic as deep as the teacher's, so trained too. cloned:
goal-conditioned behaviour cloning of as many steps of the teacher's data, and as many updates, as
distillation takes. pruned: the curves of both orders, with and without healing.

All scores are of the last checkpoint on the same episodes.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer import api
from kilolayer.analysis.load import Run, load
from kilolayer.analysis.statistics import mean_interval
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import is_policy, open_policy
from kilolayer.deploy.score import Scorer
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.runtime.files import write_atomically

SCORE_SEED = 1  # of episodes that no training has seen
KEPT = 0.95


@dataclass(frozen=True)
class Setting:
    """depth: of the student. recipe: of distillation. work: where runs and policies go."""

    depth: int
    recipe: Recipe
    heal_steps: int
    episodes: int
    work: Path

    def place(self, method: str, teacher: Run) -> Path:
        return self.work / f"{method}-seed{teacher.config.seed}"


def scored(path: Path, teacher: Run, setting: Setting) -> dict[str, Any]:
    policy = open_policy(path)
    scorer = Scorer(teacher.task, teacher.config, setting.episodes, SCORE_SEED)
    scores = scorer.scores(policy.agent, policy.agent_state)
    torso = policy.spec.torso
    return {"depth": torso.depth, "width": torso.width, "details": policy.details, "scores": scores}


def teacher_itself(teacher: Run, setting: Setting) -> dict[str, Any]:
    steps = teacher.schedule.total_steps
    return scored(teacher.path, teacher, setting) | {"steps": steps}


def distilled(teacher: Run, setting: Setting, weighted: bool = False) -> dict[str, Any]:
    place = setting.place("distilled-critic" if weighted else "distilled", teacher)
    if not is_policy(place):
        recipe = dataclasses.replace(setting.recipe, critic_weighted=weighted)
        api.distil(
            teacher.path,
            [setting.depth],
            seeds=[teacher.config.seed],
            recipe=recipe,
            episodes=setting.episodes,
            out=place,
        )
    found = scored(place, teacher, setting)
    return found | {"steps": found["details"]["steps"]}


def distilled_critic(teacher: Run, setting: Setting) -> dict[str, Any]:
    return distilled(teacher, setting, weighted=True)


def scratch(teacher: Run, setting: Setting) -> dict[str, Any]:
    depths = {"depth": setting.depth, "actor_depth": None, "critic_depth": None}
    config = teacher.config.having(**depths)
    return trained("scratch", config, teacher, setting)


def small_actor(teacher: Run, setting: Setting) -> dict[str, Any]:
    config = teacher.config.having(
        actor_depth=setting.depth, critic_depth=teacher.schedule.critic_torso.depth
    )
    return trained("small-actor", config, teacher, setting)


def cloned(teacher: Run, setting: Setting) -> dict[str, Any]:
    data = setting.place("data", teacher).with_suffix(".npz")
    if not data.is_file():
        api.collect(teacher, data, setting.recipe.steps, seed=teacher.config.seed)
    # As many updates on batches of one size as the distilled student has.
    cloning = teacher.config.having(agent="gcbc", batch_size=setting.recipe.batch_size).agent
    config = setting.recipe.config(teacher.config, cloning, teacher.config.seed).having(
        dataset=str(data), depth=setting.depth, actor_depth=None, critic_depth=None
    )
    return trained("cloned", config, teacher, setting) | {"steps": setting.recipe.steps}


def trained(method: str, config: RunConfig, teacher: Run, setting: Setting) -> dict[str, Any]:
    """The score of a run with this config, trained, continued or as it lies there finished."""
    place = setting.place(method, teacher)
    if not (place / "config.json").is_file():
        api.train(config, place, report=False)
    elif not load(place).directory.finished:
        api.resume(place, report=False)
    return scored(place, teacher, setting) | {"steps": load(place).schedule.total_steps}


def pruned(teacher: Run, setting: Setting) -> dict[str, Any]:
    place = setting.place("pruned", teacher)
    if not (place / "prune.json").is_file():
        api.prune(
            teacher.path,
            keep_score=KEPT,
            orders=("greedy", "one-shot"),
            heal=setting.heal_steps,
            episodes=setting.episodes,
            seed=teacher.config.seed,
            out=place,
        )
    curve = json.loads((place / "prune.json").read_text())
    whole = curve["points"][0]["scores"]["time_at_goal"]
    points = [
        {
            "order": point["order"],
            "healed": point["healed"],
            "blocks": len(point["kept"]),
            "kept": point["kept"],
            "divergence": point["divergence"],
            "time_at_goal": point["scores"]["time_at_goal"],
        }
        for point in curve["points"]
    ]
    return {
        "steps": setting.heal_steps,
        "influence": curve["influence"],
        "points": points,
        "gone": shares_gone(points, whole),
    }


def shares_gone(points: Sequence[dict[str, Any]], whole: float) -> dict[str, float]:
    """Largest share of the blocks that can go at 95 % of the score, by order and healing."""
    blocks = max(point["blocks"] for point in points)
    gone: dict[str, float] = {}
    for point in points:
        name = f"{point['order']}, healed" if point["healed"] else point["order"]
        enough = point["time_at_goal"] >= KEPT * whole
        gone[name] = max(gone.get(name, 0.0), (1 - point["blocks"] / blocks) * enough)
    return gone


METHODS: dict[str, Callable[[Run, Setting], dict[str, Any]]] = {
    "teacher": teacher_itself,
    "distilled": distilled,
    "distilled-critic": distilled_critic,
    "pruned": pruned,
    "cloned": cloned,
    "scratch": scratch,
    "small-actor": small_actor,
}

Cells = dict[str, dict[int, dict[str, Any]]]


def read_cells(out: Path) -> Cells:
    """Every cell there is, by method and teacher's seed."""
    cells: Cells = {}
    for name in METHODS:
        for file in sorted((out / "cells").glob(f"{name}-seed*.json")):
            seed = file.stem.removeprefix(f"{name}-seed")
            if seed.isdigit():
                cells.setdefault(name, {})[int(seed)] = json.loads(file.read_text())
    return cells


def told(values: Sequence[float], form: str) -> str:
    """Mean and 95 % interval (Student's, for a single task) over teachers."""
    if len(values) < 2:
        return f"{values[0]:{form}} (one seed)"
    found = mean_interval(np.array(values))
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def tables(cells: Cells) -> str:
    """Two tables in markdown: policies of the student's size, and blocks that can go."""
    lines = [
        "| policy | depth | time at goal [95 %] | of its teacher's [95 %] | success | "
        "environment steps | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    wholes = {s: c["scores"]["time_at_goal"] for s, c in cells.get("teacher", {}).items()}
    for name, found in cells.items():
        if name == "pruned":
            continue
        scores = [cell["scores"]["time_at_goal"] for cell in found.values()]
        shares = [c["scores"]["time_at_goal"] / wholes[s] for s, c in found.items() if s in wholes]
        success = np.mean([cell["scores"]["success"] for cell in found.values()])
        first = next(iter(found.values()))
        lines.append(
            f"| {name} | {first['depth']} | {told(scores, '.1f')} | {told(shares, '.2f')} | "
            f"{success:.2f} | {first['steps']:,} | {len(found)} |"
        )
    if "pruned" in cells:
        lines += ["", "| pruning | share of blocks gone at 95 % of the score [95 %] |", "|---|---|"]
        found = list(cells["pruned"].values())
        for name in found[0]["gone"]:
            lines.append(f"| {name} | {told([cell['gone'][name] for cell in found], '.2f')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("teachers", nargs="+", type=Path)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--heal-steps", type=int, default=100_000)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("results/distillation"))
    parser.add_argument("--work", type=Path, default=Path("runs/distillation"))
    arguments = parser.parse_args()
    recipe = Recipe(steps=arguments.steps)
    setting = Setting(
        arguments.depth, recipe, arguments.heal_steps, arguments.episodes, arguments.work
    )
    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.out / "cells").mkdir(parents=True, exist_ok=True)
    teachers = [load(path) for path in arguments.teachers]
    for method in arguments.methods:
        for teacher in teachers:
            cell = arguments.out / "cells" / f"{method}-seed{teacher.config.seed}.json"
            if cell.is_file():
                continue
            print(f"{method}, teacher {teacher.path}", flush=True)
            write_atomically(cell, json.dumps(METHODS[method](teacher, setting), indent=1) + "\n")
    text = tables(read_cells(arguments.out))
    write_atomically(arguments.out / "table.md", text)
    print(text)


if __name__ == "__main__":
    main()
