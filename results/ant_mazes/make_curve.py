"""Draw `curve.png` from the evaluations kept here: python -m results.ant_mazes.make_curve"""

from pathlib import Path

from results.curves import draw

RUNS = {
    "evaluations-big.jsonl": "ant_big_maze",
    "evaluations-medium.jsonl": "ant_medium_maze",
}
PANELS = {
    "success": "share of training goals reached",
    "smallest_distance": "mean smallest distance to them, m",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS, "evaluation_training_goals")
