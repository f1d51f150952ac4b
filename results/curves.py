"""Learning curves from the evaluations that a folder of results keeps."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

PANEL_WIDTH, HEIGHT = 4.0, 3.4  # inches


def draw(
    folder: Path, runs: Mapping[str, str], panels: Mapping[str, str], goals: str = "evaluation"
) -> None:
    """Write `curve.png`: a panel for each metric, a line for each run, over updates.

    runs: a file of evaluations in `folder` and what its line is called. panels: a metric of the
    evaluations and its axis label. goals: `evaluation`, or `evaluation_training_goals` where these
    were evaluated beside them.
    """
    figure = Figure(figsize=(PANEL_WIDTH * len(panels), HEIGHT), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for file, run in runs.items():
            lines = [json.loads(line) for line in (folder / file).read_text().splitlines()]
            events = [line for line in lines if f"{goals}/{metric}" in line["metrics"]]
            updates = [event["updates"] / 1000 for event in events]
            values = [event["metrics"][f"{goals}/{metric}"] for event in events]
            axes.plot(updates, values, marker="o", markersize=3, label=run)
        axes.set(xlabel="thousand updates", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(folder / "curve.png", dpi=110)
