"""Configs and commands without this machine's directories, for use on other machines."""

import shlex
from pathlib import Path

from kilolayer.config import RunConfig
from kilolayer.replay.minari_format import PREFIX as MINARI
from kilolayer.types import bad_field

# Options of `train` that name directories, and the replacement value; None drops the option.
PATH_OPTIONS = {"--out": None, "--start-from": "RUN", "--resume": "RUN"}
# Options of `train` that name files, of which the name is kept.
FILE_OPTIONS = ("--dataset", "--config")


def portable(config: RunConfig) -> RunConfig:
    """The config without this machine's directories.

    Raises UserError unless the task is one of this package's.
    """
    if config.task.gym is not None or config.task.mjcf is not None or ":" in config.task.task:
        allowed = "only a policy of one of this package's tasks can be opened elsewhere"
        raise bad_field("task", config.task.name, allowed)
    names = {
        field: None if (value := config.flat()[field]) is None else _file_name(value)
        for field in ("start_from", "dataset")
    }
    return config.having(**names)


def without_paths(command: str) -> str:
    """The command for another machine: without --out, with RUN for other directories, and files
    without their directories."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        written, joined, value = word.partition("=")
        option = written.replace("_", "-")  # the command line accepts both
        if option not in (*PATH_OPTIONS, *FILE_OPTIONS):
            kept.append(word)
            continue
        value = value if joined else next(words, "")
        if option in FILE_OPTIONS:
            kept += [option, _file_name(value)]
        elif PATH_OPTIONS[option] is not None:
            kept += [option, "None" if value == "None" else str(PATH_OPTIONS[option])]
    return shlex.join(kept)


def _file_name(value: str) -> str:
    """The name without its directories; the name of a Minari data set may have slashes."""
    return value if value.startswith(MINARI) else Path(value).name
