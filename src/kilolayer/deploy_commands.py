"""The commands that turn a trained run into a policy to deploy: like `cli.py`, no logic."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from kilolayer.runtime.progress import LiveDisplay

OUTPUT = Console(highlight=False, soft_wrap=True)

PolicyPath = tyro.conf.Positional[Path]


@contextmanager
def shown() -> Iterator["LiveDisplay"]:
    """A live display that is closed whatever happens."""
    from kilolayer.runtime.progress import LiveDisplay

    display = LiveDisplay()
    try:
        yield display
    finally:
        display.close()


def prune(
    policy: PolicyPath,
    keep_score: float = 0.95,
    target_latency: float | None = None,
    order: tuple[Literal["greedy", "one-shot"], ...] = ("greedy",),
    measure: Literal["divergence", "cosine", "norm"] = "divergence",
    heal: int = 0,
    episodes: int = 128,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Take blocks out of a trained policy and keep the smallest that still does its job.

    Every block is measured on states that the policy comes to: how much it changes the residual
    stream and how far the policy strays without it. Blocks then go one after the other, and what is
    left plays whole episodes. Writes a policy directory with the chosen policy, the whole curve
    (prune.json) and its picture (prune.png).

    Look for: a curve that stays level and then falls (the level part can go); healed points above
    the others (a short distillation pays); a choice at the very edge of a fall (more --episodes).

    Args:
        policy: A run directory or a policy directory.
        keep_score: Share of the whole policy's time at goal to keep; the fewest blocks that do are
            taken.
        target_latency: Milliseconds that one action may take on this machine, in JAX, at batch 1;
            the best score within them is then taken, whatever share that is.
        order: greedy, one block after the other, measured anew each time; one-shot, all measured
            once. Give both for two curves.
        measure: What one-shot goes by: the divergence of the policy without the block, or how much
            the block turns (cosine) or changes (norm) the residual stream.
        heal: Environment steps of a distillation from the whole policy after every removal, such as
            100000; 0 for none. The curve then shows both.
        episodes: Episodes to score each point on.
        seed: Seed of states, episodes and healing.
        out: The policy directory to write; by default policies/prune in the given one.
    """
    from kilolayer.deploy.prune import Wish, prune_run
    from kilolayer.report.prune_plot import write_plot

    with shown() as display:
        found = prune_run(
            policy,
            Wish(keep_score, target_latency),
            order,
            measure,
            heal,
            episodes,
            seed,
            out,
            display=display,
        )
    curve = found.curve
    whole, chosen = curve.points[0], curve.points[curve.chosen]
    table = Table(title=f"{whole.blocks} blocks, {episodes} episodes", title_justify="left")
    for column in ("blocks", "order", "healed", "time at goal", "share", "divergence", "ms"):
        table.add_column(column, justify="right")
    for point in curve.points:
        table.add_row(
            f"{point.blocks}",
            point.order,
            "yes" if point.healed else "",
            f"{point.score:.1f}",
            f"{point.score / whole.score:.0%}",
            f"{point.divergence:.3g}",
            f"{point.latency:.3f}",
            style="bold" if point is chosen else None,
        )
    OUTPUT.print(table)
    gone = (
        "no block can go"
        if chosen.blocks == whole.blocks
        else (f"{whole.blocks - chosen.blocks} of {whole.blocks} blocks go")
    )
    OUTPUT.print(f"{gone}; {chosen.score / whole.score:.0%} of the score is kept")
    OUTPUT.print(f"policy  {found.policy.path}")
    OUTPUT.print(f"picture {write_plot(curve, found.policy.path / 'prune.png')}")


def distil(
    policy: PolicyPath,
    depth: tuple[int, ...] = (4,),
    width: tuple[int, ...] = (),
    steps: int = 500_000,
    seeds: int = 1,
    seed: int = 0,
    critic_weighted: bool = False,
    hindsight_share: float = 0.5,
    teacher_acts: float = 0.1,
    batch_size: int = 256,
    updates_per_step: float = 1 / 20,
    learning_rate: float = 1e-3,
    episodes: int = 128,
    out: Path | None = None,
) -> None:
    """Train small policies to act as a large one does.

    The student acts in the task's worlds and its teacher says, for every state it comes to, what it
    would have done, under the goal that was told and under goals that were reached later. Several
    depths, widths and seeds give one student each. Writes a policy directory for each student.

    Look for: a share of the teacher's score near 1 (try a smaller student), or far below (more
    --steps, a deeper or wider student); scores that differ much between --seeds.

    Args:
        policy: A run directory or a policy directory: the teacher.
        depth: Depths of the students, such as --depth 4 8.
        width: Widths of the students; by default the teacher's.
        steps: Environment steps of each student, over all worlds.
        seeds: Students of each size, from `seed` on.
        seed: Seed of everything random but the scores' episodes.
        critic_weighted: Let rows count more where the teacher's critic says that the student's
            action costs something. Needs a run with a critic.
        hindsight_share: Share of the rows with a goal that was reached later, in 0 to 1.
        teacher_acts: Share of the steps over which the worlds in which the teacher acts fall from
            all to none.
        batch_size: Rows per update.
        updates_per_step: Updates of the student per environment step.
        learning_rate: Adam's step size at first; it falls to zero by a cosine.
        episodes: Episodes to score teacher and students on.
        out: The policy directory to write, or what holds those of several students; by default
            policies/ in the teacher's directory.
    """
    from kilolayer.deploy.distil import Recipe, distil_run

    recipe = Recipe(
        steps=steps,
        batch_size=batch_size,
        updates_per_step=updates_per_step,
        learning_rate=learning_rate,
        hindsight_share=hindsight_share,
        teacher_acts=teacher_acts,
        critic_weighted=critic_weighted,
    )
    with shown() as display:
        made = distil_run(
            policy,
            depth,
            width,
            range(seed, seed + seeds),
            recipe,
            episodes,
            out,
            display=display,
        )
    of_teacher: Mapping[str, Any] = made[0].details["teacher_scores"]
    score = of_teacher["time_at_goal"]
    table = Table(title=f"teacher: time at goal {score:.1f}", title_justify="left")
    for column in ("depth", "width", "seed", "time at goal", "of teacher's", "success", "KL"):
        table.add_column(column, justify="right")
    for student in made:
        scores, torso = student.details["scores"], student.spec.torso
        table.add_row(
            f"{torso.depth}",
            f"{torso.width}",
            f"{student.details['seed']}",
            f"{scores['time_at_goal']:.1f}",
            f"{scores['time_at_goal'] / score:.0%}" if score > 0 else "-",
            f"{scores['success']:.2f}",
            f"{student.details['divergence']:.3g}",
        )
    OUTPUT.print(table)
    for student in made:
        OUTPUT.print(f"policy  {student.path}")


COMMANDS = {"prune": prune, "distil": distil}
