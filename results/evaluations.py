"""The evaluations of a study's finished runs, a line each: what `results/` keeps of them.

python -m results.evaluations STUDY > results/FOLDER/evaluations.jsonl, from the root of the
repository.
"""

import json
import sys
from pathlib import Path

from kilolayer.run_directory import RunDirectory

METRICS = ("time_at_goal", "success", "smallest_distance", "final_distance")


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
