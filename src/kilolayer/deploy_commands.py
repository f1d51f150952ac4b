"""The commands that turn a trained run into a policy to deploy: like `cli.py`, no logic."""

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

OUTPUT = Console(highlight=False, soft_wrap=True)

PolicyPath = tyro.conf.Positional[Path]
Format = Literal["onnx", "stablehlo", "safetensors"]


def export(
    policy: PolicyPath,
    out: Path | None = None,
    format: tuple[Format, ...] = ("onnx", "stablehlo", "safetensors"),
    opset: int = 20,
) -> None:
    """Write a policy as files that run without this package.

    onnx: a plain graph for ONNX Runtime, any batch size (`examples/run_onnx.py` runs it with numpy
    alone). stablehlo: what `jax.export` makes, for CPU and CUDA. safetensors: the arrays with a
    JSON card, which every command here takes for a policy.

    Each is loaded back and compared with the policy, on random observations and on those that the
    policy meets in its task; where an action differs by more than 1e-5, nothing is written.

    Args:
        policy: A run directory or a policy directory.
        out: The directory to make; by default `export` in the policy's own.
        format: Which files to write.
        opset: The version of ONNX's operators to use, 17 at least.
    """
    from kilolayer.deploy.export import export_policy
    from kilolayer.runtime.progress import LiveDisplay

    display = LiveDisplay()
    try:
        written = export_policy(policy, out, format, opset, display)
    finally:
        display.close()
    for line in written.lines():
        OUTPUT.print(line)


COMMANDS = {"export": export}
