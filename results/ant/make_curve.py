"""Draw `curve.png` from the evaluations kept here: python -m results.ant.make_curve"""

from pathlib import Path

from results.curves import draw

RUNS = {
    "evaluations-seed0.jsonl": "kilolayer train --task ant, seed 0",
    "evaluations-seed1.jsonl": "seed 1",
    "evaluations-seed2.jsonl": "seed 2",
    "evaluations-horizon-to-100.jsonl": "horizon grows to 100",
    "evaluations-euler.jsonl": "Euler",
    "evaluations-euler-entropy-minus-half.jsonl": "Euler, less noise",
}
PANELS = {
    "success": "share of episodes within 0.5 m",
    "time_at_goal": "steps at the goal, of 1,000",
    "smallest_distance": "mean smallest distance, m",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS)
