"""Film an agent that follows an instruction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.language.evaluation_set import ConditionedPolicy, conditioned_episodes
from kilolayer.language.interpret import Scene
from kilolayer.physics.build import build_physics
from kilolayer.render.media import require_drawable, require_video_suffix
from kilolayer.render.style import Mark
from kilolayer.report.film import Film, film_episodes
from kilolayer.report.language_report import FILM, FILM_METADATA
from kilolayer.runtime.files import write_atomically
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import evaluation_key, evaluation_start

PIXELS = 360


@dataclass(frozen=True)
class InstructedAgent:
    """An agent, its state and its task. instruction: an instruction or goal, one row per leaf."""

    task: Task
    config: RunConfig
    follower: ConditionedPolicy
    state: Any
    instruction: Any


def film_instruction(
    agent: InstructedAgent, goal: np.ndarray, marks: Sequence[Mark], out: Path, seed: int = 0
) -> tuple[Film, int | None]:
    """Film one episode to `out`; returns the film and the control steps until success, or None.

    goal `[goal]`: the goal that is drawn and that defines success. Raises UserError if the film
    cannot be drawn or written.
    """
    task = agent.task
    require_drawable(task)
    require_video_suffix(out)
    key = evaluation_key(seed, 0)
    start = evaluation_start(task, key, 1, "evaluation", jnp.asarray(goal))
    physics = build_physics(task.world, 1, agent.config.physics)
    play = conditioned_episodes(task, physics, agent.follower, key)
    played = play(agent.state, agent.instruction, start)
    within = np.asarray(is_success(task, played.achieved, played.goal))[:, 0]
    reached = within & np.asarray(played.alive)[:, 0]
    film = film_episodes(task, played, out, marks, PIXELS)
    return film, int(reached.argmax()) + 1 if reached.any() else None


def film_for_report(agent: InstructedAgent, scene: Scene, directory: Path, seed: int) -> None:
    """Film the scene's example into the directory of a grounding or a module, for its report."""
    sentence, goal = scene.example.sentence, np.array(scene.example.goal, np.float32)
    film, steps = film_instruction(agent, goal, scene.marks, directory / FILM, seed)
    seconds = agent.task.world.control_step * (steps or 0)
    result = "not reached" if steps is None else f"reached after {seconds:.1f} s"
    text = (
        f"“{sentence}”: {result}. {film.speed:.2g} times real time. The large disc is the goal "
        "with its success radius; it is green while the agent is within it."
    )
    write_atomically(directory / FILM_METADATA, json.dumps({"text": text, "width": film.width}))
