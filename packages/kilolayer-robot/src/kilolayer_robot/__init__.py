"""Runs exported policies on robots, with numpy and ONNX Runtime.

    policy = Policy.open("policy/")
    loop = ControlLoop(MyRobot(), policy.card, policy, goal=[8.0, 0.0])
    summary = loop.run(seconds=60)

Each name is imported on first use, so a program loads only the modules of the names that it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilolayer_robot.card import Card
    from kilolayer_robot.errors import UserError
    from kilolayer_robot.gate import Handling
    from kilolayer_robot.log import ControlLog
    from kilolayer_robot.loop import ControlLoop
    from kilolayer_robot.planning import Pursuit
    from kilolayer_robot.policy import Policy
    from kilolayer_robot.realtime import Realtime
    from kilolayer_robot.robot import Robot, Sensed
    from kilolayer_robot.timing import Timing

__version__ = "0.1.0"
_MODULES = {
    "Card": "card", "ControlLog": "log", "ControlLoop": "loop", "Handling": "gate",
    "Policy": "policy", "Pursuit": "planning", "Realtime": "realtime", "Robot": "robot",
    "Sensed": "robot", "Timing": "timing", "UserError": "errors",
}  # fmt: skip
__all__ = [
    "Card", "ControlLog", "ControlLoop", "Handling", "Policy", "Pursuit", "Realtime", "Robot",
    "Sensed", "Timing", "UserError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
