"""Whole episodes of an action module, and its use of the experts over time."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from kilolayer.language.module import ActionModule
from kilolayer.physics.base import Physics
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import Episodes, EpisodeStart, start_episodes, step_episodes
from kilolayer.types import Array

PHASES = ("first third", "second third", "last third")
PLACES = ("near", "far")
NEAR = 2.0  # success radii from the goal


class Played(eqx.Module):
    """Episodes, and the router gates in each step, use `[time, layers, envs, experts]`."""

    episodes: Episodes
    use: Array


def play(
    task: Task, physics: Physics, module: ActionModule, reading: Array, start: EpisodeStart
) -> Played:
    """Play episodes from `start`, each with the instruction whose reading is in its row.

    reading `[envs, reading]`; physics for as many environments. Actions have no noise, so the
    result is deterministic.
    """

    def control_step(carry: tuple, _: None) -> tuple[tuple, tuple]:
        playing, chunk = carry
        action, chunk = module.act(chunk, task.observe(playing.physics), reading)
        playing, seen = step_episodes(task, physics, playing, action)
        return (playing, chunk), (seen, chunk.use)

    playing = start_episodes(task, physics, start)
    carry = (playing, module.begin(len(playing.goal)))
    _, (seen, use) = jax.lax.scan(control_step, carry, length=task.episode_length)
    return Played(Episodes(task.achieved_goal(playing.physics), *seen), use)


def router_use(task: Task, played: Played, kinds: list[str]) -> dict[str, Any]:
    """Mean gate of every expert, by kind of instruction and by phase of movement, as JSON values.

    kinds: kind of each environment's instruction. `by_kind` and `by_phase` map a name to shares
    `[layers][experts]`, which sum to one in every layer. The phases are thirds of the time until
    the goal is first reached, or of the episode if it never is. `near` is within `NEAR` success
    radii of the goal.
    """
    episodes, use = played.episodes, np.moveaxis(np.asarray(played.use), 1, 2)
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
        "by_kind": {name: _shares(use, chosen) for name, chosen in by_kind.items()},
        "by_phase": {name: _shares(use, chosen) for name, chosen in by_phase.items()},
    }


def _shares(use: np.ndarray, chosen: np.ndarray) -> list[list[float]] | None:
    """Mean gates `[layers][experts]` over the chosen steps; None if no step is chosen.

    use `[time, envs, layers, experts]`, chosen `[time, envs]`.
    """
    if not chosen.any():
        return None
    return np.round(use[chosen].mean(0, dtype=np.float64), 4).tolist()
