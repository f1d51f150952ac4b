"""Our tasks as Gymnasium environments: the checker, the fast face against the single one, HER."""

import re
from pathlib import Path

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import kilolayer.gym
from kilolayer.errors import UserError
from kilolayer.physics.base import PhysicsState
from kilolayer.render.media import render_frames
from kilolayer.tasks.gymnasium import make_gymnasium_task
from kilolayer.tasks.point import PointMaze
from kilolayer.tasks.registry import TASKS, make_task

POINT = "Kilolayer/point_u_maze-v0"
# Positions and velocities have no bounds; Gymnasium remarks on that.
UNBOUNDED = "ignore:.*A Box observation space m.*imum value is -?infinity"


@pytest.fixture(scope="module")
def renders() -> bool:
    """Whether this machine can render MuJoCo."""
    qpos = np.zeros((1, 1, make_task("half_cheetah").world.model.nq))
    try:
        render_frames(make_task("half_cheetah"), qpos, np.zeros((1, 1, 1)), np.zeros((1, 1)), 16)
    except UserError:
        return False
    return True


def test_every_task_is_registered_with_its_episode_length() -> None:
    for name, maker in TASKS.items():
        specification = gymnasium.spec(f"Kilolayer/{name}-v0")
        assert specification.max_episode_steps == maker().episode_length
        specification.to_json()  # no callables inside, so it can be recreated anywhere


@pytest.mark.filterwarnings(UNBOUNDED)
@pytest.mark.parametrize("name", ["point_u_maze", "humanoid", "half_cheetah"])
def test_gymnasiums_checker_passes(name: str, renders: bool) -> None:
    environment = gymnasium.make(f"Kilolayer/{name}-v0").unwrapped
    check_env(environment, skip_render_check=not renders)


def test_render_fps_and_control_step_match_the_task() -> None:
    """Reacher steps 0.04 s, an arm 0.05 s, a point 0.1 s: none is taken for another."""
    steps = {"point_u_maze": 0.1, "arm_reach": 0.05, "reacher": 0.04}
    for name, step in steps.items():
        identifier = f"Kilolayer/{name}-v0"
        environment = gymnasium.make(identifier, render_mode="rgb_array")
        assert environment.metadata["render_fps"] == pytest.approx(1 / step)
        read_back = make_gymnasium_task(identifier)
        assert read_back.world.control_step == pytest.approx(step)
        assert step == pytest.approx(make_task(name).world.control_step)


def test_the_reward_is_zero_within_half_a_cell_and_minus_one_elsewhere() -> None:
    environment = gymnasium.make(POINT).unwrapped
    desired = np.array([[3.0, 1.0], [3.0, 1.0], [1.0, 1.0]], np.float32)
    achieved = np.array([[3.0, 1.49], [3.0, 1.51], [1.0, 1.0]], np.float32)
    np.testing.assert_array_equal(environment.compute_reward(achieved, desired, {}), [0, -1, 0])
    assert environment.compute_reward(achieved[1], desired[1], {}) == -1.0
    assert isinstance(environment.compute_reward(achieved[0], desired[0], {}), float)


def test_goal_at_the_current_position_is_a_success() -> None:
    environment = gymnasium.make(POINT)
    start, _ = environment.reset(seed=4)
    np.testing.assert_array_equal(start["observation"][:2], start["achieved_goal"])
    goal = start["achieved_goal"]
    observation, info = environment.reset(seed=4, options={"goal": goal})
    assert info["is_success"]
    np.testing.assert_array_equal(observation["desired_goal"], goal)
    observation, reward, *_, info = environment.step(np.zeros(2, np.float32))
    assert (reward, info["is_success"]) == (0.0, True)
    far, reward, *_, info = environment.unwrapped.step(np.array([0.0, 1.0], np.float32))
    assert far["achieved_goal"][1] > goal[1]


def test_episode_length_matches_the_task_and_starts_differ() -> None:
    environment = gymnasium.make(POINT)
    first, _ = environment.reset(seed=1)
    for step in range(200):
        *_, terminated, truncated, _ = environment.step(np.zeros(2, np.float32))
        assert (terminated, truncated) == (False, step == 199)
    second, _ = environment.reset()
    assert not np.array_equal(first["observation"], second["observation"])
    np.testing.assert_array_equal(environment.reset(seed=1)[0]["observation"], first["observation"])


def test_evaluation_goals_lie_in_evaluation_cells() -> None:
    environments = kilolayer.gym.make_vec("point_u_maze", 64, split="evaluation")
    goals = environments.reset(seed=0)[0]["desired_goal"]
    cells = {tuple(cell) for cell in np.rint(goals).astype(int).tolist()}
    centres = make_task("point_u_maze").maze.goals("evaluation")
    assert cells == {tuple(cell) for cell in np.rint(centres).astype(int).tolist()}


# Ants that thrash fall within a few dozen steps; points only run out of time.
@pytest.mark.parametrize(
    ("name", "steps", "limit"), [("point_u_maze", 25, 10), ("ant_u_maze", 60, 40)]
)
def test_vector_environment_matches_single_environments(name, steps, limit) -> None:
    options = {"num_envs": 3, "task": name}
    fast = gymnasium.make_vec(f"Kilolayer/{name}-v0", max_episode_steps=limit, **options)
    single = [
        lambda: gymnasium.wrappers.TimeLimit(kilolayer.gym.TaskEnv(name), limit) for _ in range(3)
    ]
    slow = gymnasium.vector.SyncVectorEnv(single)
    assert isinstance(fast, kilolayer.gym.TaskVectorEnv)
    assert fast.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert fast.observation_space == slow.observation_space
    assert fast.action_space == slow.action_space
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, *fast.action_space.shape))
    left, right = fast.reset(seed=7), slow.reset(seed=7)
    np.testing.assert_equal(left, right)
    ends = 0
    for action in actions.astype(np.float32):
        left, right = fast.step(action), slow.step(action)
        assert left[0] in fast.observation_space
        for mine, theirs in zip(left[1:4], right[1:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        np.testing.assert_equal(left[4], right[4])
        # A program for another number of environments may round another way (JAX 0.12 does).
        for key, value in left[0].items():
            np.testing.assert_allclose(value, right[0][key], rtol=1e-6, atol=1e-6)
        ends += (left[2] | left[3]).sum()
    assert ends >= 3


def test_pictures_show_the_path() -> None:
    environment = gymnasium.make(POINT, render_mode="rgb_array")
    environment.reset(seed=0)
    first = environment.render()
    for _ in range(10):
        environment.step(np.array([0.0, 1.0], np.float32))
    assert first.dtype == np.uint8
    assert first.shape == environment.render().shape
    assert (first != environment.render()).any()
    environment.close()


@pytest.mark.parametrize("goal", [[1.0], [1.0, np.nan], [[1.0, 1.0]] * 2, [1.0, 2.0, 3.0]])
def test_a_goal_that_does_not_fit_says_what_the_task_takes(goal) -> None:
    environment = kilolayer.gym.TaskEnv("point_u_maze")
    with pytest.raises(UserError, match="task point_u_maze takes 2 finite numbers"):
        environment.reset(seed=0, options={"goal": goal})


def test_wrong_uses_give_one_sentence() -> None:
    environments = kilolayer.gym.make_vec("point_u_maze", 2)
    with pytest.raises(UserError, match=r"call reset\(\) first"):
        environments.step(np.zeros((2, 2)))
    environments.reset(seed=0)
    with pytest.raises(UserError, match=r"shape \(2,\) do not fit: they need \(2, 2\)"):
        environments.step(np.zeros(2))
    with pytest.raises(UserError, match=r"one of training, evaluation; .* is evaluation"):
        kilolayer.gym.TaskEnv("point_u_maze", split="test")
    with pytest.raises(UserError, match=r"nearest.*ant_u_maze"):
        kilolayer.gym.TaskEnv("ant_u_mase")


class CutMaze(PointMaze):
    """Cuts an episode off where the point leaves its first cell."""

    def truncated(self, state: PhysicsState) -> jnp.ndarray:
        return state.qpos[:, 1] > 1.5


def test_task_that_truncates_ends_the_episode() -> None:
    task, up = CutMaze("u"), np.array([0.0, 1.0], np.float32)
    single, many = kilolayer.gym.TaskEnv(task), kilolayer.gym.TaskVectorEnv(task, 2)
    single.reset(seed=0)
    many.reset(seed=0)
    for _ in range(50):
        observation, _, terminated, truncated, _ = single.step(up)
        seen, *_, cut, _ = many.step(np.stack([up, 0 * up]))
        assert (terminated, truncated) == (False, bool(observation["achieved_goal"][1] > 1.5))
        assert cut.tolist() == [truncated, False]
        if truncated:
            break
    assert truncated
    assert seen["achieved_goal"][0, 1] > 1.5
    seen, *_, cut, _ = many.step(np.zeros((2, 2)))
    assert seen["achieved_goal"][0, 1] < 1.5
    assert not cut.any()


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="num_envs = 0 is not allowed: it must be at least 1"):
        kilolayer.gym.make_vec("point_u_maze", 0)
    with pytest.raises(UserError, match="max_episode_steps = 0 is not allowed"):
        kilolayer.gym.make_vec("point_u_maze", 1, max_episode_steps=0)


def test_stable_baselines_hindsight_buffer_trains_on_it() -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason="needs PyTorch, several GB with CUDA")
    environment = gymnasium.make(POINT)
    agent = sb3.SAC(
        "MultiInputPolicy",
        environment,
        replay_buffer_class=sb3.HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        learning_starts=210,
        batch_size=32,
        buffer_size=1000,
        policy_kwargs={"net_arch": [16]},
        seed=0,
        device="cpu",
    )
    before = [parameter.detach().clone() for parameter in agent.actor.parameters()]
    agent.learn(260)
    after = agent.actor.parameters()
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    batch = agent.replay_buffer.sample(512)
    achieved = batch.next_observations["achieved_goal"].numpy()
    goal = batch.observations["desired_goal"].numpy()
    close = np.asarray(jnp.linalg.norm(achieved - goal, axis=-1)) < 0.5
    np.testing.assert_array_equal(batch.rewards.numpy()[:, 0], np.where(close, 0.0, -1.0))
    # Goals from the future of a point that drifts are often reached, commanded ones hardly ever.
    assert 0.2 < close.mean() < 1.0


def test_the_documented_example_runs() -> None:
    text = (Path(__file__).parents[1] / "docs" / "gymnasium.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(compile(example, "docs/gymnasium.md", "exec"), names)
    assert names["rewards"].shape == (64,)
    assert set(names["rewards"]) <= {-1.0, 0.0}
