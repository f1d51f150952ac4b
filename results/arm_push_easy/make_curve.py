"""Draw `curve.png` from the evaluations kept here: python -m results.arm_push_easy.make_curve"""

from pathlib import Path

from results.curves import draw

RUNS = {"evaluations-depth4.jsonl": "depth 4", "evaluations-depth8.jsonl": "depth 8"}
PANELS = {
    "success": "share of episodes within 0.1 m",
    "time_at_goal": "steps within 0.1 m, of 50",
    "final_distance": "mean final distance, m",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS)
