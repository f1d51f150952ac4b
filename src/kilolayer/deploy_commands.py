"""The commands that make deployable policies from a trained run. Like `cli.py`, no logic."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro
from rich.table import Table

from kilolayer.deploy.names import Format, Measure, Order, PlannerName, Runtime, Weights
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.errors import bad_field, require_defaults
from kilolayer.terminal import OUTPUT, console

PolicyPath = tyro.conf.Positional[Path]
ALL_FORMATS: tuple[Format, ...] = get_args(Format)


def prune(
    policy: PolicyPath,
    keep_score: float = 0.95,
    target_latency: float | None = None,
    order: tuple[Order, ...] = ("greedy",),
    measure: Measure = "divergence",
    heal: int = 0,
    episodes: int = 128,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Remove blocks from a trained policy and keep the smallest policy that still performs.

    Every block is measured on states that the policy visits: how much it changes the residual
    stream and how far the policy diverges without it. Blocks are then removed one after the other,
    and each remaining policy plays whole episodes. Writes a policy directory with the chosen
    policy, the whole curve (prune.json) and its picture (prune.png).

    Look for: a curve that stays level and then falls (the blocks of the level part can be removed);
    healed points above the others (a short distillation helps); a choice just before the fall (use
    more --episodes).

    Args:
        policy: A run directory, a policy directory or zoo:NAME.
        keep_score: Share of the unpruned policy's time at goal to keep. The policy with the fewest
            blocks that keeps it is chosen. Lower it for a smaller policy.
        target_latency: Largest latency of one action on this machine in ms, in JAX, at batch 1. If
            set, the policy with the best score within this limit is chosen, and keep_score is
            ignored. Default: no limit.
        order: greedy: remove one block after the other and measure again each time. one-shot:
            measure all blocks once. Give both for two curves.
        measure: Measure that one-shot uses: the divergence of the policy without the block, or how
            much the block rotates (cosine) or changes (norm) the residual stream. Needs --order
            one-shot.
        heal: Environment steps of a distillation from the unpruned policy after every removal, such
            as 100000. The curve then has points with and without it. 0: no distillation.
        episodes: Episodes that score each point. Raise it for narrower intervals.
        seed: Seed of states, episodes and healing. Change it for other episodes.
        out: The policy directory to write. Default: policies/prune in the given one, or
            policies_NAME/prune for zoo:NAME.
    """
    from kilolayer import api

    found = api.prune(policy, keep_score, target_latency, order, measure, heal, episodes, seed, out)
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
    removed = f"{whole.blocks - chosen.blocks} of {whole.blocks} blocks removed"
    fresh = curve.fresh
    kept = f"{fresh.scores['time_at_goal']:.1f} of {fresh.baseline['time_at_goal']:.1f}"
    OUTPUT.print(
        f"{removed}; on {episodes} new episodes the time at goal is {kept} control steps, "
        f"a change of {fresh.change.value:.1f} (95 %: {fresh.change.low:.1f} to "
        f"{fresh.change.high:.1f})"
    )
    OUTPUT.print(f"policy  {found.policy.path}")
    OUTPUT.print(f"picture {found.policy.path / 'prune.png'}")


def distil(
    policy: PolicyPath,
    recipe: Annotated[Recipe, tyro.conf.arg(name="")],
    depth: tuple[int, ...] = (4,),
    width: tuple[int, ...] = (),
    seeds: int = 1,
    seed: int = 0,
    episodes: int = 128,
    out: Path | None = None,
) -> None:
    """Train small policies to act like a large one.

    The student acts in the task's environments. The teacher labels every state that the student
    visits with its own action, for the commanded goal and for hindsight goals. Each depth, width
    and seed gives one student. Writes a policy directory for each student.

    Look for: a share of the teacher's score near 1 (try a smaller student), or far below (use more
    --steps, a deeper or wider student); scores that vary strongly between --seeds.

    Args:
        policy: The teacher: a run directory, a policy directory or zoo:NAME.
        recipe: Settings of the distillation.
        depth: Depths of the students, such as --depth 4 8.
        width: Widths of the students. Default: the teacher's.
        seeds: Number of students of each size, from `seed` on. Raise it to see how much scores
            vary.
        seed: Seed of everything random except the scored episodes.
        episodes: Episodes that score teacher and students. Raise it for narrower intervals.
        out: The policy directory to write, or the parent of several students' directories. Default:
            policies/ in the teacher's directory, or policies_NAME/ for zoo:NAME.
    """
    from kilolayer import api
    from kilolayer.training.seeds import Seeds

    chosen = Seeds.consecutive(seed, seeds)
    made = api.distil(policy, depth, width, chosen.values, recipe, episodes, out)
    score = made[0].details["teacher_scores"]["time_at_goal"]
    table = Table(title=f"teacher: time at goal {score:.1f}", title_justify="left")
    columns = ("depth", "width", "seed", "time at goal", "of teacher's", "change", "success", "KL")
    for column in columns:
        table.add_column(column, justify="right")
    for student in made:
        scores, torso = student.details["scores"], student.spec.torso
        table.add_row(
            f"{torso.depth}",
            f"{torso.width}",
            f"{student.details['seed']}",
            f"{scores['time_at_goal']:.1f}",
            f"{scores['time_at_goal'] / score:.0%}" if score > 0 else "-",
            "{value:.1f} ({low:.1f} to {high:.1f})".format(**student.details["change"]),
            f"{scores['success']:.2f}",
            f"{student.details['divergence']:.3g}",
        )
    OUTPUT.print(table)
    for student in made:
        OUTPUT.print(f"policy  {student.path}")


def export(
    policy: PolicyPath,
    out: Path | None = None,
    format: tuple[Format, ...] = ALL_FORMATS,
    opset: int = 20,
    to: Path | None = None,
    planner: Literal["waypoints"] | None = None,
    nodes: int = 64,
    weights: Weights = "float32",
    episodes: int = 0,
) -> None:
    """Write a policy as files that run without this package.

    With --to it writes a folder for `kilolayer-robot run`: the ONNX graph, and a card with names,
    units, ranges, control step, safe action and versions.

    onnx: a plain graph for ONNX Runtime, any batch size (`examples/run_onnx.py` runs it with numpy
    alone). stablehlo: the output of `jax.export`, for CPU and CUDA. safetensors: the arrays with a
    JSON card, which every command here accepts as a policy.

    Each file is loaded again and compared with the policy, on random observations and on
    observations of the task. If an action differs by more than 4 times the effect of rounding and
    by more than 1e-5, nothing is written.

    Args:
        policy: A run directory, a policy directory or zoo:NAME.
        out: The directory to create. Default: `export` in the policy's own, or export_NAME for
            zoo:NAME.
        format: Files to write. Default: all.
        opset: Version of ONNX's operators, at least 17. Lower it for an older runtime.
        to: Create this folder for `kilolayer-robot run` instead, without --out and --format. The
            options below apply only to this folder.
        planner: Record waypoints for `kilolayer-robot run --planner waypoints`. Needs a run.
            Default: no waypoints.
        nodes: Number of states from which waypoints are chosen.
        weights: Storage type of the graph's kernels. float16 takes half the space, int8 a quarter;
            the graph computes in float32. Set --episodes to see how much of the score is kept.
        episodes: Score the policy and its graph in this number of episodes, for the card. 0: no
            score.
    """
    from kilolayer import api

    if planner is None:
        require_defaults(export, "it needs --planner waypoints", nodes=nodes)
    if to is not None:
        if out is not None:
            raise bad_field("out", str(out), "--to names the folder already, omit one of the two")
        if format != ALL_FORMATS:
            raise bad_field("format", " ".join(format), "a folder of --to holds ONNX only, omit it")
        folder = api.export_robot(policy, to, planner, nodes, weights, episodes, opset)
        for line in folder.lines():
            OUTPUT.print(line)
        return
    require_defaults(
        export, "it needs --to FOLDER", planner=planner, weights=weights, episodes=episodes
    )
    written = api.export(policy, out, format, opset)
    for line in written.lines():
        OUTPUT.print(line)


def latency(
    policies: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("latency.html"),
    batch: int = 256,
    repeats: int = 1000,
    episodes: int = 64,
    runtime: tuple[Runtime, ...] = ("jax", "onnx", "early-exit"),
    tolerance: float = 0.01,
    patience: int = 1,
    planner: tuple[PlannerName, ...] = (),
    plan_run: Path | None = None,
    replan: int = 20,
    chunk: int = 5,
    nodes: int = 64,
) -> None:
    """Measure the latency of policies on this machine and compare it with their score.

    Look for: a policy on the Pareto front whose latency suits the control loop; a 99th percentile
    far above the median (the machine was busy); blocks that early exit does not use; a small policy
    with a planner that scores like a deep policy.

    Args:
        policies: Run directories, policy directories and zoo:NAMEs, all of one task.
        out: The page to write, an .html file; all figures are written beside it, as .json.
        batch: Rows of the larger batch.
        repeats: Calls at batch 1; the larger batch has a tenth of the calls. Raise it on a busy
            machine.
        episodes: Episodes that score each policy; 0: no scores.
        runtime: Runtimes to measure each policy on; onnx needs the extra `export`. Default: all.
        tolerance: Early exit: largest change of an action, in [-1, 1], over a block without effect.
            Raise it to exit earlier.
        patience: Early exit: number of consecutive blocks without effect before the exit.
        planner: Planners to measure over each policy, as in `kilolayer hierarchy`. Default: none.
        plan_run: The run whose critic and buffer the planners use. Default: the first policy.
        replan: Control steps between two plans.
        chunk: Subgoals in a plan.
        nodes: Number of states from which waypoints are chosen.
    """
    from kilolayer.analysis.load import load
    from kilolayer.api import deployment
    from kilolayer.deploy.latency import PlannerSettings
    from kilolayer.deploy.smaller.early_exit import EarlyExit
    from kilolayer.report.latency_report import latency_table
    from kilolayer_robot.planning import Pursuit

    planned = None
    if not planner:
        options = {"plan_run": plan_run, "replan": replan, "chunk": chunk, "nodes": nodes}
        require_defaults(latency, "it needs --planner", **options)
    if planner and policies:
        pursuit = Pursuit.of(replan, chunk)
        planned = PlannerSettings(load(plan_run or policies[0]), planner, pursuit, nodes)
    exiting = EarlyExit(tolerance, patience)
    found = deployment.latency(policies, out, batch, repeats, episodes, runtime, exiting, planned)
    table = Table(title=f"{found.task}: latency", title_justify="left")
    header, rows = latency_table(found, brief=True)
    for name in header:
        table.add_column(name, justify="left" if name in ("policy", "runtime") else "right")
    for row in rows:
        table.add_row(*row)
    # A row that a narrow terminal wraps is easier to read than columns cut short.
    console(max(OUTPUT.width, 160)).print(table)
    OUTPUT.print(f"report  {out}\nfigures {out.with_suffix('.json')}")


def zoo() -> None:
    """List the trained policies that ship with the package. Every command that takes a policy
    accepts `zoo:NAME`, as in `kilolayer play zoo:ant --goal 8,0`.

    Scores have 95 % intervals over the episodes. zoo/README.md explains the columns.
    """
    from kilolayer import api
    from kilolayer.deploy.zoo_entry import interval_text

    found = api.zoo()
    table = Table(title="trained policies (95 % interval)", title_justify="left")
    for name in ("policy", "task", "size", "episodes", "success", "time at goal", "final distance"):
        table.add_column(name, justify="left" if name in ("policy", "task") else "right")
    for each in found:
        score = each.score
        figures = (
            f"{each.bytes / 1e6:.2f} MB",
            f"{score.episodes}",
            interval_text(score.success, 3),
            interval_text(score.time_at_goal, 0),
            interval_text(score.final_distance, 2),
        )
        table.add_row(f"zoo:{each.name}", each.task, *figures)
    # A wrapped row is easier to read than truncated columns.
    console(max(OUTPUT.width, 140)).print(table)
    for each in found:
        trained = each.training
        OUTPUT.print(f"\nzoo:{each.name}: {trained.minutes:g} minutes on {trained.machine}")
        for command in trained.commands:
            OUTPUT.print(f"  {command}")


def push(
    policy: PolicyPath,
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")],
    private: bool = False,
    update: bool = False,
    licence: str = "Apache-2.0",
    episodes: int = 128,
) -> None:
    """Upload a policy to the Hugging Face Hub, with a generated model card (extra `hub`).

    Uploads the network, its card, a picture and README.md with task, score, command, versions and
    licence. Every command that takes a policy then accepts hf:OWNER/NAME. Needs a token:
    `hf auth login`. No other command uploads anything.

    Args:
        policy: A run directory, a policy directory or zoo:NAME.
        repository: The repository to create.
        private: Make the repository private. Default: public.
        update: Replace the files of an existing repository. Default: refuse.
        licence: Licence of the policy, as the hub names it.
        episodes: Episodes that score the policy. A zoo policy keeps the score of its card.
    """
    from kilolayer import api

    OUTPUT.print(api.push(policy, repository, private, update, licence, episodes))


COMMANDS = {each.__name__: each for each in (prune, distil, export, latency, zoo, push)}
