"""Measure a run, or an arm that does nothing, over long episodes, with 95 % intervals.

python -m results.arm_push_easy.measure RUN|nothing [--episodes 512] [--steps 1000] [--seed 1]

Prints one JSON object: for the first 50 steps and for all, each score's mean and interval (normal,
of the episodes alone).
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.analysis.load import load
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import is_success
from kilolayer.tasks.registry import make_task
from kilolayer.training.evaluate import Evaluator, evaluation_key, evaluation_start, play_episodes

SHORT = 50


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    task = make_task("arm_push_easy")
    physics = build_physics(task.world, options.episodes)
    key = evaluation_key(options.seed, 0)
    start = evaluation_start(task, key, options.episodes, "evaluation")
    if options.run == "nothing":
        still = jnp.zeros((options.episodes, task.action_dim))

        def act(memory, observation, goal, key):
            return still, memory

        episodes = jax.jit(
            lambda: play_episodes(task, physics, act, None, key, start, options.steps)
        )()
    else:
        run = load(options.run)
        evaluator = Evaluator(run.task, physics, run.agent, options.steps)
        episodes = jax.jit(evaluator.run)(run.agent_state, key, start)
    distance = np.asarray(task.distance(episodes.achieved, episodes.goal))
    close = np.asarray(is_success(task, episodes.achieved, episodes.goal))
    lengths = sorted({min(SHORT, options.steps), options.steps})
    print(json.dumps({f"{n} steps": scores(distance[:n], close[:n]) for n in lengths}, indent=1))


def scores(distance: np.ndarray, close: np.ndarray) -> dict[str, list[float]]:
    """Mean, lowest and highest of each, from `[time, episodes]`."""
    each = {
        "time_at_goal": close.sum(0),
        "success": close.any(0),
        "at_goal_at_the_end": close[-1],
        "within_0.03": (distance < 0.03).any(0),
        "final_distance": distance[-1],
        "smallest_distance": distance.min(0),
    }
    return {name: interval(np.asarray(values, float)) for name, values in each.items()} | {
        "median_final_distance": [round(float(np.median(distance[-1])), 4)]
    }


def interval(values: np.ndarray) -> list[float]:
    mean, half = values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return [round(float(number), 4) for number in (mean, mean - half, mean + half)]


if __name__ == "__main__":
    main()
