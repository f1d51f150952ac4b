"""A Weights & Biases sweep (extra `wandb`): `python -m examples.wandb_sweep`.

Needs an account there. Each run of the sweep trains once; Hyperband stops the poor ones.
"""

import wandb

import kilolayer

SWEEP = {
    "method": "bayes",
    "metric": {"name": "time_at_goal", "goal": "maximize"},
    "early_terminate": {"type": "hyperband", "min_iter": 2},
    "parameters": {
        "task": {"value": "arm_reach_easy"},
        "discount": {"min": 0.9, "max": 0.99},
        "width": {"values": [32, 64, 128]},
    },
}


def trial() -> None:
    with wandb.init() as run:

        def report(steps: int, time_at_goal: float) -> None:
            run.log({"time_at_goal": time_at_goal, "env_steps": steps})

        kilolayer.objective(dict(run.config), report)


if __name__ == "__main__":
    wandb.agent(wandb.sweep(SWEEP, project="kilolayer"), trial, count=12)
