"""Latency on this machine of each part between a sentence and an action."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from kilolayer.deploy.latency import Timing
from kilolayer.language.base import Context, Encoder, Example
from kilolayer.language.contexts import contexts
from kilolayer.language.encoders.cache import Cached
from kilolayer.language.scenes import draw_pictures
from kilolayer.tasks.base import Task

REPEATS = 50
PATIENCE = 2.0  # seconds after which the timing of a slow part stops


def time_parts(
    task: Task,
    encoder: Encoder,
    examples: Sequence[Example],
    acting: Mapping[str, Callable[[Context], Any]],
) -> dict[str, Timing]:
    """Seconds of each part at batch 1, in the order of the pipeline.

    examples: timed in turn. acting: functions of one example's features, by the part's name.
    """
    pictures = draw_pictures(task, [example.markers for example in examples])
    rows = [
        contexts(encoder, [example.sentence], picture[None])
        for example, picture in zip(examples, pictures, strict=True)
    ]
    with tempfile.TemporaryDirectory() as directory:
        cached = Cached(encoder, Path(directory))
        parts: dict[str, Callable[[int], Any]] = {
            "picture drawn": lambda i: draw_pictures(task, [examples[i].markers]),
            "sentence encoded": lambda i: encoder.text([examples[i].sentence]),
            "picture encoded": lambda i: encoder.image(pictures[i : i + 1]),
            "both, cached": lambda i: contexts(cached, [examples[i].sentence], pictures[i : i + 1]),
        }
        parts |= {
            name: lambda i, act=act: jax.block_until_ready(act(rows[i]))
            for name, act in acting.items()
        }
        return {name: _timed(part, len(examples)) for name, part in parts.items()}


def _timed(part: Callable[[int], Any], count: int) -> Timing:
    """Time the part; one untimed call per example compiles and fills caches first."""
    for index in range(count):
        part(index)
    seconds: list[float] = []
    until = time.perf_counter() + PATIENCE
    while len(seconds) < REPEATS and (len(seconds) < count or time.perf_counter() < until):
        began = time.perf_counter()
        part(len(seconds) % count)
        seconds.append(time.perf_counter() - began)
    return Timing.of(seconds)
