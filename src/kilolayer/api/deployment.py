"""Use policies: latency, planners over controllers, the control loop, and the page."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kilolayer.analysis.load import load
from kilolayer.deploy.control import ControlResult, drive_simulation
from kilolayer.deploy.latency import RUNTIMES, Latencies, PlannerSettings, measure_latency
from kilolayer.deploy.names import PlannerName, Runtime
from kilolayer.deploy.planning.build import build_planner, for_single_env
from kilolayer.deploy.planning.hierarchy import PlannerScore, score_planner
from kilolayer.deploy.policy import is_policy, open_policy, open_run_or_policy
from kilolayer.deploy.score import Scorer
from kilolayer.deploy.smaller.early_exit import EarlyExit
from kilolayer.errors import require_at_least
from kilolayer.report.latency_report import write_latency
from kilolayer.runtime.files import require_file, write_atomically
from kilolayer.runtime.progress import make_display
from kilolayer.tasks.base import parse_goal
from kilolayer_robot.planning import Pursuit
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Timing

if TYPE_CHECKING:
    from kilolayer.deploy.page.serve import PageServer
    from kilolayer.deploy.page.session import Planner

PLANNERS = ("waypoints", "interpolation", "proposal")


def hierarchy(
    run: str | Path,
    controller: str | Path | None = None,
    planners: Sequence[PlannerName] = PLANNERS,
    pursuit: Pursuit | None = None,
    nodes: int = 64,
    episodes: int = 128,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> list[PlannerScore]:
    """Compare planners over a controller with flat policies, and write the rows as JSON.

    run: its critic and replay buffer serve the planners. controller: a policy directory or another
    run, by default the run's own policy. pursuit: how subgoals are followed, by default 5 subgoals
    and a new plan every 20 control steps. out: by default hierarchy.json in the run directory.
    Raises UserError for a controller of another task or a directory that does not exist.
    """
    opened = load(run)
    out = opened.path / "hierarchy.json" if out is None else Path(out)
    require_file(out)
    pursuit = pursuit or Pursuit()
    policy = open_policy(controller or run)
    require_at_least(1, episodes=episodes)
    scorer = Scorer(opened.task, opened.config, episodes, seed)
    alone = [policy] if policy.path == opened.path else [open_policy(run), policy]
    rows: list[PlannerScore] = []
    with closing(make_display(progress)) as display:
        # All planners first, so that a refusal comes before any episode.
        built = [
            (policy, name, build_planner(name, opened, policy, pursuit, display, nodes, seed))
            for name in dict.fromkeys(planners)
        ]
        jobs = [*((each, "flat", None) for each in alone), *built]
        display.phase("episodes")
        for player, name, planner in jobs:
            rows.append(score_planner(scorer, player, name, planner, pursuit))
            display.advance(len(rows), len(jobs), success=rows[-1].scores["success"])
    content = {
        "pursuit": dataclasses.asdict(pursuit),
        "episodes": episodes,
        "seed": seed,
        "rows": [
            dataclasses.asdict(row) | {"operations_per_step": row.operations.per_step}
            for row in rows
        ],
    }
    write_atomically(out, json.dumps(content, indent=2) + "\n")
    return rows


def control(
    run: str | Path,
    controller: str | Path | None = None,
    planner: PlannerName | None = None,
    timing: Timing | None = None,
    seconds: float | None = 10.0,
    goal: str | None = None,
    pursuit: Pursuit | None = None,
    nodes: int = 64,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> ControlResult:
    """Run planner and controller in the control loop, around a simulation of the run's task.

    run: a run, or a policy, which has no critic for planning. planner: by default waypoints for a
    run and direct for a policy. timing: rates and limits, by default 100 Hz and 5 plans per second.
    seconds: length of the loop, None until a signal. goal: such as "8,0"; by default goals are
    sampled. out: a file for the log, one JSON object per line. Raises UserError for arguments that
    do not fit together.
    """
    timing = timing or Timing()
    pursuit = pursuit or Pursuit.of(max(1, round(timing.rate / timing.plan_rate)), 5)
    opened, policy = open_run_or_policy(run), open_policy(controller or run)
    name = planner or ("direct" if is_policy(run) else "waypoints")
    log = None if out is None else Path(out)
    if seconds is not None:
        timing.steps(seconds)  # before a planner is built
    if log is not None:
        require_file(log)
    commanded = None if goal is None else np.array(parse_goal(opened.task, goal), np.float32)
    with closing(make_display(progress)) as display:
        built = for_single_env(build_planner(name, opened, policy, pursuit, display, nodes, seed))

        def plan(sensed: Sensed) -> np.ndarray:
            assert sensed.goal is not None
            return built(sensed.observation, sensed.achieved_goal, sensed.goal)

        return drive_simulation(
            opened.task, opened.config, plan, policy.policy, pursuit, timing, seconds, display,
            commanded, log, seed,
        )  # fmt: skip


def latency(
    policies: Sequence[str | Path],
    out: str | Path | None = None,
    batch: int = 256,
    repeats: int = 1000,
    episodes: int = 64,
    runtimes: Sequence[Runtime] = RUNTIMES,
    exiting: EarlyExit | None = None,
    planned: PlannerSettings | None = None,
    progress: bool = True,
) -> Latencies:
    """Time policies of one task on this machine and compare their latency with their score.

    policies: run directories, policy directories and zoo:NAMEs. out: an .html page to write, with
    all figures beside it as .json. repeats: calls at batch 1; the larger batch is called a tenth as
    often. episodes: number of episodes for each policy's score, 0 for no score. planned: planners
    to put over each policy. Raises UserError for policies of several tasks.
    """
    if out is not None:
        require_file(Path(out), ".html")
    with closing(make_display(progress)) as display:
        found = measure_latency(
            policies, batch, repeats, episodes, runtimes, exiting or EarlyExit(), planned, display
        )
    if out is not None:
        write_latency(found, Path(out))
    return found


@contextmanager
def serve(
    run: str | Path,
    student: str | Path | None = None,
    planner: "PlannerName | Planner | None" = None,
    grounding: str | Path | None = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    seed: int = 0,
    progress: bool = True,
) -> Iterator["PageServer"]:
    """A page on which a user sets goals and watches the policy, ready to run; its end stops it.

    `with kilolayer.serve(run) as server` gives a server whose `run()` serves until it is
    interrupted and whose `start()` returns at once; `server.url` is the page's address. student: a
    policy that runs beside the first. planner: sets the policies' subgoals; a name needs a run, and
    `(observation, achieved_goal, goal) -> subgoals [m, goal]` may be your own. grounding: lets the
    page take a sentence. port: 0 takes any free port. Raises UserError for policies or a planner
    that do not fit, and for a port that cannot be opened.
    """
    from kilolayer.deploy.page.serve import PageServer
    from kilolayer.deploy.page.session import open_session
    from kilolayer.deploy.page.simulation import REPLAN_EVERY

    interpreter = None
    with closing(make_display(progress)) as display:
        display.phase("open")
        if planner is not None and not callable(planner):
            pursuit = Pursuit.of(REPLAN_EVERY, 5)
            opened = load(run), open_policy(run)
            planner = for_single_env(build_planner(planner, *opened, pursuit, display, seed=seed))
        if grounding is not None:
            from kilolayer.api.sentences import scene_interpreter

            interpreter = scene_interpreter(run, grounding, seed)
        session = open_session(run, student, planner, interpreter, seed)
        with PageServer(session, port, host) as server:
            session.warm_up(display)
            display.close()
            yield server
