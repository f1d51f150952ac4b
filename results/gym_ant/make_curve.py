"""Draw `curve.png` from the evaluations kept here: python -m results.gym_ant.make_curve"""

from pathlib import Path

from results.curves import draw

RUNS = {
    "evaluations-laptop.jsonl": "laptop (width 256)",
    "evaluations-width128.jsonl": "width 128",
    "evaluations-longer-in-second-half.jsonl": "whole episodes from half on",
}
PANELS = {
    "smallest_distance": "mean smallest distance, m",
    "easy_success": "share of episodes within 2 m",
    "success": "share of episodes within 0.5 m",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS)
