"""The commands that turn a trained run into a policy to deploy: like `cli.py`, no logic."""

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.types import bad_field

OUTPUT = Console(highlight=False, soft_wrap=True)

PolicyPath = tyro.conf.Positional[Path]
Format = Literal["onnx", "stablehlo", "safetensors"]
Runtime = Literal["jax", "onnx", "early-exit"]


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


def latency(
    policies: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("latency.html"),
    batch: int = 256,
    repeats: int = 1000,
    episodes: int = 64,
    runtime: tuple[Runtime, ...] = ("jax", "onnx", "early-exit"),
    tolerance: float = 0.01,
    patience: int = 1,
) -> None:
    """Time policies on this machine and set their latency against their score.

    Look for: a policy on the Pareto front with a latency that the control loop affords; a 99th
    percentile far above the median (the machine was busy); blocks that early exit does not use.

    Args:
        policies: Run directories and policy directories, all of one task.
        out: The page to write, an .html file; all figures go beside it, as .json.
        batch: Rows of the larger batch.
        repeats: Calls at batch 1; the larger batch is called a tenth as often.
        episodes: Episodes to score each policy on; 0 leaves scores away.
        runtime: What to run each policy on; onnx takes the extra `export`.
        tolerance: How little an action, in [-1, 1], must move over a block to have settled.
        patience: Blocks in a row over which it must not have moved.
    """
    from kilolayer.deploy.early_exit import EarlyExit
    from kilolayer.deploy.latency import measure_latency
    from kilolayer.report.latency_report import brief, header, rows, write_latency
    from kilolayer.runtime.progress import LiveDisplay

    if out.suffix != ".html":
        raise bad_field("out", str(out), "a name that ends in .html", out.stem + ".html")
    if not out.parent.is_dir():
        raise bad_field("out", str(out), "there is no such directory, make it first")
    display = LiveDisplay()
    try:
        exiting = EarlyExit(tolerance, patience)
        found = measure_latency(policies, batch, repeats, episodes, runtime, exiting, display)
    finally:
        display.close()
    table = Table(title=f"{found.task}: latency", title_justify="left")
    for name in brief(header(found)):
        table.add_column(name, justify="left" if name in ("policy", "runtime") else "right")
    for row in rows(found):
        table.add_row(*brief(row))
    # A row that a narrow terminal wraps is easier to read than columns cut short.
    Console(highlight=False, soft_wrap=True, width=max(OUTPUT.width, 160)).print(table)
    path = write_latency(found, out)
    OUTPUT.print(f"report  {path}\nfigures {path.with_suffix('.json')}")


COMMANDS = {"export": export, "latency": latency}
