"""Draw `curve.png` from the evaluations kept here: python -m results.ant.make_curve"""

import json
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
RUNS = {"evaluations-laptop.jsonl": "laptop (width 256)", "evaluations-width128.jsonl": "width 128"}
PANELS = {
    "smallest_distance": "mean smallest distance, m",
    "easy_success": "share of episodes within 2 m",
    "success": "share of episodes within 0.5 m",
}


def main() -> None:
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        for file, run in RUNS.items():
            events = [json.loads(line) for line in (HERE / file).read_text().splitlines()]
            updates = [event["updates"] / 1000 for event in events]
            values = [event["metrics"][f"evaluation/{name}"] for event in events]
            axes.plot(updates, values, marker="o", markersize=3, label=run)
        axes.set(xlabel="thousand updates", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(HERE / "curve.png", dpi=110)


if __name__ == "__main__":
    main()
