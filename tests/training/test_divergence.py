"""Environments whose physics leaves finite numbers, in real MuJoCo: reset, counted, never
stored."""

import contextlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.analysis.load import Run, load
from kilolayer.config import RunConfig, run_config
from kilolayer.errors import UserError
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.build import build_physics
from kilolayer.physics.config import PhysicsConfig
from kilolayer.replay import buffer as ring
from kilolayer.report.run_report import headline
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.registry import make_task, task_of
from kilolayer.training import rollout
from kilolayer.training.evaluate import EpisodeStart, episode_metrics, play_episodes
from kilolayer.training.loop import resume_run, start_run
from kilolayer.training.rollout import reset, unroll
from probes import BreakingPhysics, exhaustive

pytestmark = pytest.mark.slow

# A cart on a rail with a buffer at each end, 1 m away, that is far too stiff for the time step: who
# runs into it is thrown out of all bounds.
CART = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="cart" pos="0 0 0.2">
      <joint type="slide" axis="1 0 0" damping="1" limited="true" range="-1 1"
             solreflimit="-1e16 -1" name="rail"/>
      <geom type="sphere" size="0.1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="rail" gear="GEAR" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
ENGINES = ["native", pytest.param("mjx", marks=exhaustive)]
# Who runs into the end, after some 37 control steps, and who does not.
WILD, CALM = jnp.array([1.0, 0.1, -1.0, 0.0]), jnp.array([0.0, 0.1, 0.0, 0.0])
DRIVEN, OTHERS = np.array([0, 2]), np.array([1, 3])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """MuJoCo writes its warnings to a log in the current directory."""
    monkeypatch.chdir(tmp_path)


def config(directory: Path, gear: float = 1.0, **changes) -> RunConfig:
    """A small run of the cart whose motor pushes with `gear` N."""
    path = directory / "cart.xml"
    path.write_text(CART.replace("GEAR", str(gear)))
    return run_config(
        mjcf=str(path),
        goal_body="cart",
        goal_box="-0.9,0,0.2,0.9,0,0.2",
        goal_radius=0.1,
        control_step=0.05,
        total_steps=3_200,
        episode_length=100,
        num_envs=8,
        unroll_length=20,
        layers_per_block=1,
        depth=2,
        width=16,
        batch_size=32,
        eval_envs=4,
        num_evaluations=3,
        replay_steps_per_env=400,
        min_replay_steps_per_env=40,
        tensorboard=False,
        profile=False,
        **changes,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_diverged_environment_restarts(engine, tmp_path):
    task = task_of(config(tmp_path).task)
    physics = build_physics(task.world, 4, PhysicsConfig(physics=engine))

    @jax.jit
    def run(push):
        goal = task.sample_goal(jax.random.key(0), 4, "training")
        envs = reset(task, physics, jax.random.key(1), goal, "training")
        key = jax.random.key(2)
        return unroll(task, physics, envs, lambda *_: push[:, None], key, 80, 200)

    envs, trajectory, (diverged, truncated) = jax.tree.map(np.asarray, run(WILD))
    assert not truncated.any()
    np.testing.assert_array_equal(diverged.sum(0), [2, 0, 2, 0])
    for leaf in jax.tree.leaves((envs, trajectory)):
        assert np.isfinite(leaf).all()
    # Position and velocity on the rail: nothing is kept of what the cart was thrown to.
    assert np.abs(trajectory.observation).max() < 1.1
    at, env = np.nonzero(diverged[:-1])
    np.testing.assert_array_equal(trajectory.episode_step[at + 1, env], 0)
    assert (np.abs(trajectory.observation[at + 1, env]) < 0.02).all()
    assert (trajectory.goal[at + 1, env] != trajectory.goal[at, env]).any(-1).all()
    assert (trajectory.episode_step[-1, OTHERS] == 79).all()
    calm = jax.tree.map(np.asarray, run(CALM))
    assert not calm[2].diverged.any()
    for seen, expected in zip(jax.tree.leaves(trajectory), jax.tree.leaves(calm[1]), strict=True):
        np.testing.assert_array_equal(seen[:, OTHERS], expected[:, OTHERS])


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e11])
def test_diverged_point_environment_restarts(value):
    task = make_task("point_u_maze")
    physics = BreakingPhysics(task.world, 1.4, value)

    @jax.jit
    def run():
        goal = task.sample_goal(jax.random.key(0), 3, "training")
        envs = reset(task, physics, jax.random.key(1), goal, "training")
        push = jnp.array([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
        return unroll(task, physics, envs, lambda *_: push, jax.random.key(2), 30, 200)

    _, trajectory, cut_off = run()
    assert (np.asarray(cut_off.diverged).sum(0) > 0).tolist() == [True, False, True]
    assert np.abs(trajectory.observation).max() < 3
    assert np.isfinite(np.asarray(trajectory.action)).all()


def test_environment_is_valid_if_finite_and_bounded():
    task = make_task("point_u_maze")
    goal = jnp.ones((6, 2)).at[5, 0].set(jnp.nan)
    qpos = jnp.ones((6, 2)).at[:4, 1].set(jnp.array([jnp.nan, jnp.inf, -1e11, 1e9]))
    field = jnp.zeros((6, 2, 2)).at[4, 1, 0].set(jnp.nan)
    engine = {"seed": jnp.full((6, 2), 2**32 - 1, jnp.uint32), "warm": jnp.zeros(6)}
    state = PhysicsState(qpos, jnp.zeros((6, 2)), {"sensor": field}, engine)
    expected = [False, False, False, True, False, False]
    np.testing.assert_array_equal(rollout.is_valid(task, state, goal), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_diverged_environment_is_frozen_in_an_evaluation(engine, tmp_path):
    task = task_of(config(tmp_path).task)
    physics = build_physics(task.world, 4, PhysicsConfig(physics=engine))
    goal = jnp.array([[0.5, 0.0, 0.2], [0.9, 0.0, 0.2], [0.9, 0.0, 0.2], [0.0, 0.0, 0.2]])
    start = EpisodeStart(goal, jnp.zeros((4, 1)), jnp.zeros((4, 1)))

    @jax.jit
    def run(push):
        def policy(memory, observation, goal, key):
            return push[:, None], memory

        return play_episodes(task, physics, policy, None, jax.random.key(0), start, 60)

    episodes, calm = jax.tree.map(np.asarray, (run(WILD), run(CALM)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(episodes))
    np.testing.assert_array_equal(episodes.diverged.sum(0), [1, 0, 1, 0])
    for env in DRIVEN:
        over = int(episodes.diverged[:, env].argmax())
        assert 20 < over < 50
        assert episodes.alive[:over, env].all()
        assert not episodes.alive[over:, env].any()
        for held in (episodes.achieved, episodes.qpos):
            last = held[over - 1, env]
            assert 0.9 < np.abs(last).max() < 1.1
            np.testing.assert_array_equal(held[over:, env], np.tile(last, (60 - over, 1)))
    for name in ("achieved", "goal", "alive", "qpos"):
        seen, expected = getattr(episodes, name), getattr(calm, name)
        np.testing.assert_array_equal(seen[:, OTHERS], expected[:, OTHERS])
    scores = episode_metrics(task, episodes)
    assert np.isfinite(list(scores.values())).all()
    assert scores["diverged"] == scores["survival"] == 0.5
    assert episode_metrics(task, calm)["diverged"] == 0.0
    # The first passes its goal on the way to the end of the rail and keeps the time that it had
    # there; the last one stays at its own.
    first = np.abs(episodes.achieved[:, 0, 0] - 0.5) < task.goal.radius
    assert 0 < first.sum() < 10
    assert scores["time_at_goal"] == (first.sum() + 60) / 4
    assert scores["success"] == 0.5


def arrays_of(run: RunDirectory) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint."""
    step = checkpoint.latest(run.checkpoints)
    assert step is not None
    found = {}
    for part in (checkpoint.AGENT, checkpoint.LOOP):
        stored = checkpoint.stored_arrays(run.checkpoints, step, part)
        found |= {f"{part} {name}": array for name, array in (stored or {}).items()}
    return found


def diverged_events(run: RunDirectory) -> list[tuple[int, float]]:
    events = [event for event in run.read_events() if event["event"] == "diverged"]
    return [(event["round"], event["metrics"]["collect/diverged"]) for event in events]


class Killed(SilentDisplay):
    """Ends the run after so many rounds."""

    def __init__(self, rounds: int):
        self.rounds = rounds

    def advance(self, done: int, total: int, **figures: float) -> None:
        if done == self.rounds:
            raise KeyboardInterrupt


@contextlib.contextmanager
def forgiving():
    """As many environments may diverge as like."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "MAX_DIVERGED_SHARE", 1e9)
        yield


@pytest.fixture(scope="module")
def wild(tmp_path_factory) -> Run:
    """A finished run in which environments diverged, from time to time."""
    directory = tmp_path_factory.mktemp("wild")
    with contextlib.chdir(directory), forgiving():
        start = config(directory, gear=5.0, absorbing_termination=True)
        return load(start_run(start, directory / "run", SilentDisplay()).path)


def test_run_continues_after_a_divergence_with_finite_arrays(wild):
    stored = arrays_of(wild.directory)
    for name, array in stored.items():
        assert np.isfinite(array).all(), name
    episode_step = next(
        array for name, array in stored.items() if name.endswith("steps.episode_step")
    )
    assert (episode_step == ring.CUT_OFF).sum() > 0
    observation = next(a for name, a in stored.items() if name.endswith("steps.observation"))
    assert np.abs(observation).max() < 100
    with np.load(wild.path / "episodes" / "batch.npz") as batch:
        assert all(np.isfinite(batch[name]).all() for name in batch.files)
        # No episode of the cart terminates: what is cut off must not count as staying there.
        assert not batch["terminated"].any()
    with np.load(wild.path / "episodes" / "evaluation.npz") as episodes:
        assert all(np.isfinite(episodes[name]).all() for name in episodes.files)


def test_divergences_are_logged_and_reported(wild):
    events = diverged_events(wild.directory)
    assert events
    assert all(count >= 1 for _, count in events)
    rounds = [event["round"] for event in wild.events if event["event"] == "train"]
    assert {number for number, _ in events} <= set(range(1, rounds[-1] + 1))
    count, share = wild.diverged
    assert count == sum(count for _, count in events)
    assert share == pytest.approx(count / 3_200)
    assert f"Environments diverged {count} times during training ({share:.2g} of" in headline(wild)
    assert all("collect/diverged" not in e["metrics"] for e in wild.events if e["event"] == "train")
    scores = [e["metrics"] for e in wild.events if e["event"] == "evaluation"]
    assert all(0 <= each["evaluation/diverged"] <= 1 for each in scores)


def test_run_resumes_bit_identically_after_a_divergence(wild, tmp_path):
    first = diverged_events(wild.directory)[0][0]
    saved = next(e["round"] for e in wild.events if e["event"] == "checkpoint")
    killed = Killed(max(first, saved) + 3)
    with forgiving():
        with pytest.raises(KeyboardInterrupt):
            start_run(wild.config, tmp_path / "run", killed)
        run = resume_run(tmp_path / "run", SilentDisplay())
    assert diverged_events(run) == diverged_events(wild.directory)
    expected, found = arrays_of(wild.directory), arrays_of(run)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_too_many_divergences_stop_the_run(tmp_path):
    sentence = (
        r"task cart: environments diverged \d+ times in one unroll of 8 environments "
        r"\(\d+%, more than 10%\) after \d+ environment steps \(round \d+\): the run stops\. "
        r"The last good checkpoint: .*smaller time step.*gains"
    )
    start = config(tmp_path, gear=8.0).having(total_steps=1_600)
    with pytest.raises(UserError, match=sentence):
        start_run(start, tmp_path / "run", SilentDisplay(), seeds=2)
    members = RunDirectory.open(tmp_path / "run").members
    assert len({tuple(diverged_events(run)) for run in members}) == 2
    for run in members:
        assert run.read_events()[-1]["stopped"]
        assert "too many environments diverged in one unroll" in headline(load(run.path))


@pytest.mark.parametrize(("envs", "forgiven"), [(1, 1), (8, 1), (10, 1), (30, 3), (512, 51)])
def test_allowed_number_of_divergences(envs, forgiven):
    assert int(rollout.max_divergences(envs)) == forgiven
