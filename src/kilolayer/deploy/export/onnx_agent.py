"""An exported graph as an agent, so that an evaluation scores the graph that a robot runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.types import Array


@dataclass(frozen=True)
class OnnxAgent:
    """Acts with ONNX Runtime through a callback from the compiled episode. It ignores its state.

    session: made by `kilolayer.deploy.export.onnx_session.open_session`.
    """

    session: Callable[[np.ndarray, np.ndarray], list[np.ndarray]]
    action_dim: int

    def act(
        self, state: Any, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        def call(observation: Array, goal: Array) -> np.ndarray:
            return self.session(np.asarray(observation), np.asarray(goal))[0]

        shape = jax.ShapeDtypeStruct((len(observation), self.action_dim), jnp.float32)
        return jax.pure_callback(call, shape, observation, goal)
