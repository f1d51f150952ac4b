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
from kilolayer.runtime.progress import ProgressDisplay, Silent
from kilolayer.tasks.ant import OPEN_GOAL_DISTANCE, Ant
from kilolayer.tasks.base import Task
from kilolayer.tasks.mazes import EVALUATION_TASKS
from kilolayer.training.evaluate import evaluation_key, evaluation_policy, evaluation_start
from kilolayer.types import UserError, bad_field, nearest

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
    "visual-": "it shows pictures, and policies here sense numbers",
    "-singletask": "it rewards one task and tells no goal; score in the maze itself",
    "-teleport": "it throws the ant to places at random, as no task here does",
    "pointmaze-": "its point has no velocity and senses 2 numbers, where the point here senses 4",
    "humanoidmaze-": "its humanoid has 21 motors and senses 69 numbers, where the one here has 17 "
    "and senses 246",
    "antsoccer-": "its ant senses 42 numbers, where ant_ball senses 31",
}
EPISODES = 10
STEPS = 1000
# Environments per batch of the policy; OGBench steps them one after the other.
AT_ONCE = 20
OBSERVATION, ACTION = 29, 8
# Offset from OGBench's coordinates to those of the policy's task, m along x and y.
MAZE_SHIFT, ARENA_SHIFT = np.array([4.0, 4.0]), np.array([-10.0, -10.0])


@dataclass(frozen=True)
class Trial:
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
    display = display or Silent()
    _require_fit(policy.task, name, layout, display)
    for field, value in (("episodes", episodes), ("samples", samples), ("steps", steps)):
        if value < 1:
            raise bad_field(field, value, "it must be at least 1", 1)
    _maker()
    trials = _arena_trials(episodes, seed) if layout == ARENA else _trials(layout, episodes, seed)
    judged = _Judge(policy, layout, samples, seed).play(trials, steps, display)
    numbers = np.array([trial.task for trial in trials])
    if layout == ARENA:
        return {f"goals at {OPEN_GOAL_DISTANCE:g} m": _scores(judged)}
    by_task = {
        f"task {number}": _scores(judged[numbers == number]) for number in np.unique(numbers)
    }
    return by_task | {"all tasks": _scores(judged)}


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
    """Raise UserError unless the task's body is OGBench's ant; note a maze new to the policy."""
    sizes = len(task.observation), task.action_dim
    if sizes != (OBSERVATION, ACTION):
        reason = f"it senses {sizes[0]} numbers and gives {sizes[1]} actions, not 29 and 8"
    elif type(task) is not Ant:
        reason = "it has other motors or another time step, though its numbers are as many"
    else:
        if task.layout != (None if layout == ARENA else layout):
            display.note(f"note: the policy's task is {task.name}, so {name} is new to it")
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


def _trials(layout: str, episodes: int, seed: int) -> list[Trial]:
    """Starts and goals as OGBench draws them."""
    numbers = range(1, len(EVALUATION_TASKS[layout]) + 1)
    return [
        Trial(number, _seed(seed, number, episode))
        for number in numbers
        for episode in range(episodes)
    ]


def _arena_trials(episodes: int, seed: int) -> list[Trial]:
    """Starts and goals of the task `ant` around the arena's centre; OGBench draws only the pose."""
    task = Ant()
    told = evaluation_start(task, evaluation_key(seed, 0), episodes, "evaluation")
    starts, goals = (np.asarray(a, float) - ARENA_SHIFT for a in (told.qpos[:, :2], told.goal))
    return [
        Trial(1, _seed(seed, 1, episode), start, goal)
        for episode, (start, goal) in enumerate(zip(starts, goals, strict=True))
    ]


class _Judge:
    """Plays trials of one maze. One call of the policy serves up to `AT_ONCE` trials per step."""

    def __init__(self, policy: Run | DeployedPolicy, layout: str, samples: int, seed: int):
        self._layout = layout
        # The first half of the key draws the starts.
        _, self._key = jax.random.split(evaluation_key(seed, 0))
        self._shift = ARENA_SHIFT if layout == ARENA else MAZE_SHIFT
        self._state = policy.agent_state

        def act(state: Any, observation: jax.Array, goal: jax.Array, key: jax.Array) -> jax.Array:
            return evaluation_policy(policy.agent, state, samples)(observation, goal, key)

        self._act = jax.jit(act)

    def play(self, trials: Sequence[Trial], steps: int, display: ProgressDisplay) -> np.ndarray:
        """Control steps at the goal, `[trials]`."""
        display.phase("OGBench")
        time_at_goal = np.zeros(len(trials), int)
        size = min(AT_ONCE, len(trials))
        for first in range(0, len(trials), size):
            batch = slice(first, first + size)
            key = jax.random.fold_in(self._key, first)
            for step, reached in enumerate(self._steps(trials[batch], size, key, steps), start=1):
                time_at_goal[batch] += reached
                display.advance(
                    first * steps + step * len(reached),
                    len(trials) * steps,
                    reached=int((time_at_goal > 0).sum()),
                )
        return time_at_goal

    def _steps(
        self, trials: Sequence[Trial], size: int, key: jax.Array, steps: int
    ) -> Iterator[np.ndarray]:
        """Yields after each step which trials are at their goal. size: the policy's batch size."""
        environments = [_environment(self._layout, number) for number in range(len(trials))]
        observations, goals = np.zeros((size, OBSERVATION)), np.zeros((size, 2))
        reached = np.zeros(len(trials), bool)
        for world, (environment, trial) in enumerate(zip(environments, trials, strict=True)):
            observations[world] = _begin(environment, trial)
            goals[world] = environment.cur_goal_xy + self._shift
        for step_key in jax.random.split(key, steps):
            sensed = observations.astype(np.float32)
            sensed[:, :2] = observations[:, :2] + self._shift
            actions = np.asarray(self._act(self._state, sensed, goals.astype(np.float32), step_key))
            for world, environment in enumerate(environments):
                observations[world], _, _, _, info = environment.step(actions[world])
                reached[world] = info["success"] > 0
            yield reached


def _begin(environment: Any, trial: Trial) -> np.ndarray:
    """Begin an episode and return the ant's observation in OGBench's frame."""
    environment.action_space.seed(trial.seed)
    with _numpy_seed(trial.seed):
        observation, _ = environment.reset(seed=trial.seed, options={"task_id": trial.task})
    if trial.start is None or trial.goal is None:
        return observation
    environment.set_goal(goal_xy=trial.goal)
    environment.set_xy(trial.start)
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
    make, own = _maker(), tempfile.tempdir
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        tempfile.tempdir = directory
        try:
            return make("ant", "maze", maze_type=layout, terminate_at_goal=False)
        finally:
            tempfile.tempdir = own


def _maker() -> Any:
    try:
        return import_module("ogbench.locomaze.maze").make_maze_env
    except ImportError as error:
        raise UserError(MISSING) from error
