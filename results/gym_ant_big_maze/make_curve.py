"""Draw `curve.png` from the evaluations kept here: python -m results.gym_ant_big_maze.make_curve"""

from pathlib import Path

from results.curves import draw

RUNS = {"evaluations.jsonl": "far goals"}
PANELS = {
    "smallest_distance": "mean smallest distance, m",
    "behaviour/speed": "mean speed, m/s",
    "survival": "share of episodes without a fall",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS)
