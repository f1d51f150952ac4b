"""Evaluation in OGBench's own mazes: its model, its integrator, its code (extra `ogbench`).

OGBench (arXiv 2410.20092, version 1.2, MIT licence) is imported unchanged. By default its episodes
end at the first success; here they continue, so that time at the goal is measured too.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import proportion_interval
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.errors import UserError, bad_field, nearest, require_at_least
from kilolayer.runtime.progress import ProgressDisplay, SilentDisplay
from kilolayer.tasks.ant import OPEN_GOAL_DISTANCE, Ant
from kilolayer.tasks.base import Task
from kilolayer.tasks.mazes import EVALUATION_TASKS
from kilolayer.training.evaluate import evaluation_key, evaluation_policy, evaluation_start

MISSING = "OGBench is not installed: `pip install 'kilolayer[ogbench]'`."
PREFIX = "ogbench:"
ARENA = "arena"
# OGBench's maze type by name. OGBench registers all of them except the arena, which it uses only
# for its ball task.
MAZES = {f"antmaze-{layout}-v0": layout for layout in (*EVALUATION_TASKS, ARENA)}
# A dataset is named after its environment, with one or two of these words inserted.
DATASET_WORDS = re.compile(r"-(navigate|stitch|explore|oraclerep)(?=-)")
# OGBench's other mazes, by a part of the name, with the reason why no policy is scored there.
REFUSED = {
    "visual-": "its observations are images, and policies of this package observe state vectors",
    "-singletask": "it rewards one fixed task and gives the policy no goal; use the maze "
    "without -singletask",
    "-teleport": "it teleports the ant to random places, which no task of this package does",
    "pointmaze-": "its point has no velocity and 2 observations; the point of this package has 4",
    "humanoidmaze-": "its humanoid has 21 actuators and 69 observations; the humanoid of this "
    "package has 17 and 246",
    "antsoccer-": "its ant has 42 observations; ant_ball has 31",
}
EPISODES = 10
STEPS = 1000
# Environments per batch of the policy. OGBench steps them one after the other.
BATCH_ENVS = 20
OBSERVATION, ACTION = 29, 8
# Offset from OGBench's coordinates to those of the policy's task, m along x and y.
MAZE_SHIFT, ARENA_SHIFT = np.array([4.0, 4.0]), np.array([-10.0, -10.0])


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode of an OGBench task.

    task: OGBench's task number, from 1. seed: of everything that the environment draws. start, goal
    `[2]`: positions in OGBench's frame, m, that replace those of the environment.
    """

    task: int
    seed: int
    start: np.ndarray | None = None
    goal: np.ndarray | None = None


def score(
    policy: Run | DeployedPolicy,
    name: str,
    episodes: int = EPISODES,
    seed: int = 0,
    samples: int = 1,
    steps: int = STEPS,
    display: ProgressDisplay | None = None,
) -> dict[str, dict[str, float]]:
    """Score a policy in one of OGBench's mazes, for each task and for all tasks together.

    name: such as `ogbench:antmaze-medium-v0`. episodes: played for each task. steps: control steps
    of an episode. Returns for each task: success (share of episodes with any step within 0.5 m of
    the goal) with Wilson's 95 % interval, time_at_goal (mean control steps there), and episodes.
    The same seed gives the same scores. Raises UserError if OGBench is missing, if it has no such
    maze, or if the policy's body is not OGBench's ant.
    """
    layout = find_maze(name)
    display = display or SilentDisplay()
    _require_fit(policy.task, name, layout, display)
    require_at_least(1, episodes=episodes, samples=samples, steps=steps)
    _make_maze_env()  # Raises before any work if OGBench is missing.
    specs = (
        _arena_episodes(episodes, seed)
        if layout == ARENA
        else _task_episodes(layout, episodes, seed)
    )
    time_at_goal = _play(policy, layout, specs, samples, seed, steps, display)
    numbers = np.array([spec.task for spec in specs])
    if layout == ARENA:
        return {f"goals at {OPEN_GOAL_DISTANCE:g} m": _scores(time_at_goal)}
    by_task = {
        f"task {number}": _scores(time_at_goal[numbers == number]) for number in np.unique(numbers)
    }
    return by_task | {"all tasks": _scores(time_at_goal)}


def find_maze(name: str) -> str:
    """OGBench's maze type for the name of an environment or of a dataset.

    Raises UserError with the nearest known name, or with the reason why the maze is refused.
    """
    plain = DATASET_WORDS.sub("", name.removeprefix(PREFIX))
    known = [PREFIX + each for each in MAZES]
    if name.startswith(PREFIX) and plain in MAZES:
        return MAZES[plain]
    allowed = f"a policy is scored in {', '.join(known)}"
    for part, reason in REFUSED.items():
        if name.startswith(PREFIX) and part in plain:
            raise bad_field("gym", name, f"{reason}; {allowed}")
    raise bad_field("gym", name, allowed, nearest(PREFIX + plain, known))


def _require_fit(task: Task, name: str, layout: str, display: ProgressDisplay) -> None:
    """Raise UserError unless the task's body is OGBench's ant. Print a note if the policy was not
    trained in this maze."""
    sizes = len(task.observation), task.action_dim
    if sizes != (OBSERVATION, ACTION):
        reason = f"it has {sizes[0]} observations and {sizes[1]} actions, not 29 and 8"
    elif type(task) is not Ant:
        reason = "its actuators or its time step differ from those of OGBench's ant"
    else:
        if task.layout != (None if layout == ARENA else layout):
            display.note(f"note: the policy was trained on {task.name}, not in {name}")
        return
    raise UserError(
        f"a policy of task {task.name} cannot be scored in {name}: {reason}; score one of the task "
        "ant or of an ant_..._maze."
    )


def _scores(time_at_goal: np.ndarray) -> dict[str, float]:
    """Scores from each episode's control steps at the goal, `[episodes]`."""
    share = proportion_interval(int((time_at_goal > 0).sum()), len(time_at_goal))
    return {
        "success": share.value,
        "success_low": share.low,
        "success_high": share.high,
        "time_at_goal": float(time_at_goal.mean()),
        "episodes": float(len(time_at_goal)),
    }


def _seed(*parts: int) -> int:
    """Mix the parts into one 32-bit seed for NumPy's global generator."""
    return int(np.random.SeedSequence([part % 2**32 for part in parts]).generate_state(1)[0])


def _task_episodes(layout: str, episodes: int, seed: int) -> list[EpisodeSpec]:
    """Starts and goals as OGBench draws them."""
    numbers = range(1, len(EVALUATION_TASKS[layout]) + 1)
    return [
        EpisodeSpec(number, _seed(seed, number, episode))
        for number in numbers
        for episode in range(episodes)
    ]


def _arena_episodes(episodes: int, seed: int) -> list[EpisodeSpec]:
    """Starts and goals of the task `ant` around the arena's centre; OGBench draws only the pose."""
    task = Ant()
    sampled = evaluation_start(task, evaluation_key(seed, 0), episodes, "evaluation")
    starts, goals = (
        np.asarray(a, float) - ARENA_SHIFT for a in (sampled.qpos[:, :2], sampled.goal)
    )
    return [
        EpisodeSpec(1, _seed(seed, 1, episode), start, goal)
        for episode, (start, goal) in enumerate(zip(starts, goals, strict=True))
    ]


def _play(
    policy: Run | DeployedPolicy,
    layout: str,
    specs: Sequence[EpisodeSpec],
    samples: int,
    seed: int,
    steps: int,
    display: ProgressDisplay,
) -> np.ndarray:
    """Control steps at the goal, `[specs]`. In each step, one call of the policy acts in up to 20
    episodes."""

    @jax.jit
    def act(state: Any, observation: jax.Array, goal: jax.Array, key: jax.Array) -> jax.Array:
        return evaluation_policy(policy.agent, state, samples)(observation, goal, key)

    shift = ARENA_SHIFT if layout == ARENA else MAZE_SHIFT
    # The first half of the key draws the starts.
    _, steps_key = jax.random.split(evaluation_key(seed, 0))
    display.phase("OGBench")
    time_at_goal = np.zeros(len(specs), int)
    size = min(BATCH_ENVS, len(specs))
    for first in range(0, len(specs), size):
        batch = specs[first : first + size]
        environments = [_environment(layout, number) for number in range(len(batch))]
        observations, goals = np.zeros((size, OBSERVATION)), np.zeros((size, 2), np.float32)
        for index, (environment, spec) in enumerate(zip(environments, batch, strict=True)):
            observations[index] = _reset(environment, spec)
            goals[index] = environment.cur_goal_xy + shift
        keys = jax.random.split(jax.random.fold_in(steps_key, first), steps)
        for step, key in enumerate(keys, start=1):
            sensed = observations.astype(np.float32)
            sensed[:, :2] = observations[:, :2] + shift
            actions = np.asarray(act(policy.agent_state, sensed, goals, key))
            for index, environment in enumerate(environments):
                observations[index], _, _, _, info = environment.step(actions[index])
                time_at_goal[first + index] += info["success"] > 0
            done, reached = first * steps + step * len(batch), int((time_at_goal > 0).sum())
            display.advance(done, len(specs) * steps, reached=reached)
    return time_at_goal


def _reset(environment: Any, spec: EpisodeSpec) -> np.ndarray:
    """Begin an episode and return the ant's observation in OGBench's frame."""
    environment.action_space.seed(spec.seed)
    with _numpy_seed(spec.seed):
        observation, _ = environment.reset(seed=spec.seed, options={"task_id": spec.task})
    if spec.start is None or spec.goal is None:
        return observation
    environment.set_goal(goal_xy=spec.goal)
    environment.set_xy(spec.start)
    return environment.get_ob()


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which OGBench draws noise from, and restore it afterwards."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


@cache
def _environment(layout: str, number: int) -> Any:
    """OGBench's maze environment. Cached because each new one leaves a temporary file open."""
    make, previous = _make_maze_env(), tempfile.tempdir
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        tempfile.tempdir = directory
        try:
            return make("ant", "maze", maze_type=layout, terminate_at_goal=False)
        finally:
            tempfile.tempdir = previous


def _make_maze_env() -> Any:
    try:
        return import_module("ogbench.locomaze.maze").make_maze_env
    except ImportError as error:
        raise UserError(MISSING) from error
