"""The critics of a study of depth on one shared set of steps: what each depth has learned.

python -m results.depth_body.critic STUDY

The steps are the batches that all runs stored at their last evaluation, together; the goals are
commanded goals of these batches. Prints one table: the mean over seeds with its 95 % interval of

- the rank correlation of the critic's value with the negative distance of the cube to the goal:
  over all steps, and over steps nearer than NEAR only, the mean over goals;
- the effective rank of the residual stream after the first and the last block of the state-action
  encoder, each on the run's own batch.

The distance of the cube is not the time to the goal, so a correlation of 1 is not the aim; the
table compares depths on equal steps.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from kilolayer.analysis.diagnostics import block_diagnostics, replay_batch
from kilolayer.analysis.groups import mean_text
from kilolayer.analysis.load import Run
from kilolayer.analysis.study import load_study
from kilolayer.analysis.study_scores import replicated_runs_by_depth
from kilolayer.analysis.value_map import spearman
from kilolayer.replay.hindsight import Batch

NEAR = 0.1  # m, the success radius of the cube
GOALS = 64
COLUMNS = ("distance", "distance, near", "rank, first block", "rank, last block")


def shared_steps(runs: list[Run]) -> Batch:
    """The batches of all runs, one after the other."""
    batches = [replay_batch(run) for run in runs]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)


def measure(run: Run, steps: Batch) -> list[float]:
    """The COLUMNS of one run."""
    rate = jax.jit(run.agent.rate)
    chosen = np.random.default_rng(0).choice(len(steps.commanded_goal), GOALS, replace=False)
    found = []
    for goal in np.asarray(steps.commanded_goal)[chosen]:
        goals = np.broadcast_to(goal, np.shape(steps.commanded_goal))
        value = np.asarray(rate(run.agent_state, steps.observation, steps.action, goals))
        distance = np.linalg.norm(np.asarray(steps.achieved_goal) - goal, axis=-1)
        near = distance < NEAR
        found.append((spearman(value, -distance), spearman(value[near], -distance[near])))
    rank = block_diagnostics(run)["state-action encoder"].effective_rank
    return [*np.nanmean(found, axis=0), rank[0], rank[-1]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    groups = replicated_runs_by_depth(load_study(parser.parse_args().study))
    steps = shared_steps([run.run for runs in groups.values() for run in runs])
    print("| depth |", " | ".join(COLUMNS), "|")
    print("|---|" + "---|" * len(COLUMNS))
    for depth, runs in groups.items():
        rows = np.array([measure(run.run, steps) for run in runs])
        print(f"| {depth} |", " | ".join(mean_text(column) for column in rows.T), "|", flush=True)


if __name__ == "__main__":
    main()
