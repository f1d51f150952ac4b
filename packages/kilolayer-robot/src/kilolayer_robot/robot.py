"""The interface of a robot: methods to observe it and to send it actions."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from kilolayer_robot.errors import UserError, bad_field

METHODS = ("observe", "act", "safe_action")


class Sensed(NamedTuple):
    """The measurement of a robot at one instant: observation `[observation]`, achieved_goal and
    goal `[goal]`, in the units of the policy's card.

    goal: None if the goal is an argument of the loop. errand: number of the robot's goal, which
    increases when the goal changes, so that no plan for an earlier goal is followed. measured_at:
    the `time.monotonic()` of the measurement; None if it was made within `observe`.
    """

    observation: np.ndarray
    achieved_goal: np.ndarray
    goal: np.ndarray | None = None
    errand: int = 0
    measured_at: float | None = None


class Robot(Protocol):
    """The loop's thread calls `observe`. It also calls `act` and `safe_action`; if the loop is late
    or a signal came, the watchdog's thread calls them, possibly while `observe` is running. No two
    calls of `act` overlap, nor of `safe_action`. If there is a `close()`, `kilolayer-robot run`
    calls it after the last action."""

    def observe(self) -> Sensed:
        """The present measurement."""
        ...

    def act(self, action: np.ndarray) -> None:
        """Apply `action [action]`, within the card's bounds, until the next call; must not wait."""
        ...

    def safe_action(self) -> np.ndarray:
        """The action without a valid observation or plan, `[action]` within the card's bounds; must
        not wait: after half a period the newest earlier one is sent."""
        ...


def require_robot(robot: Any, name: str = "the robot") -> None:
    """Raises UserError unless the object has every method of `Robot`."""
    missing = [method for method in METHODS if not callable(getattr(robot, method, None))]
    if missing:
        raise UserError(
            f"{name} has no method {', '.join(missing)}: a robot has {', '.join(METHODS)}."
        )


def open_robot(spec: str, options: dict[str, Any] | None = None) -> Robot:
    """The robot that `module:Class` returns, called with the options.

    The module is searched for in the current directory too. Raises UserError if it cannot be
    imported or called, or if a method is missing.
    """
    module_name, _, class_name = spec.partition(":")
    if not module_name or not class_name:
        raise bad_field("robot", spec, "the form is module:Class, such as my_robot:Arm")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = getattr(importlib.import_module(module_name), class_name)
    # The user's module may fail in any way, and may be a script that ends the program.
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, ImportError | AttributeError):
            reason = str(error)
        raise bad_field("robot", spec, f"it cannot be imported ({reason})") from error
    if inspect.isclass(found):
        require_robot(found, spec)
    try:
        robot: Any = found(**(options or {}))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{spec} could not be opened: {type(error).__name__}: {error}") from error
    require_robot(robot, spec)
    return robot
