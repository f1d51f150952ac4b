"""The value function of waypoint planning as an ONNX graph: the critic's energy for the actor's
action toward a goal."""

from typing import TYPE_CHECKING

import numpy as np

from kilolayer.deploy.export.onnx_graph import DEFAULT_OPSET, Graph, add_encoder, model
from kilolayer.deploy.planning.planners import CriticValue
from kilolayer.losses.energies import SQRT_FLOOR, Energy

if TYPE_CHECKING:
    from onnx import ModelProto


def value_graph(
    value: CriticValue, sizes: dict[str, int], opset: int = DEFAULT_OPSET
) -> "ModelProto":
    """`(observation [batch, o], goal [batch, g]) -> energy [batch]`, in float32.

    sizes: of observation, goal and action. Raises UserError as `policy_graph` does.
    """
    graph = Graph(opset)
    rows = graph.apply("Concat", "observation", "goal", axis=-1)
    squashed = graph.apply("Tanh", add_encoder(graph, value.actor.encoder, rows))
    halves = graph.constant([sizes["action"]] * 2, np.int64)
    graph.apply_to("Split", (squashed, halves), ("mean_action", "raw_log_std"), axis=-1)
    pair = graph.apply("Concat", "observation", "mean_action", axis=-1)
    phi = add_encoder(graph, value.critic.state_action, pair)
    psi = add_encoder(graph, value.critic.goal, "goal")
    energy = _energy(graph, value.energy, phi, psi)
    graph.apply_to("Identity", (energy,), ("energy",))
    return model(graph, sizes, {"energy": None})


def _energy(graph: Graph, energy: Energy, phi: str, psi: str) -> str:
    """Add `kilolayer.losses.energies.rowwise`."""
    if energy == "cosine":
        phi, psi = _unit_rows(graph, phi), _unit_rows(graph, psi)
    if energy in ("dot", "cosine"):
        return _sum(graph, graph.apply("Mul", phi, psi))
    change = graph.apply("Sub", phi, psi)
    squared = _sum(graph, graph.apply("Mul", change, change))
    if energy == "euclidean":
        squared = graph.apply("Sqrt", graph.apply("Max", squared, graph.constant(SQRT_FLOOR)))
    return graph.apply("Neg", squared)


def _unit_rows(graph: Graph, x: str) -> str:
    squares = _sum(graph, graph.apply("Mul", x, x), keepdims=1)
    root = graph.apply("Sqrt", graph.apply("Max", squares, graph.constant(SQRT_FLOOR)))
    return graph.apply("Div", x, root)


def _sum(graph: Graph, x: str, keepdims: int = 0) -> str:
    return graph.apply("ReduceSum", x, graph.constant([-1], np.int64), keepdims=keepdims)
