"""Published learning curves, read from a user's file: time at goal by task and depth.

The file is JSON. Each task has `num_epochs`, `depths`, and by depth `depth_mean` and
`depth_std_error`: lists with one value per million environment steps, in control steps out of 1000.
The plot data of arXiv 2503.14858 have this form.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilolayer.errors import UserError

EVALUATION_INTERVAL = 1_000_000  # environment steps
EPISODE_LENGTH = 1000  # control steps of a published episode


@dataclass(frozen=True)
class PublishedCurve:
    """steps, mean, error `[evaluations]`: environment steps; control steps at the goal, mean over
    seeds and its standard error."""

    steps: np.ndarray
    mean: np.ndarray
    error: np.ndarray


def read_published(file: Path) -> dict[str, dict[int, PublishedCurve]]:
    """The curves by task and depth; raises UserError if the file has another format."""
    try:
        tasks = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: {
                depth: _curve(data["depth_mean"][str(depth)], data["depth_std_error"][str(depth)])
                for depth in data["depths"]
            }
            for name, data in tasks.items()
        }
    except OSError as error:
        raise UserError(f"cannot read published curves from {file}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} does not hold published curves ({error}): it needs depths, depth_mean and "
            "depth_std_error for each task."
        ) from error


def _curve(mean: list[float], error: list[float]) -> PublishedCurve:
    steps = EVALUATION_INTERVAL * np.arange(1, len(mean) + 1)
    values, errors = np.array(mean, np.float64), np.array(error, np.float64)
    if values.shape != errors.shape or values.ndim != 1:
        raise ValueError(f"{values.shape} means and {errors.shape} errors")
    return PublishedCurve(steps, values, errors)
