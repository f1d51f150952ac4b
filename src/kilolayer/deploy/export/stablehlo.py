"""A policy as a serialised XLA program: `jax.export` for CPU and CUDA and any batch size."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from kilolayer.networks.actor import Actor
from kilolayer.types import Array

PLATFORMS = ("cpu", "cuda")


def act(actor: Actor, observation: Array, goal: Array) -> tuple[Array, Array]:
    """The outputs of an exported policy: deterministic action and log_std, `[batch, a]` each."""
    mean, log_std = actor(observation, goal)
    return jnp.tanh(mean), log_std


def serialised_policy(actor: Actor, sizes: dict[str, int]) -> bytes:
    """`(observation [batch, o], goal [batch, g]) -> (action, log_std)`, each `[batch, a]`.

    The weights are constants of the program. sizes: of observation, goal and action.
    """
    (batch,) = export.symbolic_shape("batch")
    inputs = [
        jax.ShapeDtypeStruct((batch, sizes[name]), jnp.float32) for name in ("observation", "goal")
    ]
    program = export.export(jax.jit(partial(act, actor)), platforms=PLATFORMS)(*inputs)
    return bytes(program.serialize())


def open_serialised(path: Path) -> Any:
    """The function in a file of `serialised_policy`: `(observation, goal) -> (action, log_std)`."""
    return jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
