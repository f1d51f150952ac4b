"""The table of README.md: `python score.py RUN...`, with runs whose last name is the agent's."""

import sys
from pathlib import Path

from scipy.stats import binomtest

import kilolayer
from kilolayer.api import evaluate

EPISODES = 512

print("| agent | success [95 %] | training goals [95 %] | time at goal, steps of 200 | updates |")
print("|---|---|---|---|---|")
for path in sys.argv[1:]:
    run = kilolayer.load(path)
    scores = evaluate(run, episodes=EPISODES, seed=1)
    cells = []
    for split in ("evaluation goals", "training goals"):
        share = scores[split]["success"]
        low, high = binomtest(round(share * EPISODES), EPISODES).proportion_ci(method="wilson")
        cells.append(f"{share:.2f} [{low:.2f}, {high:.2f}]")
    time = scores["evaluation goals"]["time_at_goal"]
    updates = run.events[-1]["updates"]
    print(f"| {Path(path).name} | {' | '.join(cells)} | {time:.0f} | {updates:,} |")
