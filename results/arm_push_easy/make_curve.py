"""Draw `curve.png` from the evaluations kept here: python -m results.arm_push_easy.make_curve

The phases of the new run follow one another: their updates and steps are counted on.
"""

from pathlib import Path

from results.curves import draw

RUNS = {
    "evaluations-before.jsonl": "before: preset arm",
    "evaluations-phases.jsonl": "three phases, without goal noise",
    "evaluations-noise.jsonl": "the fourth, with goal noise",
    "evaluations-one-run.jsonl": "one run, with goal noise",
}
PANELS = {
    "success": "share of episodes within 0.1 m",
    "time_at_goal": "steps within 0.1 m, of 50",
    "final_distance": "mean final distance, m",
}

if __name__ == "__main__":
    draw(Path(__file__).parent, RUNS, PANELS)
