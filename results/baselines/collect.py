"""Keep what a finished run shows here, and print its row of the table in README.md.

python results/baselines/collect.py runs/sac-her runs/ppo ...
"""

import json
import sys
from pathlib import Path

from scipy.stats import binomtest

import kilolayer

HERE = Path(__file__).parent


def row(directory: Path, folder: Path = HERE) -> str:
    run = kilolayer.load(directory)
    evaluations = [event for event in run.events if event["event"] == "evaluation"]
    headline = [event for event in evaluations if "evaluation/success" in event["metrics"]]
    (folder / f"config-{directory.name}.json").write_text(run.config.to_json())
    lines = "".join(json.dumps(event) + "\n" for event in headline)
    (folder / f"evaluations-{directory.name}.jsonl").write_text(lines)
    last, episodes = headline[-1]["metrics"], run.config.evaluation.eval_envs
    reached = round(last["evaluation/success"] * episodes)
    interval = binomtest(reached, episodes).proportion_ci(method="wilson")
    seconds = next(event["seconds"] for event in run.events[::-1] if "seconds" in event)
    return (
        f"| `{run.config.agent_name}` | {run.task.name} | {run.config.seed} | "
        f"{headline[-1]['env_steps']:,} | {headline[-1]['updates']:,} | "
        f"{reached / episodes:.2f} ({interval.low:.2f} to {interval.high:.2f}) | "
        f"{last['evaluation/time_at_goal']:.0f} of {run.task.episode_length} | "
        f"{sum(seconds.values()) / 60:.0f} |"
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(row(Path(name)))
