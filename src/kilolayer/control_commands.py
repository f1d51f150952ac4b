"""The commands that run a policy: planner over controller, control loop, page. No logic."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from kilolayer.deploy.names import PlannerName
from kilolayer.errors import bad_field, require_defaults
from kilolayer.language_commands import check_say_options, print_interpretation
from kilolayer.terminal import OUTPUT

if TYPE_CHECKING:
    from kilolayer.deploy.control import ControlResult

RunPath = tyro.conf.Positional[Path]


def hierarchy(
    run: RunPath,
    controller: Path | None = None,
    planner: tuple[PlannerName, ...] = ("waypoints", "interpolation", "proposal"),
    replan: int = 20,
    chunk: int = 5,
    execute: int | None = None,
    patience: int | None = None,
    nodes: int = 64,
    episodes: int = 128,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Compare a slow planner over a fast controller with flat policies: success, path efficiency,
    operations per control step.

    The run provides the planner's critic and replay buffer, and the deep flat policy. The
    controller is any policy of the same task. waypoints: shortest path over states that were
    reached, with the critic's distances. interpolation: points on the line between two goals in the
    critic's encoding. proposal: a small policy that proposes subgoals; it is trained in a minute
    and saved in the run directory. direct: the goal itself. All of them get the same starts and
    goals.

    Look for: a controller that reaches distant goals only with a planner; more operations than the
    flat run (plan less often, or with fewer nodes).

    Args:
        run: The run directory.
        controller: A policy directory or another run. Default: the run's own policy.
        planner: Planners to compare.
        replan: Control steps between two plans. Raise it to plan less often.
        chunk: Subgoals in a plan.
        execute: Subgoals of a plan to pursue before the next plan. Default: all.
        patience: Control steps after which the controller turns to the next subgoal without
            reaching the present one. Default: the control steps between two plans.
        nodes: Number of states from which waypoints are chosen. Raise it for larger mazes.
        episodes: Number of episodes, with the evaluation's goals. Raise it for narrower intervals.
        seed: Seed of starts, goals and nodes. Change it for other episodes.
        out: The JSON file to write. Default: hierarchy.json in the run directory.
    """
    from kilolayer.api import deployment
    from kilolayer_robot.planning import Pursuit

    pursuit = Pursuit.of(replan, chunk, execute, patience)
    rows = deployment.hierarchy(run, controller, planner, pursuit, nodes, episodes, seed, out)
    title = f"{episodes} episodes"
    table = Table("planner", "policy", "depth", title=title, title_justify="left")
    for column in ("success", "time at goal", "path efficiency", "operations a step"):
        table.add_column(column, justify="right")
    for row in rows:
        scores = row.scores
        figures = (
            f"{scores['success']:.2f}",
            f"{scores['time_at_goal']:.1f}",
            f"{scores['path_efficiency']:.2f}" if "path_efficiency" in scores else "-",
            f"{row.operations.per_step:.3g}",
        )
        table.add_row(row.planner, Path(row.controller).name, str(row.depth), *figures)
    OUTPUT.print(table)
    OUTPUT.print(f"{out or run / 'hierarchy.json'}")


def control(
    run: RunPath,
    controller: Path | None = None,
    planner: PlannerName | None = None,
    goal: str | None = None,
    say: str | None = None,
    grounding: Path | None = None,
    module: Path | None = None,
    seconds: float | None = 10.0,
    rate: float = 100.0,
    plan_rate: float = 5.0,
    plan_limit: float = 1.0,
    planner_delay: float = 0.0,
    chunk: int = 5,
    execute: int | None = None,
    patience: int | None = None,
    nodes: int = 64,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Run planner and controller in the control loop, each in its thread and at its rate, on a
    simulation of the run's task.

    The controller never waits: it acts on the newest complete plan. If no plan is recent enough or
    an observation is not valid, the loop sends the safe action. The command counts all such events.
    `examples/own_robot_loop.py` replaces the simulation by your own robot.

    Look for: deadline misses, a 99th percentile of the start delay near the length of a step, safe
    actions, late plans.

    Args:
        run: The run directory; or a policy directory or zoo:NAME, which have no critic for
            planning.
        controller: A policy directory or another run. Default: the run's own policy.
        planner: The planner: see `kilolayer hierarchy --help`. Default: waypoints for a run, direct
            for a policy.
        goal: Use this goal, such as 8,0, in every episode. Default: sample goals of the task.
        say: Use the goal that this sentence names in every episode. Every plan encodes the picture
            and the sentence: into a goal for the controller, or into features for a module.
        grounding: The grounding that interprets the sentence. Default: the run's newest.
        module: An action module of `kilolayer train-vla` that replaces the controller.
        seconds: Duration by the monotonic clock. None: until Ctrl-C or another signal.
        rate: Control steps per second. Set it to the robot's rate.
        plan_rate: Plans per second.
        plan_limit: Seconds for which a plan is used, counted from the observation that it was made
            from.
        planner_delay: Seconds by which every plan is delayed, to test a slow planner.
        chunk: Subgoals in a plan.
        execute: Subgoals of a plan to pursue. Default: all.
        patience: Control steps after which the controller turns to the next subgoal without
            reaching the present one. Default: the control steps between two plans.
        nodes: Number of states from which waypoints are chosen.
        seed: Seed of starts, goals, nodes and markers.
        out: A file for the log, one JSON object per line: every step, plan and error. Default: no
            log.
    """
    from kilolayer.api import deployment, sentences
    from kilolayer_robot.planning import Pursuit
    from kilolayer_robot.timing import Timing

    timing = Timing(rate, plan_rate, plan_limit, planner_delay)
    check_say_options(
        say, {"grounding": grounding, "module": module}, {"planner": planner, "goal": goal}
    )
    if say is not None:
        options = {"chunk": chunk, "execute": execute, "patience": patience, "nodes": nodes}
        require_defaults(control, "with --say no planner uses it, omit it", **options)
        if module is not None and controller is not None:
            raise bad_field("controller", str(controller), "--module acts in its place, omit one")
        result = sentences.control_instruction(
            run, say, controller, grounding, module, timing, seconds, seed, out
        )
        print_interpretation(result.interpretation, result.task)
        done = result.done
    else:
        pursuit = Pursuit.of(max(1, round(rate / plan_rate)), chunk, execute, patience)
        done = deployment.control(
            run, controller, planner, timing, seconds, goal, pursuit, nodes, seed, out
        )
    _print_control(done, rate)


def _print_control(done: "ControlResult", rate: float) -> None:
    found = done.summary
    title = f"{found.ticks:,} control steps at {rate:g} Hz"
    table = Table("quantity", title=title, title_justify="left")
    table.add_column("value", justify="right")
    for name, value in (
        ("steps taken", f"{found.steps:,}"),
        ("deadline misses", f"{found.deadline_misses:,}"),
        ("skipped steps", f"{found.skipped:,}"),
        ("stalls", f"{found.stalls:,}"),
        ("safe actions by the watchdog", f"{found.watchdog_actions:,}"),
        *((f"safe actions, {why}", f"{count:,}") for why, count in found.safe.items()),
        *((f"flaws, {what}", f"{count:,}") for what, count in found.flaws.items()),
        *((f"plans {outcome}", f"{count:,}") for outcome, count in found.plans.items()),
        ("start delay", str(found.late or "-")),
        ("step duration", str(found.took or "-")),
        ("plan age", str(found.plan_age or "-")),
        ("plan duration", str(found.planning or "-")),
        ("simulated seconds per second", f"{done.speed:g}"),
        ("finished episodes", f"{len(done.episodes):,}"),
        ("success", "-" if done.success is None else f"{done.success:.2f}"),
    ):
        table.add_row(name, value)
    OUTPUT.print(table)
    OUTPUT.print("times in ms: median, 99th percentile, largest")
    for note in found.notes:
        OUTPUT.print(f"note: {note}")
    if found.first_error is not None:
        OUTPUT.print(f"first error: {found.first_error}")


def serve(
    run: RunPath,
    student: Path | None = None,
    planner: PlannerName | None = None,
    grounding: Path | None = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    open_browser: Annotated[bool, tyro.conf.arg(name="open")] = False,
    seed: int = 0,
) -> None:
    """Serve a page where you set a goal and watch the agent; Ctrl-C ends it.

    The page shows the task in 3D, the critic's value map for the goal, the time until the goal was
    reached and the latency of the policy in this process: one observation in, one action out. Click
    a position on the floor, or move a slider for each coordinate of the goal. A student runs beside
    the teacher, with the same start, goal and clock.

    Only this machine can reach the page. From another: ssh -L 8765:localhost:8765 HOST.

    Args:
        run: The run directory; or a policy directory or zoo:NAME, which have no critic and no map.
        student: A run or a policy directory to show beside the first. Default: none.
        planner: The planner of the policies' subgoals, which the page draws: see
            `kilolayer hierarchy --help`. Needs a run. Default: no planner.
        grounding: A directory made by `kilolayer ground`. The page then takes a sentence and shows
            the markers that the sentence can name. Default: no sentences.
        port: Port of the page; 0 takes any free port. Change it if the port is in use.
        host: An address of this machine. With another address than the default, other machines
            reach the page by a URL with a random token. Nothing is encrypted.
        open_browser: Open the page in the default browser.
        seed: Seed of the starts and the markers.
    """
    from kilolayer.api import deployment
    from kilolayer.runtime.browser import open_page

    page = deployment.serve(run, student, planner, grounding, port, host, seed)
    with suppress(KeyboardInterrupt), page as server:  # Ctrl-C ends the page
        OUTPUT.print(f"page  {server.url}   Ctrl-C ends it")
        if open_browser and not open_page(server.url):
            OUTPUT.print("no browser was found: open the address by hand")
        server.run()


COMMANDS = {"hierarchy": hierarchy, "control": control, "serve": serve}
