"""A policy, and the value of its planner, as ONNX graphs of nodes with constant weights, no loop.

Two choices make it fast at batch 1. Weights are constants of plain nodes: a runtime packs them once
and fuses nodes, which it cannot do inside a loop. The scale of the residual branches costs nothing,
see `_stack`.
"""

import importlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from kilolayer.deploy.names import Weights
from kilolayer.deploy.planning.planners import CriticValue
from kilolayer.errors import UserError, bad_field
from kilolayer.losses.energies import SQRT_FLOOR, Energy
from kilolayer.networks.actor import LOG_STD_MAX, LOG_STD_MIN, Actor
from kilolayer.networks.block import LAYER_NORM_EPSILON, Dense, NormedLayer, ResidualBlock
from kilolayer.networks.encoders import Encoder
from kilolayer.networks.stack import Stack

if TYPE_CHECKING:
    from onnx import ModelProto

OLDEST_OPSET = 17  # the first with LayerNormalization
DEFAULT_OPSET = 20
GELU_OPSET = 20
MAX_BYTES = 2_000_000_000  # of all weights; protobuf writes less than 2**31, nodes included
FLOAT = 1  # ONNX's code for the element type float32


def require(name: str) -> Any:
    """Import a package of the extra `export`; raises UserError if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(
            f"this needs the package {name}, which is not installed: "
            "`pip install 'kilolayer[export]'` brings it."
        ) from error


class Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self, opset: int, weights: Weights = "float32"):
        require("onnx")
        if opset < OLDEST_OPSET:
            allowed = f"the graph needs LayerNormalization, which came with {OLDEST_OPSET}"
            raise bad_field("opset", opset, allowed, OLDEST_OPSET)
        self.opset, self.weights = opset, weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        array = np.ascontiguousarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def kernel(self, values: Any) -> str:
        """Add a kernel `[in, out]`, stored as `weights`, and return the name of its float32 value.

        int8: symmetric, with one scale per output. The runtime restores float32 once, when it loads
        the graph.
        """
        if self.weights == "float16":
            stored = np.asarray(values, np.float16)
            return self.apply("Cast", self.constant(stored, np.float16), to=FLOAT)
        if self.weights == "int8":
            scale = np.maximum(np.abs(values).max(0), np.finfo(np.float32).tiny) / 127
            stored = np.rint(values / scale)
            arrays = self.constant(stored, np.int8), self.constant(scale)
            return self.apply("DequantizeLinear", *arrays, axis=1)
        return self.constant(values)

    def apply(
        self, operator: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any
    ) -> str:
        """Add an operator and return the name of its first output. outputs: default one new
        name."""
        from onnx import helper

        outputs = outputs or (f"n{len(self.nodes)}",)
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[0]


def policy_graph(
    actor: Actor, sizes: dict[str, int], opset: int = DEFAULT_OPSET, weights: Weights = "float32"
) -> "ModelProto":
    """The graph of `(observation [batch, o], goal [batch, g]) -> (action, log_std)`, `[batch, a]`.

    action: the deterministic action, tanh of the mean. log_std: of the Gaussian before tanh. sizes:
    of observation, goal and action. weights: storage type of the kernels. The graph computes in
    float32, whatever the actor's compute dtype. Raises UserError if onnx is not installed, for an
    opset without LayerNormalization, and for more weights than an ONNX file holds.
    """
    graph = Graph(opset, weights)
    x = graph.apply("Concat", "observation", "goal", axis=-1)
    _outputs(graph, add_encoder(graph, actor.encoder, x), sizes["action"])
    return model(graph, sizes, {"action": sizes["action"], "log_std": sizes["action"]})


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
    graph.apply("Split", squashed, halves, outputs=("mean_action", "raw_log_std"), axis=-1)
    pair = graph.apply("Concat", "observation", "mean_action", axis=-1)
    phi = add_encoder(graph, value.critic.state_action, pair)
    psi = add_encoder(graph, value.critic.goal, "goal")
    energy = _energy(graph, value.energy, phi, psi)
    graph.apply("Identity", energy, outputs=("energy",))
    return model(graph, sizes, {"energy": None})


def model(graph: Graph, sizes: dict[str, int], outputs: dict[str, int | None]) -> "ModelProto":
    """The graph as a model with inputs `observation` and `goal`.

    outputs: row size by name, or None for one number per row. Raises UserError as `policy_graph`
    does.
    """
    helper = require("onnx").helper
    size = sum(constant.ByteSize() for constant in graph.constants)
    if size > MAX_BYTES:
        raise UserError(
            f"the weights take {size / 1e9:.2f} GB and an ONNX file holds {MAX_BYTES / 1e9:.0f} GB "
            "at most: export with --format safetensors, or prune or distil the policy first."
        )

    def tensor(name: str, size: int | None) -> Any:
        shape = ["batch"] if size is None else ["batch", size]
        return helper.make_tensor_value_info(name, FLOAT, shape)

    onnx_graph = helper.make_graph(
        graph.nodes,
        "policy",
        [tensor(name, sizes[name]) for name in ("observation", "goal")],
        [tensor(name, size) for name, size in outputs.items()],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", graph.opset)]
    try:
        version = helper.find_min_ir_version_for(opsets)
    except ValueError as error:
        newest = require("onnx").defs.onnx_opset_version()
        raise bad_field(
            "opset", graph.opset, f"the installed onnx goes up to {newest}", newest
        ) from error
    return helper.make_model(
        onnx_graph, opset_imports=opsets, ir_version=version, producer_name="kilolayer"
    )


def add_encoder(graph: Graph, encoder: Encoder, x: str) -> str:
    """Add input layer, stack and output layer on the rows `x`."""
    encoder = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), encoder)
    x = add_layer(graph, encoder.inputs, x)
    x, scale = _stack(graph, encoder.stack, x)
    return add_layer(graph, encoder.outputs, x, scale)


def _outputs(graph: Graph, x: str, action_dim: int) -> None:
    """Squash the mean into the action and the raw log deviation into its range."""
    half = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
    squashed = graph.apply("Tanh", x)
    sizes = graph.constant([action_dim, action_dim], np.int64)
    raw = f"n{len(graph.nodes)}_raw"
    graph.apply("Split", squashed, sizes, outputs=("action", raw), axis=-1)
    scaled = graph.apply("Mul", raw, graph.constant(half))
    graph.apply("Add", scaled, graph.constant(LOG_STD_MIN + half), outputs=("log_std",))


def _stack(graph: Graph, stack: Stack, x: str) -> tuple[str, float]:
    """Add all blocks; return the stream and the factor that restores its scale.

    An additive block computes x + s F(x) with branch scale s. The graph carries x / s instead, so
    that a block is a plain addition. Readers of the stream absorb s into a kernel or into the
    epsilon of a norm.
    """
    architecture, scale = stack.torso.architecture, stack.torso.branch_scale
    carried = architecture.residual == "add" and architecture.norm != "hyperspherical"
    if carried and scale != 1.0:
        x = graph.apply("Mul", x, graph.constant(1 / scale))
    for index in range(stack.num_blocks):
        block = jax.tree.map(lambda leaf, index=index: leaf[index], stack.blocks)
        x = add_block(graph, stack, block, x, scale if carried else 1.0)
    return x, scale if carried else 1.0


def add_block(graph: Graph, stack: Stack, block: ResidualBlock, x: str, carried: float) -> str:
    """Add one block on the stream `x`, whose true value is `carried` times its content."""
    architecture = stack.torso.architecture
    branch = x
    for index, layer in enumerate(block.layers):
        branch = add_layer(graph, layer, branch, carried if index == 0 else 1.0)
    if architecture.residual == "interpolate":
        assert block.interpolation is not None
        towards = graph.apply("Sub", branch, x)
        weights = graph.constant(stack.torso.branch_scale * block.interpolation)
        x = graph.apply("Add", x, graph.apply("Mul", towards, weights))
    elif architecture.residual == "none":
        x = branch
    else:
        if carried == 1.0 and stack.torso.branch_scale != 1.0:
            branch = graph.apply("Mul", branch, graph.constant(stack.torso.branch_scale))
        x = graph.apply("Add", x, branch)
    return _rms(graph, x) if architecture.norm == "hyperspherical" else x


def add_layer(graph: Graph, layer: Dense | NormedLayer, x: str, carried: float = 1.0) -> str:
    """Add a dense layer with its norm and activation; its input is `carried` times `x`."""
    if isinstance(layer, Dense):
        return _dense(graph, layer.kernel * carried, layer.bias, x)
    kernel, bias, scale = layer.dense.kernel, layer.dense.bias, layer.scale
    if layer.norm_first and layer.norm != "none":
        x = _dense(graph, kernel, bias, _norm(graph, layer, x, carried))
    elif layer.norm == "hyperspherical":
        assert scale is not None
        # The layer's scale comes before its norm, so it is multiplied into the kernel.
        x = _rms(graph, _dense(graph, kernel * carried * scale, bias * scale, x))
    else:
        x = _norm(graph, layer, _dense(graph, kernel * carried, bias, x))
    return _activation(graph, layer.activation, x)


def _dense(graph: Graph, kernel: Any, bias: Any, x: str) -> str:
    return graph.apply("Gemm", x, graph.kernel(kernel), graph.constant(bias))


def _norm(graph: Graph, layer: NormedLayer, x: str, carried: float = 1.0) -> str:
    """`normalise` of `carried` times `x`; the factor changes only the epsilon."""
    epsilon = LAYER_NORM_EPSILON / carried**2
    if layer.norm == "none":
        return x
    if layer.norm == "hyperspherical":
        return _rms(graph, graph.apply("Mul", x, graph.constant(layer.scale)), epsilon)
    scale = graph.constant(layer.scale)
    if layer.norm == "rms":
        return graph.apply("Mul", _rms(graph, x, epsilon), scale)
    offset = graph.constant(layer.offset)
    return graph.apply("LayerNormalization", x, scale, offset, axis=-1, epsilon=epsilon)


def _rms(graph: Graph, x: str, epsilon: float = LAYER_NORM_EPSILON) -> str:
    squares = graph.apply("Pow", x, graph.constant(2.0))
    if graph.opset < 18:
        mean = graph.apply("ReduceMean", squares, axes=[-1], keepdims=1)
    else:
        axes = graph.constant([-1], np.int64)
        mean = graph.apply("ReduceMean", squares, axes, keepdims=1)
    root = graph.apply("Sqrt", graph.apply("Add", mean, graph.constant(epsilon)))
    return graph.apply("Div", x, root)


def _activation(graph: Graph, name: str, x: str) -> str:
    if name == "linear":
        return x
    if name == "relu":
        return graph.apply("Relu", x)
    if name == "swish":
        return graph.apply("Mul", x, graph.apply("Sigmoid", x))
    if graph.opset >= GELU_OPSET:
        return graph.apply("Gelu", x, approximate="tanh")
    # GELU's tanh approximation (arXiv 1606.08415, section 2).
    cube = graph.apply("Mul", graph.apply("Mul", x, x), x)
    inner = graph.apply("Add", x, graph.apply("Mul", cube, graph.constant(0.044715)))
    tanh = graph.apply("Tanh", graph.apply("Mul", inner, graph.constant(np.sqrt(2 / np.pi))))
    half = graph.apply("Mul", x, graph.constant(0.5))
    return graph.apply("Mul", half, graph.apply("Add", tanh, graph.constant(1.0)))


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
