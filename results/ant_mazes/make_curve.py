"""Draw `curve.png` from the evaluations kept here: python -m results.ant_mazes.make_curve"""

from pathlib import Path

from results.curves import draw

RUNS = {
    "evaluations-big.jsonl": "big maze",
    "evaluations-medium.jsonl": "medium maze",
    "evaluations-one-start.jsonl": "medium maze, one start",
}
PANELS = {
    "success": "share of training goals reached",
    "smallest_distance": "mean smallest distance to them, m",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS, "evaluation_training_goals")
