"""The `kilolayer-robot` command."""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from kilolayer_robot.errors import UserError, bad_field

FAILED, USER_ERROR = 1, 2


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A user error prints one sentence and exits with code 2, any other with 1."""
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        options.command(options)
    except UserError as error:
        _exit_with(_one_line(f"error: {error}"), USER_ERROR)
    except KeyboardInterrupt:  # before the loop started, or after it ended
        _exit_with("stopped", 130)
    except Exception as error:
        # The loop has sent the safe action; the traceback is in the log.
        _exit_with(_one_line(f"error: the loop ended with {_named(error)}"), FAILED)


def _joined(arguments: list[str]) -> list[str]:
    """`--goal -1,0` as `--goal=-1,0`: argparse takes a value that begins with a minus for an
    option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--goal":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _one_line(text: str) -> str:
    """The errors of other libraries may have several lines."""
    return " ".join(text.split())


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _exit_with(sentence: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(sentence, file=sys.stderr)
    raise SystemExit(code) from None


def run(options: argparse.Namespace) -> None:
    """Run a policy on a robot until a signal or the time limit."""
    from kilolayer_robot.gate import Handling
    from kilolayer_robot.lock import robot_lock
    from kilolayer_robot.log import ControlLog
    from kilolayer_robot.loop import ControlLoop
    from kilolayer_robot.planning import Pursuit, direct_planner
    from kilolayer_robot.policy import Policy
    from kilolayer_robot.realtime import Realtime
    from kilolayer_robot.robot import open_robot
    from kilolayer_robot.timing import Timing

    policy = Policy.open(options.policy)
    card = policy.card
    rate = 1 / card.control_step if options.rate is None else options.rate
    timing = Timing(
        rate=rate,
        plan_rate=options.plan_rate,
        plan_limit=options.plan_limit,
        watchdog=options.watchdog,
        observation_limit=options.observation_limit,
    )
    handling = Handling(options.bad_action, options.bad_observation)
    realtime = Realtime(options.priority, options.cpu)
    goal = None if options.goal is None else card.parse_goal(options.goal)
    planner = direct_planner
    if options.planner == "waypoints":
        from kilolayer_robot.waypoints import open_waypoints

        planner = open_waypoints(Path(options.policy), card, options.chunk)
    pursuit = Pursuit.of(max(1, round(rate / options.plan_rate)), options.chunk)
    settings, failures = dict(map(_setting, options.set)), []
    # Locked before the robot is opened: a second connection could disturb the loop that has the
    # first. And before the log is made, which would empty that loop's.
    with robot_lock(options.lock or options.robot), contextlib.ExitStack() as stack:
        log = ControlLog(options.out)
        robot = open_robot(options.robot, settings)
        stack.callback(_close, robot, failures)
        if goal is None:
            _require_goal(robot, options.robot)
        loop = ControlLoop(
            robot, card, policy, planner, goal, pursuit=pursuit, timing=timing, handling=handling,
            realtime=realtime, log=log, grace=options.grace,
        )  # fmt: skip
        try:
            summary = loop.run(options.seconds)
        except SystemExit as error:
            # The robot's own, perhaps with code 0: an unattended loop must not seem to have ended
            # well.
            _exit_with(_one_line(f"error: the loop ended with {_named(error)}"), FAILED)
        for line in _lines(summary):
            print(line)
    if not summary.ended_safely:
        _exit_with(
            "error: the last action was not the safe action: act() of the robot failed.", FAILED
        )
    if failures:
        raise SystemExit(FAILED)


def _require_goal(robot: Any, name: str) -> None:
    """Raises UserError unless the robot's observations have a goal."""
    try:
        goal = getattr(robot.observe(), "goal", None)
    except Exception as error:
        raise UserError(f"observe() of {name} raised {_named(error)}.") from error
    if goal is None:
        raise UserError(f"{name} gives no goal in its observations: set one with --goal.")


def _close(robot: Any, failures: list[str]) -> None:
    """Close the robot, if it can be; prints a failure and adds it to `failures`."""
    try:
        close = getattr(robot, "close", None)
        if callable(close):
            close()
    except Exception as error:
        failures.append(_one_line(f"error: close() of the robot raised {_named(error)}"))
        with contextlib.suppress(OSError):
            print(failures[-1], file=sys.stderr)


def show(options: argparse.Namespace) -> None:
    """Check a policy folder and print its card."""
    from kilolayer_robot.policy import Policy

    card = Policy.open(options.policy).card
    print(f"{card.name}: success radius {card.radius:g}, control rate {1 / card.control_step:g} Hz")
    for part in ("observation", "goal", "action"):
        for each in getattr(card, part):
            bounds = "" if each.low is None else f"  {each.low:g} to {each.high:g}"
            print(f"  {part:12}{each.name} ({each.unit or '1'}){bounds}")
    print(f"  safe action {', '.join(f'{value:g}' for value in card.safe_action)}")


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise bad_field("set", text, "the form is NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _lines(summary: Any) -> list[str]:
    found = [
        f"stopped by {summary.stopped_by} after {summary.ticks:,} control steps at "
        f"{summary.rate:g} Hz; last action " + ("safe" if summary.ended_safely else "NOT safe"),
        f"steps taken {summary.steps:,}, skipped {summary.skipped:,}, "
        f"deadline misses {summary.deadline_misses:,}",
        f"stalls {summary.stalls:,}, safe actions by the watchdog {summary.watchdog_actions:,}",
    ]
    for title, counts in (
        ("safe actions", summary.safe),
        ("flaws", summary.flaws),
        ("plans", summary.plans),
    ):
        counts_text = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        found.append(f"{title}: {counts_text or 'none'}")
    found.append("ms (median, 99th percentile, largest):")
    for title, spread in (("start delay", summary.late), ("step duration", summary.took)):
        found.append(f"  {title} {spread or '-'}")
    found.append(f"longest garbage collection {summary.longest_pause:.2f} ms")
    found += [f"note: {note}" for note in summary.notes]
    if summary.first_error is not None:
        found.append(f"first error: {summary.first_error}")
    return found


class _Parser(argparse.ArgumentParser):
    """Prints one sentence for a bad option, without the usage."""

    def error(self, message: str) -> NoReturn:
        _exit_with(f"error: {message}; `{self.prog} --help` lists the options.", USER_ERROR)


# Flags of `run`, their help, and what else argparse takes for them.
RUN_OPTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--robot", "class or function that makes the robot",
     {"required": True, "metavar": "MODULE:CLASS"}),
    ("--set", "argument for the robot's class, such as port=/dev/ttyACM0; repeat for more",
     {"action": "append", "default": [], "metavar": "NAME=VALUE"}),
    ("--goal", "goal for all steps; default: the robot's own goal", {"metavar": "X,Y,..."}),
    ("--planner",
     "direct: pursue the goal itself; waypoints: follow the recorded waypoints, for goals that the "
     "policy alone does not reach; default direct",
     {"choices": ("direct", "waypoints"), "default": "direct"}),
    ("--chunk", "subgoals in a plan; default 5", {"type": int, "default": 5}),
    ("--seconds", "length of the run; default: until a signal", {"type": float}),
    ("--rate", "control steps per second; default: the rate of the training", {"type": float}),
    ("--plan-rate", "plans per second; default 5; lower it if plans come late",
     {"type": float, "default": 5.0}),
    ("--plan-limit",
     "seconds for which a plan is used; after that the safe action is sent; default 1",
     {"type": float, "default": 1.0}),
    ("--watchdog",
     "control periods by which the controller may be late before the safe action is sent; default "
     "2", {"type": float, "default": 2.0, "metavar": "PERIODS"}),
    ("--observation-limit",
     "control periods after which an observation is too old to act on; default 10",
     {"type": float, "default": 10.0, "metavar": "PERIODS"}),
    ("--bad-action",
     "for an action out of bounds: clip it, or send the safe action; default clip",
     {"choices": ("clip", "safe"), "default": "clip"}),
    ("--bad-observation",
     "for a late or invalid observation: send the safe action, or act on the last good "
     "observation; default safe", {"choices": ("safe", "last"), "default": "safe"}),
    ("--out", "file for the log, one JSON object per line; default: none", {"type": Path}),
    ("--priority", "real-time priority (SCHED_FIFO), 1 to 98; default 0, none",
     {"type": int, "default": 0}),
    ("--cpu", "CPU core to which the loop is pinned; default: any core", {"type": int}),
    ("--lock",
     "name of the robot for the lock against a second loop; change it to run two robots of one "
     "class; default MODULE:CLASS", {"metavar": "NAME"}),
    ("--grace",
     "seconds after a signal within which the loop must end; after that its process is ended; "
     "default 5", {"type": float, "default": 5.0}),
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kilolayer-robot",
        description="Run exported kilolayer policies on robots, without JAX.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runs = commands.add_parser("run", help=run.__doc__, description=run.__doc__)
    runs.set_defaults(command=run)
    runs.add_argument("policy", help="the folder written by `kilolayer export POLICY --to FOLDER`")
    for flag, text, settings in RUN_OPTIONS:
        runs.add_argument(flag, help=text, **settings)
    shows = commands.add_parser("show", help=show.__doc__, description=show.__doc__)
    shows.set_defaults(command=show)
    shows.add_argument("policy", help="the policy folder")
    return parser


if __name__ == "__main__":
    main()
