"""Film an agent that follows an instruction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.language.score import Follower
from kilolayer.physics.build import build_physics
from kilolayer.render.marks import Mark
from kilolayer.render.media import require_drawable, require_film_name
from kilolayer.report.film import Film, film_episodes
from kilolayer.report.language_report import FILM, FILM_ABOUT
from kilolayer.runtime.files import write_atomically
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import evaluation_key, evaluation_start, play_episodes

PIXELS = 360


@dataclass(frozen=True)
class Acting:
    """An agent, its state and its task. told: the instruction or goal; every leaf has one row."""

    task: Task
    config: RunConfig
    follower: Follower
    state: Any
    told: Any


def film_said(
    acting: Acting, goal: np.ndarray, marks: Sequence[Mark], out: Path, seed: int = 0
) -> tuple[Film, int | None]:
    """Film one episode to `out`; returns the film and the control steps until success, or None.

    goal `[goal]`: the goal that is drawn and that defines success. Raises UserError if the film
    cannot be drawn or written.
    """
    task, config, follower = acting.task, acting.config, acting.follower
    require_drawable(task)
    require_film_name(out)
    key = evaluation_key(seed, 0)
    start = evaluation_start(task, key, 1, "evaluation", jnp.asarray(goal))
    physics = build_physics(task.world, 1, config.physics)

    @jax.jit
    def run(state: Any, told: Any) -> Any:
        def policy(memory: Any, observation: Any, goal: Any, key: Any) -> tuple:
            return follower.act(state, memory, observation)

        memory = follower.begin(state, told)
        return play_episodes(task, physics, policy, memory, key, start, task.episode_length)

    played = run(acting.state, acting.told)
    close = np.asarray(is_success(task, played.achieved, played.goal))[:, 0]
    reached = close & np.asarray(played.alive)[:, 0]
    film = film_episodes(task, played, out, marks, PIXELS)
    return film, int(reached.argmax()) + 1 if reached.any() else None


def film_for_report(
    acting: Acting,
    sentence: str,
    goal: np.ndarray,
    marks: Sequence[Mark],
    directory: Path,
    seed: int,
) -> None:
    """Film an episode into the directory of a grounding or a module, for its report."""
    film, reached = film_said(acting, goal, marks, directory / FILM, seed)
    step = acting.task.world.control_step
    end = "not reached" if reached is None else f"reached after {reached * step:.1f} s"
    text = (
        f"“{sentence}”: {end}. {film.speed:.2g} times its own speed. The large disc "
        "is the goal with its success radius, green while the agent is within it."
    )
    write_atomically(directory / FILM_ABOUT, json.dumps({"text": text, "width": film.width}))
