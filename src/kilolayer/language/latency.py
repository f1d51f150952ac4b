"""Latency on this machine of each part between a sentence and an action."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from kilolayer.deploy.latency import Timing
from kilolayer.language.base import Context, Encoder, Example
from kilolayer.language.contexts import encode_context
from kilolayer.language.encoders.cache import CachedEncoder
from kilolayer.language.scenes import draw_pictures
from kilolayer.tasks.base import Task

REPEATS = 50
MAX_SECONDS = 2.0  # after which the timing of a slow part stops


def time_parts(
    task: Task,
    encoder: Encoder,
    examples: Sequence[Example],
    networks: Mapping[str, Callable[[Context], Any]],
) -> dict[str, Timing]:
    """Seconds of each part at batch 1, in the order of the pipeline.

    examples: timed in turn. networks: functions of one example's features, by the part's name.
    """
    pictures = draw_pictures(task, [example.markers for example in examples])

    def encode(encoder: Encoder, i: int) -> Context:
        return encode_context(encoder, [examples[i].sentence], pictures[i : i + 1])

    rows = [encode(encoder, i) for i in range(len(examples))]
    with tempfile.TemporaryDirectory() as directory:
        cached = CachedEncoder(encoder, Path(directory))
        parts: dict[str, Callable[[int], Any]] = {
            "draw picture": lambda i: draw_pictures(task, [examples[i].markers]),
            "encode sentence": lambda i: encoder.text([examples[i].sentence]),
            "encode picture": lambda i: encoder.image(pictures[i : i + 1]),
            "both from the cache": lambda i: encode(cached, i),
        }
        parts |= {
            name: lambda i, network=network: jax.block_until_ready(network(rows[i]))
            for name, network in networks.items()
        }
        return {name: _time(part, len(examples)) for name, part in parts.items()}


def _time(part: Callable[[int], Any], count: int) -> Timing:
    """Time the part; one untimed call per example compiles and fills caches first."""
    for index in range(count):
        part(index)
    seconds: list[float] = []
    deadline = time.perf_counter() + MAX_SECONDS
    while len(seconds) < REPEATS and (len(seconds) < count or time.perf_counter() < deadline):
        began = time.perf_counter()
        part(len(seconds) % count)
        seconds.append(time.perf_counter() - began)
    return Timing.of(seconds)
