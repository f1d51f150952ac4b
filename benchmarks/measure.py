"""Timing of jitted functions."""

import time
from collections.abc import Callable
from typing import Any

import jax


def seconds_of(function: Callable, *arguments: Any) -> tuple[Any, float]:
    """Call once and wait: `(result, seconds)`."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - start
