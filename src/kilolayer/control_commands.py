"""The commands that put a policy to work: planner over controller, the loop, the page; no logic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table

from kilolayer.sayings import require_alone, tell_heard
from kilolayer.terminal import OUTPUT

if TYPE_CHECKING:
    from kilolayer.deploy.control.run import Controlled

RunPath = tyro.conf.Positional[Path]
Planner = Literal["waypoints", "interpolation", "proposal", "direct"]


def hierarchy(
    run: RunPath,
    controller: Path | None = None,
    planner: tuple[Planner, ...] = ("waypoints", "interpolation", "proposal"),
    replan: int = 20,
    chunk: int = 5,
    execute: int | None = None,
    patience: int | None = None,
    nodes: int = 64,
    episodes: int = 128,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Compare a slow planner over a fast controller with flat policies: success, how straight they
    go, operations per control step.

    The run gives the planner its critic, its replay buffer and the deep flat policy; the controller
    is any policy of the same task. waypoints: shortest path over places that were reached, by the
    critic's distances. interpolation: points on the line between two goals as the critic sees them.
    proposal: a small policy that proposes subgoals, trained in a minute and kept beside the run.
    direct: the goal itself. Everything plays the same starts and goals.

    Look for: a controller that alone fails on long ways and under a planner does not; operations
    above those of the flat run (plan less often, or over fewer nodes).

    Args:
        run: The run directory.
        controller: A policy directory or another run; by default the run's own policy.
        planner: Which planners to compare.
        replan: Control steps from one plan to the next.
        chunk: Subgoals in a plan.
        execute: How many of these to head for before the next plan; by default all.
        patience: Control steps after which the next subgoal is headed for though this one was not
            reached; by default as many as from one plan to the next.
        nodes: Places that waypoints are chosen from.
        episodes: Episodes, of the evaluation's goals.
        seed: Seed of starts and goals, and of the nodes.
        out: The JSON file to write; by default hierarchy.json in the run directory.
    """
    from kilolayer.api import deployment
    from kilolayer_robot.planning import Pursuit

    pursuit = Pursuit.of(replan, chunk, execute, patience)
    rows = deployment.hierarchy(run, controller, planner, pursuit, nodes, episodes, seed, out)
    table = Table(title=f"{episodes} episodes", title_justify="left")
    for column in ("planner", "policy", "depth"):
        table.add_column(column)
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
    planner: Planner | None = None,
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
    """Run planner and controller in the control loop, each in its thread and at its rate, around a
    simulation of the run's task.

    The controller never waits: it acts on the newest whole plan. Without one that is young enough,
    or with an observation that cannot be one, it takes the safe action. All of that is counted.
    `examples/own_robot_loop.py` puts a robot of your own in the simulation's place.

    Look for: deadline misses, a 99th percentile of the lateness near the length of a step, safe
    actions, plans that come late.

    Args:
        run: The run directory; or a policy directory or zoo:NAME, which have no critic to plan by.
        controller: A policy directory or another run; by default the run's own policy.
        planner: Who plans: see `kilolayer hierarchy --help`; by default waypoints for a run and
            direct for a policy.
        goal: Send every episode to this goal, such as 8,0, instead of drawing goals.
        say: Send every episode where this sentence says. A plan then is the picture and the
            sentence, encoded anew: the goal for the controller, or the features for a module.
        grounding: Who understands the sentence; by default the run's newest.
        module: An action module of `kilolayer train-vla` in the controller's place.
        seconds: How long, by the monotonic clock; None: until Ctrl-C or another signal.
        rate: Control steps a second.
        plan_rate: Plans a second.
        plan_limit: Seconds for which a plan is acted on, counted from what it was made from.
        planner_delay: Seconds by which every plan is held back, to try out a slow planner.
        chunk: Subgoals in a plan.
        execute: How many of these to head for; by default all.
        patience: Control steps after which the next subgoal is headed for though this one was not
            reached; by default as many as from one plan to the next.
        nodes: Places that waypoints are chosen from.
        seed: Seed of starts and goals, of the nodes, and of the markers.
        out: A file for the log, one JSON object a line: every step, plan and error.
    """
    from kilolayer.api import deployment, sentences
    from kilolayer_robot.planning import Pursuit
    from kilolayer_robot.timing import Timing

    timing = Timing(rate, plan_rate, plan_limit, planner_delay)
    require_alone(
        say, {"grounding": grounding, "module": module}, {"planner": planner, "goal": goal}
    )
    if say is not None:
        said = sentences.control_said(
            run, say, controller, grounding, module, timing, seconds, seed, out
        )
        tell_heard(said.heard, said.task)
        done = said.done
    else:
        pursuit = Pursuit.of(max(1, round(rate / plan_rate)), chunk, execute, patience)
        done = deployment.control(
            run, controller, planner, timing, seconds, goal, pursuit, nodes, seed, out
        )
    _tell_control(done, rate)


def _tell_control(done: "Controlled", rate: float) -> None:
    found = done.summary
    table = Table(title=f"{found.ticks:,} control steps at {rate:g} Hz", title_justify="left")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    for name, value in (
        ("steps taken", f"{found.steps:,}"),
        ("deadline misses", f"{found.deadline_misses:,}"),
        ("steps left out behind them", f"{found.skipped:,}"),
        ("stalls", f"{found.stalls:,}"),
        ("safe actions by the watchdog", f"{found.watchdog_actions:,}"),
        *((f"safe actions, {why}", f"{count:,}") for why, count in found.safe.items()),
        *((f"flaws, {what}", f"{count:,}") for what, count in found.flaws.items()),
        *((f"plans {outcome}", f"{count:,}") for outcome, count in found.plans.items()),
        ("begun late", str(found.late or "-")),
        ("a step takes", str(found.took or "-")),
        ("age of the plan", str(found.plan_age or "-")),
        ("a plan takes", str(found.planning or "-")),
        ("simulated seconds a second", f"{done.speed:g}"),
        ("whole episodes", f"{len(done.errands):,}"),
        ("success", "-" if done.success is None else f"{done.success:.2f}"),
    ):
        table.add_row(name, value)
    OUTPUT.print(table)
    OUTPUT.print("times in ms: median, 99th percentile, largest")
    if found.first_error is not None:
        OUTPUT.print(f"first error: {found.first_error}")


def serve(
    run: RunPath,
    student: Path | None = None,
    planner: Planner | None = None,
    grounding: Path | None = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    open_browser: Annotated[bool, tyro.conf.arg(name="open")] = False,
    seed: int = 0,
) -> None:
    """Open a page on this machine where you set a goal and watch the agent go; Ctrl-C ends it.

    The page shows the task in 3D, the critic's map for the goal, the time until the goal was
    reached and the latency of the policy in this process: one observation in, one action out. Click
    a place on the floor, or move a slider for each coordinate of the goal. Where a student is
    given, it starts beside the teacher, with the same goal and one clock.

    Only this machine can reach the page. From another: ssh -L 8765:localhost:8765 HOST.

    Args:
        run: The run directory; or a policy directory or zoo:NAME, which have no critic and no map.
        student: A run or a policy directory to watch beside it.
        planner: Who plans subgoals, drawn on the page, for the policies to head for: see
            `kilolayer hierarchy --help`. Takes a run.
        grounding: A directory that `kilolayer ground` made: the page then takes a sentence and
            shows the markers that it may speak of.
        port: Where the page answers, HOST:PORT; 0 takes any that is free.
        host: An address of this machine. With another one than the default, other machines reach
            the page, by an address that holds a random token. Nothing is encrypted.
        open_browser: Open the page in the default browser.
        seed: Seed of the starts, and of the markers.
    """
    from kilolayer.analysis.load import load
    from kilolayer.api import sentences
    from kilolayer.deploy.page.lane import REPLAN_EVERY
    from kilolayer.deploy.page.open_session import open_session
    from kilolayer.deploy.page.serve import PageServer
    from kilolayer.deploy.planning.build import build_planner, for_one
    from kilolayer.deploy.policy import open_policy
    from kilolayer.runtime.browser import open_page
    from kilolayer.runtime.progress import LiveDisplay
    from kilolayer_robot.planning import Pursuit

    display = LiveDisplay()
    try:
        display.phase("open")
        plan = None
        if planner is not None:
            pursuit = Pursuit.of(REPLAN_EVERY, 5, None, None)
            opened = load(run), open_policy(run)
            plan = for_one(build_planner(planner, *opened, pursuit, display, seed=seed))
        ear = None if grounding is None else sentences.listener(run, grounding, seed)
        session = open_session(run, student, plan, ear, seed)
        with PageServer(session, port, host) as server:
            session.warm_up(display)
            display.close()
            OUTPUT.print(f"page  {server.url}   Ctrl-C ends it")
            if open_browser and not open_page(server.url):
                OUTPUT.print("no browser was found: open the address by hand")
            server.run()
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        display.close()


COMMANDS = {"hierarchy": hierarchy, "control": control, "serve": serve}
