"""Draw `curve.png` from the evaluations kept here: python -m results.arm_reach_easy.make_curve"""

from pathlib import Path

from results.curves import draw

RUNS = {f"evaluations-seed{seed}.jsonl": f"seed {seed}" for seed in range(5)}
PANELS = {
    "success": "share of episodes within 0.05 m",
    "time_at_goal": "steps within 0.05 m, of 50",
    "final_distance": "mean final distance, m",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS)
