"""Kilolayer: goal-reaching agents without rewards, with networks from 4 to 1024 layers deep.

Names are imported when they are first used, so that `kilolayer --help` and `import kilolayer.gym`
load no more than they need.
"""

from typing import TYPE_CHECKING

from kilolayer.deferred import deferred

if TYPE_CHECKING:
    from kilolayer.analysis.load import Policy, Run, load
    from kilolayer.api import (
        collect,
        compare,
        distil,
        evaluate,
        export,
        export_robot,
        forecast,
        gallery,
        inspect,
        objective,
        play,
        prune,
        push,
        resume,
        runs,
        train,
        train_seeds,
        write_report,
        zoo,
    )
    from kilolayer.api.deployment import control, hierarchy, latency, serve
    from kilolayer.api.sentences import control_instruction, ground, play_instruction, train_vla
    from kilolayer.config import RunConfig, run_config
    from kilolayer.deploy.policy import DeployedPolicy, open_policy
    from kilolayer.errors import UserError
    from kilolayer.recommendations import recommended
    from kilolayer.studies.run import study

__all__ = [
    "DeployedPolicy", "Policy", "Run", "RunConfig", "UserError", "collect", "compare", "control",
    "control_instruction", "distil", "evaluate", "export", "export_robot", "forecast", "gallery",
    "ground", "hierarchy", "inspect", "latency", "load", "objective", "open_policy", "play",
    "play_instruction", "prune", "push", "recommended", "resume", "run_config", "runs", "serve",
    "study", "train", "train_seeds", "train_vla", "write_report", "zoo",
]  # fmt: skip
__version__ = "0.1.0"

_HOMES = {
    "analysis.load": ("Policy", "Run", "load"),
    "api": (
        "collect", "compare", "distil", "evaluate", "export", "export_robot", "forecast", "gallery",
        "inspect", "objective", "play", "prune", "push", "resume", "runs", "train",
        "train_seeds", "write_report", "zoo",
    ),
    "api.deployment": ("control", "hierarchy", "latency", "serve"),
    "api.sentences": ("control_instruction", "ground", "play_instruction", "train_vla"),
    "config": ("RunConfig", "run_config"),
    "deploy.policy": ("DeployedPolicy", "open_policy"),
    "errors": ("UserError",),
    "recommendations": ("recommended",),
    "studies.run": ("study",),
}  # fmt: skip

__getattr__ = deferred(globals(), _HOMES)
