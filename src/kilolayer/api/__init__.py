"""The Python API: one typed function per command. The commands only parse and print.

Import `deployment` (control loop, planners, latency) and `sentences` (language) separately, since
they load more than training needs.
"""

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
from kilolayer.api.runs import (
    compare,
    forecast,
    fresh_directory,
    report,
    resume,
    train,
    train_seeds,
)
from kilolayer.api.showing import gallery, open_report, runs
from kilolayer.api.tuning import objective

__all__ = [
    "DEFAULT_NOISE",
    "EVALUATION_EPISODES",
    "collect",
    "compare",
    "distil",
    "evaluate",
    "export",
    "export_robot",
    "forecast",
    "fresh_directory",
    "gallery",
    "inspect",
    "objective",
    "open_report",
    "picture",
    "play",
    "prune",
    "push",
    "report",
    "resume",
    "runs",
    "train",
    "train_seeds",
]
