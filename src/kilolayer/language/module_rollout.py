"""Whole episodes of an action module, and its use of the experts over time."""

from typing import Any

import jax
import numpy as np

from kilolayer.language.module import ActionModule
from kilolayer.physics.base import Physics
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import Episodes, EpisodeStart, start_episodes, step_episodes
from kilolayer.types import Array

PHASES = ("first third", "second third", "last third")
NEAR = 2.0  # success radii from the goal


def rollout(
    task: Task, physics: Physics, module: ActionModule, embedding: Array, start: EpisodeStart
) -> tuple[Episodes, Array]:
    """Episodes from `start`, each with the instruction whose embedding is in its row, and the
    router gates in each step, `[time, layers, envs, experts]`.

    embedding `[envs, embedding]`; physics for as many environments. Actions have no noise, so the
    result is deterministic.
    """

    def control_step(carry: tuple, _: None) -> tuple[tuple, tuple]:
        playing, chunk = carry
        action, chunk = module.act(chunk, task.observe(playing.physics), embedding)
        playing, step = step_episodes(task, physics, playing, action)
        return (playing, chunk), (step, chunk.gates)

    playing = start_episodes(task, physics, start)
    carry = (playing, module.initial_carry(len(playing.goal)))
    _, (steps, gates) = jax.lax.scan(control_step, carry, length=task.episode_length)
    return Episodes(task.achieved_goal(playing.physics), *steps), gates


def mean_gates(task: Task, episodes: Episodes, gates: Array, kinds: list[str]) -> dict[str, Any]:
    """Mean gate of every expert, by kind of instruction and by phase of movement, as JSON values.

    episodes, gates: from `rollout`. kinds: kind of each environment's instruction. `by_kind` and
    `by_phase` map a name to shares `[layers][experts]`, which sum to one in every layer. The phases
    are thirds of the time until the goal is first reached, or of the episode if it never is. `near`
    is within `NEAR` success radii of the goal.
    """
    by_env = np.moveaxis(np.asarray(gates), 1, 2)
    distance = np.asarray(task.distance(episodes.achieved, episodes.goal))
    alive = np.asarray(episodes.alive)
    reached = alive & (distance < task.goal.radius)
    end = np.where(reached.any(0), reached.argmax(0) + 1, alive.sum(0))
    step = np.arange(len(distance))[:, None]
    moving = step < end
    third = np.minimum(3 * step // np.maximum(end, 1), 2)
    near = distance < NEAR * task.goal.radius
    by_phase = {name: moving & (third == index) for index, name in enumerate(PHASES)}
    by_phase |= {"near": alive & near, "far": alive & ~near}
    by_kind = {kind: moving & (np.array(kinds) == kind)[None] for kind in sorted(set(kinds))}
    return {
        "by_kind": {name: _masked_mean(by_env, mask) for name, mask in by_kind.items()},
        "by_phase": {name: _masked_mean(by_env, mask) for name, mask in by_phase.items()},
    }


def _masked_mean(gates: np.ndarray, mask: np.ndarray) -> list[list[float]] | None:
    """Mean gates `[layers][experts]` over the steps of the mask; None if it has no step.

    gates `[time, envs, layers, experts]`, mask `[time, envs]`.
    """
    if not mask.any():
        return None
    return np.round(gates[mask].mean(0, dtype=np.float64), 4).tolist()
