"""Play episodes: scores, films and datasets of runs and policies, and tasks before training."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from kilolayer.agents.base import ActingAgent
from kilolayer.analysis.load import Run
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy, is_policy, open_run_or_policy
from kilolayer.errors import UserError, bad_field, require_at_least, require_choice
from kilolayer.physics.build import build_physics
from kilolayer.replay.dataset import Dataset, read_dataset, write_dataset
from kilolayer.replay.minari_format import read_minari, require_new, write_minari
from kilolayer.runtime.devices import require_memory
from kilolayer.runtime.files import require_file, require_unused, require_writable
from kilolayer.runtime.progress import make_display
from kilolayer.runtime.zoo import default_output
from kilolayer.tasks.base import Task, parse_goal
from kilolayer.tasks.choice import TaskChoice
from kilolayer.tasks.inspect import Inspection, inspect_task
from kilolayer.tasks.registry import make_task, task_of
from kilolayer.training.collect import (
    collect_steps,
    num_envs_for,
    random_policy,
    require_states,
    with_noise,
)
from kilolayer.training.evaluate import (
    Evaluator,
    episode_metrics,
    evaluation_key,
    evaluation_policy,
    evaluation_start,
    split_key,
)
from kilolayer.training.rollout import Policy

# Standard deviation of the noise on a collecting policy's actions, which lie in [-1, 1].
DEFAULT_NOISE = 0.2
MAX_NOISE = 100  # more would make the same actions of them
EVALUATION_EPISODES = 128


def evaluate(
    run: Run | DeployedPolicy | str | Path,
    episodes: int | None = None,
    goal: str | None = None,
    samples: int = 1,
    seed: int = 0,
    steps: int | None = None,
    gym: str | None = None,
    progress: bool = True,
) -> dict[str, dict[str, float]]:
    """Scores by goal split (see `episode_metrics`), or only for `goal` if it is given, as "8,0".

    run: a run or a policy, or the directory of either. episodes: per goal split, by default 128.
    steps: control steps of an episode, by default the task's own. gym: score the policy in a maze
    of OGBench instead, such as `ogbench:antmaze-medium-v0`. The scores are then by the maze's tasks
    with 10 episodes each by default; see `kilolayer.deploy.ogbench.score`. progress: show a live
    display, only with `gym`.
    """
    run = open_run_or_policy(run)
    if gym is not None:
        if goal is not None:
            raise bad_field("goal", goal, "OGBench's tasks have fixed goals, omit it")
        # Its statistics take longer to import than all that a command without them needs.
        from kilolayer.deploy import ogbench

        episodes = ogbench.EPISODES if episodes is None else episodes
        steps = ogbench.STEPS if steps is None else steps
        with closing(make_display(progress)) as display:
            return ogbench.score(run, gym, episodes, seed, samples, steps, display)
    episodes = EVALUATION_EPISODES if episodes is None else episodes
    require_at_least(1, episodes=episodes, samples=samples, steps=steps)
    recorded = 8 * run.task.goal.dim  # bytes of a step: the achieved and the commanded goal
    length = steps or run.task.episode_length
    require_memory("episodes", episodes, recorded * min(length, run.task.episode_length))
    require_memory("samples", samples, 4 * run.task.action_dim * episodes)
    require_memory("steps", length, recorded * episodes)
    play_episodes = _compiled_evaluator(run, episodes, samples, steps)
    commanded = None if goal is None else jnp.array(parse_goal(run.task, goal))
    splits = run.task.splits if goal is None else ("evaluation",)
    scores = {}
    for split in splits:
        key = split_key(evaluation_key(seed, 0), split)
        start = evaluation_start(run.task, key, episodes, split, commanded)
        played = play_episodes(run.agent_state, key, start)
        name = f"{split} goals" if goal is None else f"goal {goal}"
        scores[name] = episode_metrics(run.task, played)
    return scores


def play(
    run: Run | DeployedPolicy | str | Path,
    goals: Sequence[str] = (),
    out: str | Path | None = None,
    seed: int = 0,
) -> Path:
    """Write a video of one episode per goal, side by side, and return its path.

    run: a run or a policy, or the directory of either. out: an .mp4, a .gif, or a .png with a few
    frames of the video.
    """
    from kilolayer.render.media import require_drawable, require_video_suffix
    from kilolayer.report.film import film_episodes

    run = open_run_or_policy(run)
    require_drawable(run.task)
    out = Path(out) if out is not None else default_output(run.path, "media/play.mp4")
    require_video_suffix(out)
    require_writable(out)
    if len(goals) > 9:
        raise UserError(f"{len(goals)} goals do not fit in one picture: give 9 at most.")
    key = evaluation_key(seed, 0)
    count = len(goals) or 4
    commanded = jnp.array([parse_goal(run.task, goal) for goal in goals]) if goals else None
    start = evaluation_start(run.task, key, count, "evaluation", commanded)
    played = _compiled_evaluator(run, count, 1)(run.agent_state, key, start)
    return film_episodes(run.task, played, out).path


def collect(
    source: Run | DeployedPolicy | str | Path,
    out: str | Path,
    steps: int,
    noise: float | None = None,
    seed: int = 0,
    progress: bool = True,
    to: Literal["ogbench", "minari"] = "ogbench",
) -> Dataset:
    """Play episodes and write a dataset, for `recommended(task, dataset=out)`.

    source: a run or a policy, which then acts, or the name of a task, for uniform random actions.
    out: a new .npz file in OGBench's layout; with `to="minari"` the name of a new local data set of
    Minari, which `dataset="minari:NAME"` then reads. noise: standard deviation of the noise added
    to the policy's actions, by default 0.2. Every episode has a new training goal of the task,
    sampled with the seed. Returns the written dataset. Raises UserError if there is nothing to play
    or if the dataset cannot be written.
    """
    require_choice("to", to, ("ogbench", "minari"))
    if to == "minari":
        require_new(str(out))
    else:
        require_file(Path(out), ".npz")
        require_unused(Path(out))
    if steps < 2:
        raise bad_field("steps", steps, "it must be at least 2", 2)
    if noise is not None and not 0 <= noise <= MAX_NOISE:
        nearest = MAX_NOISE if noise > MAX_NOISE else 0
        raise bad_field("noise", noise, f"it must lie in [0, {MAX_NOISE}]", nearest)
    task, config, policy = _resolve_source(source, noise)
    if to == "ogbench":
        require_states(task)
    envs = num_envs_for(task, steps)
    physics = build_physics(task.world, envs, config.physics)
    with closing(make_display(progress)) as display:
        arrays = collect_steps(task, physics, envs, policy, steps, seed, display)
    if to == "minari":
        write_minari(str(out), arrays, task)
        return read_minari(str(out), task)
    write_dataset(Path(out), arrays)
    return read_dataset(Path(out))


def _resolve_source(
    source: Run | DeployedPolicy | str | Path, noise: float | None
) -> tuple[Task, RunConfig, Policy]:
    """The task to play, the config that names the physics engine, and the policy that acts."""
    if not isinstance(source, Run | DeployedPolicy):
        is_run = (Path(source) / "config.json").is_file() or "/" in str(source)
        source = open_run_or_policy(source) if is_run or is_policy(source) else source
    if isinstance(source, Run | DeployedPolicy):
        policy = evaluation_policy(source.agent, source.agent_state, samples=1)
        noise = DEFAULT_NOISE if noise is None else noise
        return source.task, source.config, with_noise(policy, noise)
    if noise is not None:
        raise bad_field(
            "noise",
            noise,
            "a task without a policy has random actions, so noise has no effect, omit it",
        )
    task = make_task(str(source))
    return task, RunConfig(), random_policy(task.action_dim)


def inspect(choice: TaskChoice, progress: bool = True) -> Inspection:
    """Describe a task: its numbers, their values under random actions, and its speed."""
    with closing(make_display(progress)) as display:
        display.phase("task")
        return inspect_task(task_of(choice), display)


def picture(task: Task, out: str | Path) -> Path:
    """Write a PNG of a start with its goal and return its path.

    Raises UserError if the file cannot be written, if the task cannot be drawn, or if this machine
    cannot render.
    """
    from kilolayer.render.media import render_start, write_video

    write_video(Path(out), render_start(task, size=480)[None], fps=1)
    return Path(out)


@dataclass(frozen=True)
class _Program:
    """A program that plays episodes. Equal values compile to one program, for any weights.

    task, agent: built from the config, or for a policy without a run from its spec too.
    """

    config: RunConfig
    spec: ActorSpec | None
    num_envs: int
    samples: int
    steps: int | None
    task: Task = field(compare=False)
    agent: ActingAgent = field(compare=False)

    def compile(self) -> Any:
        config, task = self.config, self.task
        physics = build_physics(task.world, self.num_envs, config.physics)
        length = self.steps or task.episode_length
        return jax.jit(Evaluator(task, physics, self.agent, length, self.samples).run)


# Few, since every program keeps its environments in memory.
_compiled = lru_cache(maxsize=4)(_Program.compile)


def _compiled_evaluator(
    run: Run | DeployedPolicy, num_envs: int, samples: int, steps: int | None = None
) -> Any:
    """`Evaluator.run`, compiled; an earlier program is reused if only the weights differ."""
    spec = run.spec if isinstance(run, DeployedPolicy) else None
    config = run.config.having(seed=0, start_from=None)
    program = _Program(config, spec, num_envs, samples, steps, run.task, run.agent)
    # A user's own task or agent may change between two calls. Gymnasium's environments keep a
    # state.
    task = config.task
    user_code = task.mjcf or task.gym or ":" in task.task or ":" in config.agent_name
    return program.compile() if user_code else _compiled(program)
