"""ONNX Runtime sessions on one thread."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.deploy.export.onnx_graph import OLDEST_OPSET, require
from kilolayer.errors import bad_field
from kilolayer.types import Array

OUTPUTS = ["action", "log_std"]


def open_session(path: Path | bytes) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray]]:
    """The function of a policy's ONNX file: `(observation, goal) -> [action, log_std]`.

    path: the file or its content. It runs on one thread, since a policy at batch 1 gains nothing
    from more. Raises UserError if onnxruntime is missing or does not know the file's opset.
    """
    session = session_of(path)

    def run(observation: np.ndarray, goal: np.ndarray) -> list[np.ndarray]:
        return session.run(OUTPUTS, {"observation": observation, "goal": goal})

    return run


def session_of(path: Path | bytes) -> Any:
    """An ONNX Runtime session with all graph optimisations, on one thread."""
    runtime, onnx = require("onnxruntime"), require("onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = path if isinstance(path, bytes) else path.read_bytes()
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors have no common class
        opset = onnx.load_from_string(content).opset_import[0].version
        newest = newest_opset(opset)
        if newest == opset:
            raise
        allowed = f"the installed onnxruntime {runtime.__version__} goes up to {newest}"
        raise bad_field("opset", opset, allowed, newest) from error


def newest_opset(below: int) -> int:
    """The newest opset up to `below` that the installed runtime can load."""
    runtime, helper = require("onnxruntime"), require("onnx").helper
    value = helper.make_tensor_value_info("x", 1, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    output = helper.make_tensor_value_info("y", 1, [1])
    graph = helper.make_graph([node], "probe", [value], [output])
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    for opset in range(below, OLDEST_OPSET, -1):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8  # every runtime with the oldest opset reads this version
        try:
            runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception:
            continue
        return opset
    return OLDEST_OPSET


@dataclass(frozen=True)
class OnnxAgent:
    """An exported graph as an agent, so that an evaluation scores the graph that a robot runs.

    Acts with ONNX Runtime through a callback from the compiled episode. It ignores its state.

    session: made by `open_session`.
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
