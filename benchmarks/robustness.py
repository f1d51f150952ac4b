"""Every task under random and under extreme actions: no NaN, no escape, the same twice.

    python -m benchmarks.robustness                 # all tasks, 256 worlds, 1000 control steps
    python -m benchmarks.robustness --tasks ant arm_push_easy --worlds 8 --steps 50

Random actions are drawn anew in every step. Extreme ones are -1 or 1: drawn anew in every step for
one half of the worlds, held for good in the other. Worlds whose episode ends start anew, as in
training. Prints one line per task
and kind of action with the largest number of each unit that was observed, and ends with an error
if a check failed.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import TASKS, make_task
from kilolayer.training.rollout import start_worlds, unroll
from kilolayer.types import Array

# Observations stay within these, by unit. They are far from what a sound simulation shows and near
# to what a broken one does: an ant at full power spins its hips at a hundred rad/s and no more.
BOUNDS = {
    "1": 1.001,
    "m": 150.0,
    "m/s": 60.0,
    "rad": 150.0,
    "rad/s": 400.0,
    "N": 1e-6,
    "N m": 301.0,
    "kg": 20.0,
    "kg m^2": 20.0,
    "cell": 12.0,
    "cell/s": 2.1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=sorted(TASKS))
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    failures = []
    for name in arguments.tasks:
        for kind in ("random", "extreme"):
            found = check(make_task(name), kind, arguments.worlds, arguments.steps)
            failures += [f"{name}, {kind} actions: {fault}" for fault in found]
    if failures:
        raise SystemExit("\n".join(failures))


def check(task: Task, kind: str, worlds: int, steps: int) -> list[str]:
    """What went wrong, one sentence each."""
    first, again = (play(task, kind, worlds, steps) for _ in range(2))
    observation, achieved, episodes = first
    faults = []
    if not all(map(np.array_equal, first, again)):
        faults.append("the second time was not like the first")
    if not np.isfinite(observation).all():
        faults.append("an observation is not finite")
    units = np.array([coordinate.unit for coordinate in task.observation])
    largest = {str(u): float(np.abs(observation[..., units == u]).max()) for u in np.unique(units)}
    for unit, value in largest.items():
        if value > BOUNDS[unit]:
            faults.append(f"{value:.3g} {unit} was observed, more than {BOUNDS[unit]:g}")
    if task.maze is not None:
        row, column = np.moveaxis(task.maze.cell_of(achieved[..., :2]), -1, 0)
        if task.maze.walls[row, column].any():
            faults.append("a body stood inside a wall")
    reached = ", ".join(f"{value:.3g} {unit}" for unit, value in largest.items())
    counts = f"{len(faults)} faults, {episodes} episodes"
    print(f"{task.name:24} {kind:8} {counts}; at most {reached}", flush=True)
    return faults


def play(task: Task, kind: str, worlds: int, steps: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Observations and achieved goals `[steps, worlds, ...]`, and how many episodes began."""
    physics = build_physics(task.world, worlds)
    held = jax.random.rademacher(jax.random.key(1), (worlds, task.action_dim), jnp.float32)

    def policy(observation: Array, goal: Array, key: Array) -> Array:
        if kind == "random":
            return jax.random.uniform(key, held.shape, minval=-1.0)
        fresh = jax.random.rademacher(key, held.shape, jnp.float32)
        return jnp.where(jnp.arange(worlds)[:, None] % 2, held, fresh)

    @jax.jit
    def run(key: Array):
        goal = task.sample_goal(key, worlds, "training")
        begun = start_worlds(task, physics, key, goal, "training")
        _, trajectory = unroll(task, physics, begun, policy, key, steps, task.episode_length)
        return trajectory.observation, trajectory.achieved_goal, (trajectory.age == 0).sum()

    observation, achieved, episodes = run(jax.random.key(0))
    return np.asarray(observation), np.asarray(achieved), int(episodes)


if __name__ == "__main__":
    main()
