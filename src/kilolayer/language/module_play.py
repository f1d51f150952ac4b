"""Whole episodes of an action module, and which experts it used when."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from kilolayer.language.module import ActionModule
from kilolayer.physics.base import Physics
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import Episodes, Start, begin, play_step
from kilolayer.types import Array

PHASES = ("first third", "second third", "last third")
PLACES = ("near", "far")
NEAR = 2.0  # success radii from the goal


class Played(eqx.Module):
    """Episodes, and the gates that were at work in each step, `[time, layers, envs, experts]`."""

    episodes: Episodes
    use: Array


def play(
    task: Task, physics: Physics, module: ActionModule, reading: Array, start: Start
) -> Played:
    """Episodes from `start`, each after the instruction whose reading is in its row.

    reading `[envs, reading]`; physics for as many environments. Without noise, so the same every
    time.
    """

    def control_step(carry: tuple, _: None) -> tuple[tuple, tuple]:
        playing, chunk = carry
        action, chunk = module.act(chunk, task.observe(playing.physics), reading)
        playing, seen = play_step(task, physics, playing, action)
        return (playing, chunk), (seen, chunk.use)

    playing = begin(task, physics, start)
    carry = (playing, module.begin(len(playing.goal)))
    _, (seen, use) = jax.lax.scan(control_step, carry, length=task.episode_length)
    return Played(Episodes(task.achieved_goal(playing.physics), *seen), use)


def router_use(task: Task, played: Played, kinds: list[str]) -> dict[str, Any]:
    """Share of every expert by kind of instruction and by phase of movement, as JSON values.

    kinds: of each environment's instruction. `by_kind`, `by_phase`: a name to `[layers][experts]`,
    shares that sum to one in every layer. The phases are the thirds of the time until the goal is
    first reached, or of the episode where it never is; `near` the goal is within `NEAR` success
    radii.
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
    """Mean gates `[layers][experts]` over the steps that are chosen, None where there are none.

    use `[time, envs, layers, experts]`, chosen `[time, envs]`.
    """
    if not chosen.any():
        return None
    return np.round(use[chosen].mean(0, dtype=np.float64), 4).tolist()
