"""Draws score against depth for a study: curves with intervals, and film strips of two depths.

Run from the root of the repository:
python -m docs.make_depth_picture STUDY PICTURE.png [--published curves_depth.json]

Curves: mean over seeds and its 95 % interval (Student's t, cut to what a score can be). Film
strips: the first episodes of the last evaluation, unselected, of the first seed that the shallowest
and the deepest network share. Both play the same starts and goals. With --published a second panel
has the published means of the task and their standard errors (arXiv 2503.14858).
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kilolayer.analysis.groups import Group, score_bounds, study_groups
from kilolayer.analysis.load import Run
from kilolayer.analysis.published import EPISODE_LENGTH, read_published
from kilolayer.analysis.study import load_study
from kilolayer.errors import UserError
from kilolayer.render.media import freeze_after_termination, render_frames
from kilolayer.render.style import line_style
from kilolayer.report.group_curves import draw_mean
from kilolayer.report.svg import new_figure, short_count
from kilolayer.tasks.base import is_success

SCORE = "evaluation/time_at_goal"
GOALS = 5  # film strips of each depth
MOMENTS = 4  # frames in a strip
PIXELS = 240  # of a frame
COLOURS = 128  # of the picture: a third of the bytes, no difference to the eye


def by_depth(path: Path) -> dict[int, Group]:
    """The groups of a study over depth, ascending; raises UserError if it varies anything else."""
    groups = study_groups(load_study(path))
    if len(groups) < 2 or any(set(group.factors) != {"depth"} for group in groups):
        raise UserError(f"{path} holds no two depths, or varies more than depth: take another.")
    return dict(sorted((group.factors["depth"], group) for group in groups))


def draw_curves(axes: Axes, groups: dict[int, Group]) -> None:
    for index, (depth, group) in enumerate(groups.items()):
        steps, values = group.curve(SCORE)
        style, bounds = line_style(index), score_bounds(group.runs[0].task, SCORE)
        label = f"depth {depth}"
        draw_mean(axes, steps, values, bounds, style.colour, linestyle=style.dash, label=label)
    task = next(iter(groups.values())).runs[0].task
    seeds = {depth: group.seeds for depth, group in groups.items()}
    counts = sorted(set(seeds.values()))
    text = f"{counts[0]} seeds each" if len(counts) == 1 else f"seeds: {seeds}"
    axes.set_title(f"{task.name}, {text}", fontsize=10)
    _style(axes, task.episode_length, "lower right")


def draw_published(axes: Axes, file: Path, task: str) -> None:
    """The published curves of the task; raises UserError if the file has none."""
    published = read_published(file)
    if task not in published:
        raise UserError(f"{file} has no curves of {task}, only of {', '.join(published)}.")
    for index, (depth, curve) in enumerate(published[task].items()):
        style = line_style(index)
        axes.plot(
            curve.steps, curve.mean, style.dash, color=style.colour, label=f"depth {depth}", lw=1.2
        )
        low, high = curve.mean - curve.error, curve.mean + curve.error
        axes.fill_between(curve.steps, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axes.set_title("published, other simulator and settings", fontsize=10)
    _style(axes, EPISODE_LENGTH, "lower right")


def _style(axes: Axes, episode_length: int, legend: str) -> None:
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"steps at the goal, of {episode_length:,}")
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7, loc=legend, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)


def shared_seed(shallow: Group, deep: Group) -> tuple[Run, Run]:
    """The runs of the first seed that both have; raises UserError if they share none."""
    of_deep = {run.config.seed: run for run in deep.runs}
    for run in shallow.runs:
        if run.config.seed in of_deep:
            return run, of_deep[run.config.seed]
    raise UserError(f"{shallow.name} and {deep.name} share no seed to film.")


def strips(run: Run, goals: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames `[moments, height, width of all goals, 3]` and the goals `[goals, goal]`."""
    episodes = run.episodes("evaluation")
    qpos, goal = episodes["qpos"][:, :goals], episodes["goal"][:, :goals]
    qpos = freeze_after_termination(qpos, episodes["alive"][:, :goals])
    reached = np.asarray(is_success(run.task, episodes["achieved"][:, :goals], goal))
    moments = np.linspace(0, len(qpos) - 1, MOMENTS).round().astype(int)
    frames = []
    for k in range(qpos.shape[1]):
        shown = (moments, slice(k, k + 1))
        frames.append(render_frames(run.task, qpos[shown], goal[shown], reached[shown], PIXELS))
    return np.stack(frames), goal[0]


def draw(path: Path, picture: Path, published: Path | None) -> None:
    groups = by_depth(path)
    shallow, deep = min(groups), max(groups)
    runs = dict(zip((shallow, deep), shared_seed(groups[shallow], groups[deep]), strict=True))
    drawn = {depth: strips(run, GOALS) for depth, run in runs.items()}
    if not np.allclose(drawn[shallow][1], drawn[deep][1]):
        raise UserError(f"depths {shallow} and {deep} were evaluated with other goals.")
    figure: Figure = new_figure(12, 4.2 if published is None else 5.4)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
    panels = left.subplots(1 if published is None else 2, 1, squeeze=False)[:, 0]
    draw_curves(panels[0], groups)
    if published is not None:
        draw_published(panels[1], published, runs[deep].task.name)
    control_step, length = runs[deep].task.world.control_step, runs[deep].task.episode_length
    grid = right.subplots(GOALS, 2, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for column, (depth, (frames, _)) in zip(grid.T, drawn.items(), strict=True):
        for axes, strip in zip(column, frames, strict=True):
            axes.imshow(np.concatenate(list(strip), axis=1), interpolation="lanczos")
            axes.set(xticks=[], yticks=[])
        column[0].set_title(f"depth {depth}", fontsize=10)
        column[-1].set_xlabel(f"time, 0 to {control_step * length:.3g} s", fontsize=8)
    for number, axes in enumerate(grid[:, 0], start=1):
        axes.set_ylabel(f"goal {number}", fontsize=8)
    figure.savefig(picture, dpi=110)
    with Image.open(picture) as drawing:
        few = drawing.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--published", type=Path, help="file with the published curves")
    arguments = parser.parse_args()
    draw(arguments.study, arguments.picture, arguments.published)


if __name__ == "__main__":
    main()
