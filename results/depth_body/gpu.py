"""Depth 64 on a GPU beside the other depths: scores up to the steps that it reached, and the test.

python -m results.depth_body.gpu, from the root of the repository.
"""

import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np

from kilolayer.analysis.statistics import mean_interval

HERE = Path(__file__).parent
DEEPEST, SHALLOWEST = "arm_push_easy-depth64", "depth4"
LAST = 5  # evaluations


def read(file: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """For each network and seed: environment steps and time at goal of every evaluation."""
    found: dict = defaultdict(lambda: defaultdict(list))
    for line in (HERE / file).read_text().splitlines():
        row = json.loads(line)
        network, seed = row["run"].rsplit("-seed", 1)
        found[network][seed].append((row["env_steps"], row["time_at_goal"]))
    return found


def main() -> None:
    runs = read("evaluations.jsonl") | {DEEPEST: read("evaluations-gpu.jsonl")[DEEPEST]}
    end = max(steps for steps, _ in runs[DEEPEST]["10"])
    scores = {
        network: np.array(
            [np.mean([s for at, s in each if at <= end][-LAST:]) for each in seeds.values()]
        )
        for network, seeds in runs.items()
    }
    print(f"mean of {LAST} evaluations up to {end} steps")
    for network, values in scores.items():
        found = mean_interval(values)
        print(f"{network}: {found.value:.1f} ({found.low:.1f} to {found.high:.1f})")
    deep, pooled = scores[DEEPEST], np.concatenate([scores[DEEPEST], scores[SHALLOWEST]])
    differences = [
        pooled[list(some)].mean() - np.delete(pooled, some).mean()
        for some in combinations(range(len(pooled)), len(deep))
    ]
    effect = differences[0]  # the first combination is the true one
    p = np.mean(np.abs(differences) >= abs(effect) - 1e-12)
    print(f"{DEEPEST} - {SHALLOWEST}: {effect:.2f}, exact permutation test p = {p:.2f}")


if __name__ == "__main__":
    main()
