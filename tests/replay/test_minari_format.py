"""Data sets of Minari: what is written is what was played, what is read is what Minari holds."""

import sys
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import kilolayer
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.replay.dataset import Dataset
from kilolayer.replay.minari_format import read_minari, write_minari
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.gymnasium import make_gymnasium_task
from kilolayer.tasks.registry import make_task
from kilolayer.training.offline import buffer_from_dataset

minari = pytest.importorskip("minari")
# Minari asks for an author, a link to code and an environment.
pytestmark = pytest.mark.filterwarnings("ignore:.*(is set to None|env_spec is None)")

LOW, HIGH = np.array([0.0, -2.0], np.float32), np.array([4.0, 2.0], np.float32)


class Toy(gymnasium.Env):
    """A point that moves by its action; the observation is that action. Five steps."""

    metadata = {"render_modes": [], "render_fps": 4}  # noqa: RUF012
    observation_space = Dict(
        {
            key: Box(-np.inf, np.inf, (2,), np.float64)
            for key in ("observation", "achieved_goal", "desired_goal")
        }
    )
    action_space = Box(LOW, HIGH)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = np.zeros(2), self.np_random.uniform(2, 3, 2)
        return self.observation_of(np.zeros(2)), {}

    def step(self, action):
        self.place = self.place + action
        return self.observation_of(action), 0.0, False, False, {}

    def observation_of(self, action):
        places = {"achieved_goal": self.place.copy(), "desired_goal": self.goal.copy()}
        return {"observation": np.asarray(action, np.float64), **places}

    def compute_reward(self, achieved, desired, info):
        return -float(np.linalg.norm(achieved - desired) > 0.3)


@pytest.fixture(autouse=True)
def local(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    gymnasium.register("Toy/minari-v0", Toy, max_episode_steps=5)
    yield tmp_path
    del gymnasium.registry["Toy/minari-v0"]


def collect(name: str, steps: int = 450, task: str = "point_u_maze") -> Dataset:
    return kilolayer.collect(task, name, steps, progress=False, to="minari")


def test_minari_and_npz_hold_the_same_dataset():
    ours, theirs = collect("maze/random-v0"), kilolayer.collect("point_u_maze", "d.npz", 450)
    np.testing.assert_array_equal(ours.observations, theirs.observations)
    np.testing.assert_array_equal(ours.terminals, theirs.terminals)
    np.testing.assert_array_equal(ours.achieved_goals, theirs.qpos)
    # The last action of a trajectory has no outcome, and Minari has no place for it.
    within = ~theirs.terminals
    np.testing.assert_allclose(ours.actions[within], theirs.actions[within], atol=1e-6)
    np.testing.assert_array_equal(ours.actions[~within], 0)


def test_minari_reads_written_episodes():
    ours = collect("maze/random-v0")
    found = minari.load_dataset("maze/random-v0")
    assert (found.total_episodes, found.total_steps) == (3, 450 - 3)
    episode = next(found.iterate_episodes())
    assert episode.observations["observation"].shape == (200, 4)
    assert episode.truncations.tolist() == [False] * 198 + [True]
    distance = np.linalg.norm(
        episode.observations["achieved_goal"][1:] - episode.observations["desired_goal"][1:],
        axis=-1,
    )
    radius = make_task("point_u_maze").goal.radius
    np.testing.assert_array_equal(episode.rewards, np.where(distance < radius, 0.0, -1.0))
    assert len(np.unique(episode.observations["desired_goal"], axis=0)) == 1
    assert ours.goals is not None
    assert len(np.unique(ours.goals, axis=0)) == 3


def test_rewards_mark_steps_at_the_goal():
    task = make_task("point_u_maze")
    goals = np.tile(np.array([[3.0, 1.0]], np.float32), (4, 1))
    achieved = np.array([[1, 1], [2, 1], [3, 1], [3, 1.1]], np.float32)
    rows = {"observations": np.zeros((4, 4), np.float32), "actions": np.zeros((4, 2), np.float32)}
    ends = np.array([False, False, False, True])
    rows |= {"terminals": ends, "achieved_goals": achieved, "goals": goals}
    write_minari("by-hand-v0", rows, task)
    (episode,) = minari.load_dataset("by-hand-v0").iterate_episodes()
    assert episode.rewards.tolist() == [-1, 0, 0]


def test_gymnasium_environment_round_trips_through_minari():
    """An environment with action bounds other than [-1, 1]; the task's observation starts with the
    position."""
    task = make_gymnasium_task("Toy/minari-v0")
    config = kilolayer.recommended(gym="Toy/minari-v0", **SMALL)
    run = kilolayer.train(config, "run", progress=False, report=False)
    dataset = kilolayer.collect(run, "toy-v0", 40, noise=0.5, progress=False, to="minari")
    assert (dataset.steps, dataset.trajectories) == (40, 8)
    within = np.flatnonzero(~dataset.terminals)
    moved = dataset.achieved_goals[within + 1] - dataset.achieved_goals[within]
    unit = dataset.actions[within]
    np.testing.assert_allclose(moved, LOW + 0.5 * (unit + 1) * (HIGH - LOW), atol=1e-5)
    np.testing.assert_allclose(dataset.observations[:, :2], dataset.achieved_goals)
    np.testing.assert_allclose(dataset.observations[within + 1][:, 2:], moved, atol=1e-5)
    (first, *_) = minari.load_dataset("toy-v0").iterate_episodes()
    assert np.ptp(first.actions, axis=0).max() > 0
    assert all(action in Toy.action_space for action in first.actions)
    buffer = buffer_from_dataset(run_config(), task, dataset, SilentDisplay())
    steps = jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], buffer.steps)
    np.testing.assert_array_equal(steps.achieved_goal, dataset.achieved_goals)
    np.testing.assert_array_equal(steps.goal, dataset.goals)


SMALL = {
    "total_steps": 640,
    "num_envs": 8,
    "unroll_length": 10,
    "layers_per_block": 1,
    "depth": 2,
    "width": 16,
    "representation_dim": 8,
    "batch_size": 16,
    "min_replay_steps_per_env": 20,
    "replay_steps_per_env": 100,
    "num_evaluations": 1,
    "eval_envs": 4,
    "tensorboard": False,
    "profile": False,
}


@pytest.mark.slow
def test_command_line_trains_from_minari_and_resumes(capsys):
    main(["collect", "point_u_maze", "--out", "maze/random-v0", "--steps", "450", "--to", "minari"])
    assert "minari:maze/random-v0  450 steps in 3 trajectories" in capsys.readouterr().out
    options = [
        f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if value is not False
    ]
    source = ["--dataset", "minari:maze/random-v0", "--agent", "gcbc", "--no-tensorboard"]
    options = [option for option in options if "representation" not in option]
    main(["train", "--out", "run", *source, "--no-profile", *options])
    run = kilolayer.load("run")
    assert run.final("evaluation/time_at_goal") >= 0
    (run.path / "DONE").unlink()
    kilolayer.resume("run", progress=False, report=False)
    (run.path / "DONE").unlink()
    minari.delete_dataset("maze/random-v0")
    kilolayer.collect("point_u_maze", "maze/random-v0", 450, seed=1, progress=False, to="minari")
    with pytest.raises(UserError, match="has changed since the run"):
        kilolayer.resume("run", progress=False)


def other(name: str, observations: Dict | Box, actions) -> None:
    """A data set of one episode of two steps in these spaces."""
    seen = gymnasium.vector.utils.batch_space(observations, 3).sample()
    acted = gymnasium.vector.utils.batch_space(actions, 2).sample()
    episode = minari.data_collector.EpisodeBuffer(
        observations=seen,
        actions=acted,
        rewards=np.zeros(2),
        terminations=np.zeros(2, bool),
        truncations=np.array([False, True]),
    )
    minari.create_dataset_from_buffers(
        name, [episode], observation_space=observations, action_space=actions
    )


def goal_space(size: int = 4, goal: int = 2) -> Dict:
    sizes = {"observation": size, "achieved_goal": goal, "desired_goal": goal}
    return Dict({key: Box(-1, 1, (width,), np.float32) for key, width in sizes.items()})


@pytest.mark.parametrize(
    ("observations", "actions", "sentence"),
    [
        (
            goal_space(),
            Box(-1, 1, (3,)),
            r"its actions are Box\(-1.0, 1.0, \(3,\), float32\) where",
        ),
        (
            goal_space(),
            Box(-2, 2, (2,)),
            r".* where task point_u_maze takes Box\(-1.0, 1.0, \(2,\)",
        ),
        (goal_space(), Discrete(4), r"its actions are Discrete\(4\) where"),
        (goal_space(5), Box(-1, 1, (2,)), r"its observation has the shape \(5,\) where .* \(4,\)"),
        (goal_space(4, 3), Box(-1, 1, (2,)), r"its achieved_goal has the shape \(3,\) where"),
        (Box(-1, 1, (4,)), Box(-1, 1, (2,)), "its observations lack observation, achieved_goal, "),
    ],
)
def test_dataset_with_other_spaces_is_refused(observations, actions, sentence):
    other("other-v0", observations, actions)
    with pytest.raises(UserError, match=f"dataset = 'minari:other-v0' is not allowed: {sentence}"):
        read_minari("other-v0", make_task("point_u_maze"))


def test_non_finite_numbers_are_refused():
    rows = {
        "observations": np.zeros((3, 4), np.float32),
        "actions": np.zeros((3, 2), np.float32),
        "terminals": np.array([False, False, True]),
        "achieved_goals": np.zeros((3, 2), np.float32),
        "goals": np.zeros((3, 2), np.float32),
    }
    rows["achieved_goals"][1] = np.nan
    write_minari("nan-v0", rows, make_task("point_u_maze"))
    with pytest.raises(UserError, match="its achieved_goals are not finite"):
        read_minari("nan-v0", make_task("point_u_maze"))


def test_invalid_names_are_refused(capsys):
    collect("maze/random-v0", 200)
    train = ["train", "--agent", "gcbc", "--dataset"]
    write = ["collect", "point_u_maze", "--steps", "200", "--to", "minari", "--out"]
    for arguments, sentence in (
        ([*train, "minari:maze/randm-v0"], "nearest valid choice is minari:maze/random-v0"),
        ([*train, "minari:"], "there is no such data set on this machine"),
        ([*write, "maze.npz"], "with a version at the end"),
        ([*write, "maze/random"], "with a version at the end"),
        ([*write, "maze/random-v0"], "exists: take another, or `minari delete maze/random-v0`"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"pip install 'kilolayer\[minari\]'"):
        collect("maze/random-v0")
