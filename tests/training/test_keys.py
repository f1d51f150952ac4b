"""No PRNG key serves two draws: `split(key)[i]` is `fold_in(key, i)`, so both make one number."""

from pathlib import Path

import jax
import pytest

from draws import recorded_draws
from kilolayer.config import run_config
from kilolayer.deploy.score import visited
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.tasks.registry import TASKS, make_task
from kilolayer.training.loop import start_run

CONFIG = run_config(
    seed=7,
    total_steps=640,
    num_envs=8,
    unroll_length=10,
    episode_length=15,
    goal_interval=4,
    layers_per_block=1,
    depth=1,
    width=8,
    batch_size=16,
    eval_envs=2,
    samples=2,
    num_evaluations=2,
    replay_steps_per_env=100,
    min_replay_steps_per_env=20,
    hindsight_goal_noise=0.1,
    shuffled_goal_share=0.2,
    tensorboard=False,
)


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("sac-her", "td3-her", "ppo")]


@pytest.mark.parametrize("agent", ["crl", *OTHERS])
def test_random_keys_of_a_run_are_distinct(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts, goals, exploration, batches, updates, evaluations and the batch that is kept."""
    # Timing its parts repeats each of them.
    monkeypatch.setattr("kilolayer.training.rounds.profile_round", lambda *_: {})
    config = CONFIG.having(agent=agent)
    with recorded_draws() as record:
        start_run(config, tmp_path / "run", SilentDisplay())
        record.assert_independent()


@pytest.mark.parametrize("name", TASKS)
def test_random_keys_of_a_start_are_distinct(name: str) -> None:
    task = make_task(name)
    with recorded_draws() as record:
        for seed, split in enumerate(task.splits):
            goal_key, reset_key = jax.random.split(jax.random.key(seed))
            task.reset(reset_key, task.sample_goal(goal_key, 2, split), split)
        jax.effects_barrier()
        if record.drawn:  # some tasks start in one pose and go to one place
            record.assert_independent()


def test_random_keys_of_collection_are_distinct() -> None:
    task = make_task("point_u_maze")
    agent = build_agent(CONFIG, TrainSchedule.derive(CONFIG, task.episode_length), task)
    state = agent.init(jax.random.key(11))
    with recorded_draws() as record:
        visited(task, CONFIG, agent, state, rows=32)
        record.assert_independent()
