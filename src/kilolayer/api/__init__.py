"""The Python API: one typed function per command. The commands only parse and print.

A name's module is imported when the name is first used, so that a command loads no more than it
needs. Import `deployment` (control loop, planners, latency, page) and `sentences` (language)
separately.
"""

from typing import TYPE_CHECKING

from kilolayer.deferred import deferred

if TYPE_CHECKING:
    from kilolayer.api.comparing import compare, forecast
    from kilolayer.api.playing import (
        DEFAULT_NOISE,
        EVALUATION_EPISODES,
        collect,
        evaluate,
        inspect,
        picture,
        play,
    )
    from kilolayer.api.policies import distil, export, export_robot, prune, push
    from kilolayer.api.showing import gallery, open_report, runs, zoo
    from kilolayer.api.training import objective, resume, train, train_seeds, write_report

__all__ = [
    "DEFAULT_NOISE", "EVALUATION_EPISODES", "collect", "compare", "distil", "evaluate", "export",
    "export_robot", "forecast", "gallery", "inspect", "objective", "open_report", "picture", "play",
    "prune", "push", "resume", "runs", "train", "train_seeds", "write_report", "zoo",
]  # fmt: skip

_HOMES = {
    "comparing": ("compare", "forecast"),
    "playing": (
        "DEFAULT_NOISE", "EVALUATION_EPISODES", "collect", "evaluate", "inspect", "picture", "play",
    ),
    "policies": ("distil", "export", "export_robot", "prune", "push"),
    "training": ("objective", "resume", "train", "train_seeds", "write_report"),
    "showing": ("gallery", "open_report", "runs", "zoo"),
}  # fmt: skip

__getattr__ = deferred(globals(), _HOMES)
