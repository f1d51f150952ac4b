"""The evaluations of a study's finished runs, a line each: what `results/` keeps of them.

python -m results.evaluations STUDY > results/FOLDER/evaluations.jsonl, from the root of the
repository.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from kilolayer.analysis.threshold import trailing_mean
from kilolayer.run_directory import RunDirectory

METRICS = ("time_at_goal", "success", "smallest_distance", "final_distance")


def final_scores(path: Path) -> dict[str, np.ndarray]:
    """Time at goal `[seeds]` of the runs in a file of evaluations, by what their names say before
    the seed: the mean of the last evaluations, as the package scores a run."""
    curves = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        evaluation = json.loads(line)
        curves[evaluation["run"]].append(evaluation["time_at_goal"])
    scores = defaultdict(list)
    for run, curve in curves.items():
        scores[run.rsplit("-seed", 1)[0]].append(trailing_mean(np.array(curve))[-1])
    return {name: np.array(values) for name, values in scores.items()}


def main() -> None:
    for run in sorted(Path(sys.argv[1], "runs").iterdir()):
        if not RunDirectory(run).finished:
            continue
        for line in (run / "metrics.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "evaluation":
                row = {"run": run.name} | {name: event[name] for name in ("env_steps", "updates")}
                row |= {name: round(event["metrics"][f"evaluation/{name}"], 4) for name in METRICS}
                print(json.dumps(row))


if __name__ == "__main__":
    main()
