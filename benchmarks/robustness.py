"""Every task under random and under extreme actions: no NaN, no escape, the same twice.

    python -m benchmarks.robustness                 # all tasks, 256 environments, 1000 control
    steps python -m benchmarks.robustness --tasks ant arm_push_easy --environments 8 --steps 50

Random actions are drawn anew in every step. Extreme ones are -1 or 1: drawn anew in every step for
one half of the environments, held for good in the other. Environments whose episode ends start
anew, as in training. The first quarter is played twice. Prints one line per task and kind of action
with the largest number of each unit that was observed, and ends with an error if a check failed.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import TASKS, make_task
from kilolayer.training.rollout import reset, unroll
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


# Heights of the floor, in m, below which the centre of what lies on it never comes.
FLOOR = {"cube z": 0.0, "puck z": -0.325}
# Episodes are played in so many parts, of which the first is played twice.
PARTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=sorted(TASKS))
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    failures = []
    for name in arguments.tasks:
        for kind in ("random", "extreme"):
            found = check(make_task(name), kind, arguments.envs, arguments.steps)
            failures += [f"{name}, {kind} actions: {fault}" for fault in found]
    if failures:
        raise SystemExit("\n".join(failures))


def check(task: Task, kind: str, envs: int, steps: int) -> list[str]:
    """What went wrong, one sentence each."""
    observation, achieved, episodes, diverged, repeated = play(task, kind, envs, steps)
    faults = []
    if not repeated:
        faults.append("the second time was not like the first")
    if diverged:
        faults.append(f"environments diverged {diverged} times")
    units = np.array([coordinate.unit for coordinate in task.observation])
    largest = {str(u): float(np.abs(observation[..., units == u]).max()) for u in np.unique(units)}
    for unit, value in largest.items():
        if value > BOUNDS[unit]:
            faults.append(f"{value:.3g} {unit} was observed, more than {BOUNDS[unit]:g}")
    for index, coordinate in enumerate(task.observation):
        lowest = float(observation[..., index].min())
        if lowest < FLOOR.get(coordinate.name, -np.inf):
            faults.append(f"{coordinate.name} was {lowest:.3g} {coordinate.unit}, under the floor")
    if task.maze is not None:
        row, column = np.moveaxis(task.maze.cell_of(achieved[..., :2]), -1, 0)
        if task.maze.walls[row, column].any():
            faults.append("a body stood inside a wall")
    reached = ", ".join(f"{value:.3g} {unit}" for unit, value in largest.items())
    counts = f"{len(faults)} faults, {episodes} episodes"
    print(f"{task.name:24} {kind:8} {counts}; at most {reached}", flush=True)
    return faults


def play(
    task: Task, kind: str, envs: int, steps: int
) -> tuple[np.ndarray, np.ndarray, int, int, bool]:
    """Observations and achieved goals `[steps, envs, ...]`, how many episodes began and how many
    ended because their environment diverged, and whether the first part was the same when it was
    played again.
    """
    physics = build_physics(task.world, envs)
    held = jax.random.rademacher(jax.random.key(1), (envs, task.action_dim), jnp.float32)

    def policy(observation: Array, goal: Array, key: Array) -> Array:
        if kind == "random":
            return jax.random.uniform(key, held.shape, minval=-1.0)
        fresh = jax.random.rademacher(key, held.shape, jnp.float32)
        return jnp.where(jnp.arange(envs)[:, None] % 2, held, fresh)

    @jax.jit
    def begin(key: Array):
        goal = task.sample_goal(key, envs, "training")
        return reset(task, physics, key, goal, "training")

    @jax.jit
    def go_on(state, key: Array):
        length = task.episode_length
        state, played, cut_off = unroll(task, physics, state, policy, key, steps // PARTS, length)
        counts = (played.episode_step == 0).sum(), cut_off.diverged.sum()
        return state, played.observation, played.achieved_goal, *counts

    keys = jax.random.split(jax.random.key(0), 1 + PARTS)
    state, parts = begin(keys[0]), []
    for key in keys[1:]:
        state, *part = go_on(state, key)
        parts.append(tuple(map(np.asarray, part)))
    again = go_on(begin(keys[0]), keys[1])[1:]
    observation, achieved, *counts = map(list, zip(*parts, strict=True))
    episodes, diverged = (int(sum(count)) for count in counts)
    repeated = all(map(np.array_equal, parts[0], again))
    return np.concatenate(observation), np.concatenate(achieved), episodes, diverged, repeated


if __name__ == "__main__":
    main()
