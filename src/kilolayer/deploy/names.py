"""The names that options of the commands take. Loads nothing heavy."""

from typing import Literal

Order = Literal["greedy", "one-shot"]
Measure = Literal["divergence", "cosine", "norm"]
Format = Literal["onnx", "stablehlo", "safetensors"]
# Storage type of a graph's kernels.
Weights = Literal["float32", "float16", "int8"]
Runtime = Literal["jax", "onnx", "early-exit"]
# `direct` gives the controller the commanded goal itself.
PlannerName = Literal["waypoints", "interpolation", "proposal", "direct"]
