"""Gymnasium environments as tasks: a point that steps by its action, and a maze of others."""

from collections.abc import Iterator
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from kilolayer import api
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.physics.build import build_physics
from kilolayer.physics.gymnasium import GymnasiumPhysics
from kilolayer.replay import buffer as ring
from kilolayer.report.run_report import write_report
from kilolayer.tasks.base import has_ended
from kilolayer.tasks.choice import TaskChoice
from kilolayer.tasks.gymnasium import make_gymnasium_task, probe_radius
from kilolayer.tasks.registry import task_of
from kilolayer.training.build import build_trainer
from kilolayer.training.rollout import reset, unroll
from kilolayer.training.step import Trainer, TrainState

LOW, HIGH = np.array([0.0, -2.0], np.float32), np.array([4.0, 2.0], np.float32)
SPACE = {
    "observation": Box(-np.inf, np.inf, (3,)),
    "achieved_goal": Box(-np.inf, np.inf, (2,)),
    "desired_goal": Box(-np.inf, np.inf, (2,)),
}


class Toy(gymnasium.Env):
    """A point on a plane that moves by its action and ends beyond x = 10; it starts at zero.

    The observation is the action taken and the steps so far, the goal lies somewhere in 20..30.
    """

    metadata = {"render_modes": [], "render_fps": 4}  # noqa: RUF012

    def __init__(self, radius: float = 0.3, spaces: dict = SPACE, actions=None):
        self.observation_space = Dict(spaces)
        self.action_space = actions or Box(LOW, HIGH)
        self.radius = radius

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(2), 0
        self.goal = self.np_random.uniform(20, 30, 2)
        return self.observation_of(np.zeros(2)), {}

    def step(self, action):
        assert action in self.action_space
        assert self.place[0] <= 10
        self.place, self.steps = self.place + action, self.steps + 1
        return self.observation_of(action), 0.0, self.place[0] > 10, False, {}

    def observation_of(self, action):
        observation = np.append(action, self.steps)
        return {
            "observation": observation,
            "achieved_goal": self.place.copy(),
            "desired_goal": self.goal.copy(),
        }

    def compute_reward(self, achieved, desired, info):
        return -float(np.linalg.norm(achieved - desired) > self.radius)


class Endless(Toy):
    """Never terminates: it is truncated at every third step, or not at all."""

    def __init__(self, every: int | None = None):
        super().__init__()
        self.every = every

    def step(self, action):
        self.place, self.steps = self.place + action, self.steps + 1
        return self.observation_of(action), 0.0, False, self.steps == self.every, {}


class Dense(Toy):
    def compute_reward(self, achieved, desired, info):
        return -float(np.linalg.norm(achieved - desired))


class WithoutReward(Toy):
    compute_reward = None


VARIANTS = {
    "Toy/point-v0": Toy,
    "Toy/cut-v0": partial(Endless, every=3),
    "Toy/open-v0": Endless,
    "Toy/dense-v0": Dense,
    "Toy/without-reward-v0": WithoutReward,
    "Toy/no-goal-v0": partial(Toy, spaces={"observation": SPACE["observation"]}),
    "Toy/image-v0": partial(Toy, spaces=SPACE | {"observation": Box(0, 255, (8, 8, 3), np.uint8)}),
    "Toy/nested-v0": partial(Toy, spaces=SPACE | {"achieved_goal": Dict(hand=Box(-1, 1, (3,)))}),
    "Toy/unequal-v0": partial(Toy, spaces=SPACE | {"achieved_goal": SPACE["observation"]}),
    "Toy/discrete-v0": partial(Toy, actions=Discrete(4)),
    "Toy/unbounded-v0": partial(Toy, actions=Box(-np.inf, np.inf, (2,))),
}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    for name, entry_point in VARIANTS.items():
        gymnasium.register(name, entry_point, max_episode_steps=6)
    gymnasium.register("Toy/endless-v0", Toy)
    yield
    for name in (*VARIANTS, "Toy/endless-v0"):
        del gymnasium.registry[name]


def begin(envs: int, goal: float = np.nan) -> tuple:
    """The toy's task, its engine and a first state, with seeds 0, 1, ..."""
    task = make_gymnasium_task("Toy/point-v0")
    physics = build_physics(task.world, envs)
    seeds = jnp.arange(envs, dtype=jnp.uint32)[:, None]
    return task, physics, physics.init(seeds, jnp.full((envs, 2), goal))


def test_task_matches_the_environment() -> None:
    task = make_gymnasium_task("Toy/point-v0")
    assert (task.name, task.action_dim, task.episode_length) == ("Toy/point-v0", 2, 6)
    assert (task.goal.dim, len(task.observation)) == (2, 5)
    assert task.goal.radius == pytest.approx(0.3)
    assert task.world.control_step == 0.25


@pytest.mark.parametrize("frames", [0, -5, None, "x"])
def test_without_a_frame_rate_a_control_step_is_a_second(frames, monkeypatch) -> None:
    monkeypatch.setattr(Toy, "metadata", {"render_modes": [], "render_fps": frames})
    assert make_gymnasium_task("Toy/point-v0").world.control_step == 1.0


@pytest.mark.parametrize(
    ("environment", "step"), [("PointMaze_UMaze-v3", 0.01), ("AntMaze_UMaze-v5", 0.05)]
)
def test_control_step_matches_mujocos_clock(environment, step) -> None:
    """Both state 50 frames per second, which fits neither."""
    pytest.importorskip("gymnasium_robotics")
    assert make_gymnasium_task(environment).world.control_step == pytest.approx(step)


def test_controls_span_the_action_bounds_and_observations_come_with_the_achieved_goal() -> None:
    task, physics, state = begin(3)
    control = jnp.array([[-1.0, -1.0], [0.0, 0.5], [1.0, 3.0]])  # 3 is clipped
    for _ in range(2):
        state = physics.step(state, control)
    np.testing.assert_allclose(task.achieved_goal(state), [[0, -4], [4, 2], [8, 4]])
    expected = [[0, -4, 0, -2, 2], [4, 2, 2, 1, 2], [8, 4, 4, 2, 2]]
    np.testing.assert_allclose(task.observe(state), expected)
    assert not task.terminated(state).any()


def test_goals_come_from_the_environment_unless_given() -> None:
    task, physics, state = begin(2)
    drawn = [np.random.Generator(np.random.PCG64(seed)).uniform(20, 30, 2) for seed in (0, 1)]
    goals = task.sample_goal(jax.random.key(0), 2, "training")
    np.testing.assert_allclose(task.current_goal(state, goals), drawn, rtol=1e-6)
    goal = jnp.array([[1.0, 2.0], [np.nan, np.nan]])
    seeds = jnp.array([[5], [1]], jnp.uint32)
    state = physics.reset(state, jnp.array([True, False]), seeds, goal)
    state = physics.step(state, jnp.zeros((2, 2)))
    np.testing.assert_allclose(task.current_goal(state, goal), [[1, 2], drawn[1]], rtol=1e-6)


def test_reset_changes_only_masked_environments() -> None:
    task, physics, state = begin(3)
    state = physics.step(state, jnp.zeros((3, 2)))
    seeds = jnp.array([[7], [8], [9]], jnp.uint32)
    state = physics.reset(state, jnp.array([False, True, False]), seeds, jnp.ones((3, 2)))
    np.testing.assert_allclose(task.achieved_goal(state), [[2, 0], [0, 0], [2, 0]])
    np.testing.assert_array_equal(state.engine, [[0, 1], [8, 0], [2, 1]])
    state = physics.step(state, jnp.zeros((3, 2)))
    np.testing.assert_allclose(task.observe(state)[:, -1], [2, 1, 2])


def test_ended_environment_is_frozen_until_reset() -> None:
    task, physics, state = begin(2)
    control = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    for _ in range(5):  # the first passes x = 10 at its third step
        state = physics.step(state, control)
    np.testing.assert_array_equal(task.terminated(state), [True, False])
    np.testing.assert_allclose(task.achieved_goal(state), [[12, 0], [0, 0]])


def test_state_unknown_to_the_environment_truncates_the_episode() -> None:
    task, physics, state = begin(2)
    later = physics.step(state, jnp.zeros((2, 2)))
    # As in a process that resumes a run: its environments have begun no episode.
    fresh = GymnasiumPhysics(task.world, 2)
    for left in (physics.step(state, jnp.zeros((2, 2))), fresh.step(later, jnp.zeros((2, 2)))):
        assert task.truncated(left).all()
        assert not task.terminated(left).any()
        assert has_ended(task, left).all()


def learner(environment: str) -> Trainer:
    """Of an agent that bootstraps a value of zero where an episode terminated."""
    config = run_config(
        gym=environment,
        agent="sac-her",
        goal_radius=1.0,
        num_envs=4,
        unroll_length=10,
        layers_per_block=1,
        depth=1,
        width=8,
        batch_size=64,
        replay_steps_per_env=50,
        min_replay_steps_per_env=20,
    )
    return build_trainer(config)


def terminated_after(state: TrainState, trainer: Trainer, unrolls: int) -> tuple:
    """The state after so many unrolls, and which steps of a batch from it have terminated."""
    for _ in range(unrolls):
        state, _ = jax.jit(trainer.collect)(state)
    batch = jax.jit(trainer.sample)(state, jax.random.key(1))
    assert np.isfinite(batch.goal).all()
    return state, np.asarray(batch.terminated)


@pytest.mark.parametrize(("environment", "some"), [("Toy/point-v0", True), ("Toy/cut-v0", False)])
def test_truncation_is_not_learned_as_termination(environment, some) -> None:
    trainer = learner(environment)
    state, terminated = terminated_after(trainer.init(), trainer, unrolls=2)
    assert terminated.any() == some
    episode_step = np.asarray(state.buffer.steps.episode_step[: state.buffer.size])
    assert (episode_step == ring.CUT_OFF).any() != some


def test_resume_truncates_but_does_not_terminate() -> None:
    trainer, resumed = learner("Toy/open-v0"), learner("Toy/open-v0")
    state, terminated = terminated_after(trainer.init(), trainer, unrolls=1)
    assert not terminated.any()
    state, terminated = terminated_after(state, resumed, unrolls=1)
    assert not terminated.any()
    episode_step = np.asarray(state.buffer.steps.episode_step[: state.buffer.size])
    assert (episode_step == ring.CUT_OFF).sum() == 4  # once in each world


def test_jitted_unroll_is_repeatable_and_resets_ended_environments() -> None:
    task = make_gymnasium_task("Toy/point-v0")
    physics = build_physics(task.world, 2)

    def policy(observation, goal, key):
        return jnp.array([[1.0, 0.0], [-1.0, 1.0]])

    @jax.jit
    def run(key):
        goal = task.sample_goal(key, 2, "training")
        envs = reset(task, physics, key, goal, "training")
        return unroll(task, physics, envs, policy, key, 8, task.episode_length)[1]

    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(
        first.episode_step.T, [[0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 0, 1]]
    )
    np.testing.assert_allclose(first.achieved_goal[:, 0, 0], [0, 4, 8, 0, 4, 8, 0, 4])
    np.testing.assert_allclose(first.achieved_goal[:, 1, 1], [0, 2, 4, 6, 8, 10, 0, 2])
    for mine, theirs in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    goal = np.asarray(first.goal)
    assert ((goal >= 20) & (goal <= 30)).all()
    assert (goal[2, 0] == goal[0, 0]).all()
    assert (goal[3, 0] != goal[2, 0]).all()
    assert (goal != np.asarray(other.goal)).all()


@pytest.mark.parametrize("radius", [1e-3, 0.3, 17.0])
def test_the_probe_finds_the_radius_of_a_sparse_reward(radius) -> None:
    assert probe_radius(lambda distance: float(distance <= radius)) == pytest.approx(radius)
    assert probe_radius(lambda distance: -float(distance > radius)) == pytest.approx(radius)


def test_dense_reward_has_no_radius() -> None:
    assert probe_radius(lambda distance: -distance) is None
    assert probe_radius(lambda distance: float(np.exp(-distance))) is None
    assert probe_radius(lambda distance: 0.0) is None


@pytest.mark.parametrize("name", ["Toy/dense-v0", "Toy/without-reward-v0", "Toy/point-v0"])
def test_given_radius_is_used(name) -> None:
    task = task_of(TaskChoice(gym=name, goal_radius=1.5))
    assert (task.goal.radius, task.goal.easy_radius) == (1.5, 3.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("PointMaze_UMase-v3", r"gym = 'PointMaze_UMase-v3' is not allowed.*PointMaze_UMaze-v3"),
        ("nowhere:Toy-v0", "No module named 'nowhere'; install the package"),
        ("CartPole-v1", "no GoalEnv.*lack observation, achieved_goal, desired_goal: wrap it"),
        ("Toy/no-goal-v0", "its observations lack achieved_goal, desired_goal"),
        ("Toy/image-v0", r"its observation is Box\(0, 255, \(8, 8, 3\).*not a vector"),
        ("Toy/nested-v0", r"its achieved_goal is Dict.*not a vector"),
        ("Toy/unequal-v0", r"achieved_goal \(3,\) and desired_goal \(2,\) differ"),
        ("Toy/discrete-v0", r"its actions are Discrete\(4\).*continuous actions"),
        ("Toy/unbounded-v0", "have no finite bounds"),
        ("Toy/endless-v0", "states no max_episode_steps: register it with one"),
        ("Toy/dense-v0", "does not change at one distance: .*--goal-radius"),
        ("Toy/without-reward-v0", "its compute_reward fails.*--goal-radius"),
    ],
)
def test_unsupported_environments_are_refused(name, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        task_of(TaskChoice(gym=name))
    assert "\n" not in str(error.value)


def test_radius_for_a_task_with_a_fixed_radius_is_refused() -> None:
    with pytest.raises(UserError, match=r"goal_radius = 1.0.*point_u_maze has a fixed radius"):
        task_of(TaskChoice(goal_radius=1.0))


def test_environment_that_raises_on_creation_is_refused(monkeypatch) -> None:
    with pytest.raises(UserError, match=r"cannot be made \(TypeError: .*--gym"):
        make_gymnasium_task("Toy/point-v0", colour="red")
    monkeypatch.setitem(__import__("sys").modules, "gymnasium", None)
    with pytest.raises(UserError, match=r"pip install 'kilolayer\[gym\]'"):
        make_gymnasium_task("Toy/point-v0")


@pytest.mark.slow
def test_a_maze_of_gymnasium_robotics_trains_end_to_end(tmp_path) -> None:
    pytest.importorskip("gymnasium_robotics")
    config = run_config(
        gym="PointMaze_UMaze-v3",
        total_steps=240,
        num_envs=4,
        unroll_length=10,
        width=16,
        representation_dim=8,
        batch_size=16,
        min_replay_steps_per_env=20,
        replay_steps_per_env=100,
        num_evaluations=1,
        eval_envs=2,
        tensorboard=False,
    )
    run = api.train(config, tmp_path / "run", progress=False, report=False)
    assert run.task.goal.radius == pytest.approx(0.45)  # as its documentation says
    assert run.final("evaluation/final_distance") > 0
    episodes = run.episodes("evaluation")
    assert episodes["achieved"].shape == (300, 2, 2)
    assert (np.abs(episodes["achieved"]) < 2.5).all()  # the maze is 5 cells of 1 m wide
    assert np.ptp(episodes["achieved"], axis=0).max() > 0.01
    score = api.evaluate(run, episodes=2, goal="-1,1")["goal -1,1"]
    assert 0 < score["final_distance"] < 5
    page = write_report(run).read_text()
    assert page.count("cannot be drawn from a recording") == 1
    with pytest.raises(UserError, match="cannot be drawn from a recording"):
        api.play(run, goals=["-1,1"])
