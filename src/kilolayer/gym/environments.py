"""The Gymnasium interfaces: `TaskEnv` is one environment, `TaskVectorEnv` is a batch of them."""

from contextlib import ExitStack
from typing import Any, get_args

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from kilolayer.errors import UserError, require_at_least, require_choice
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.build import build_physics
from kilolayer.render.scene import make_scene
from kilolayer.tasks.base import GoalSplit, Task, is_success
from kilolayer.tasks.gymnasium import task_spaces
from kilolayer.tasks.registry import make_task
from kilolayer.types import Array

Observation = dict[str, np.ndarray]

FRAME_PIXELS = 480


class State(eqx.Module):
    """All environments between two steps.

    key `[envs, 2]`: each environment draws its next episode from its own key.
    """

    physics: PhysicsState
    goal: Array
    episode_step: Array
    key: Array


class Outcome(eqx.Module):
    """The result of a step or reset, one entry per environment.

    Arrays on the host must not be written to. steps: control steps of the episode so far.
    """

    observation: dict[str, Any]
    success: Any
    terminated: Any
    truncated: Any
    steps: Any


class ParallelEnvs:
    """Environments of a task. Each environment's episodes depend only on its own seed."""

    def __init__(self, task: str | Task, num_envs: int, split: GoalSplit):
        task = make_task(task) if isinstance(task, str) else task
        require_choice("split", split, get_args(GoalSplit))
        require_at_least(1, num_envs=num_envs)
        self.task, self.num_envs = task, num_envs
        self._split: GoalSplit = split
        self._physics = build_physics(task.world, num_envs)
        self._begin, self._step = jax.jit(self._begin_all), jax.jit(self._step_all)
        self._state: State | None = None
        self.spaces = task_spaces(task)

    @property
    def state(self) -> State:
        if self._state is None:
            raise UserError("the environment has not begun an episode: call reset() first.")
        return self._state

    def begin(
        self, seed: int | None, options: dict[str, Any] | None, generator: np.random.Generator
    ) -> Outcome:
        """Begin an episode in every environment.

        Environment i uses `seed + i`; without a seed, it continues with its current key. The first
        time without a seed, `generator` draws one.
        """
        if seed is None and self._state is None:
            seed = int(generator.integers(2**62))
        if seed is None:
            key = self.state.key
        else:
            # SeedSequence uses all bits of a seed of any size.
            seeds = [np.random.SeedSequence(seed + index) for index in range(self.num_envs)]
            key = np.stack([entropy.generate_state(2) for entropy in seeds])
        self._state, outcome = self._begin(key, self._goal_option(options))
        return jax.device_get(outcome)

    def step(self, actions: np.ndarray, restart: np.ndarray) -> Outcome:
        """One control step with `actions [envs, action]`; environments in `restart [envs]` reset
        instead."""
        shape = (self.num_envs, self.task.action_dim)
        if actions.shape != shape:
            raise UserError(f"actions of the shape {actions.shape} do not fit: they need {shape}.")
        self._state, outcome = self._step(self.state, actions, restart)
        return jax.device_get(outcome)

    def reward(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """0 within the success radius and -1 elsewhere, `[..., goal] -> [...]`."""
        return np.where(is_success(self.task, achieved, desired), 0.0, -1.0)

    def _goal_option(self, options: dict[str, Any] | None) -> np.ndarray | None:
        """The goals in a reset's options, `[envs, goal]`, or None. One goal `[goal]` is used for
        all environments."""
        if not options or "goal" not in options:
            return None
        goal = np.asarray(options["goal"], np.float32)
        shape = (self.num_envs, self.task.goal.dim)
        if goal.shape not in (shape, shape[1:]) or not np.isfinite(goal).all():
            raise UserError(
                f"the goal {goal.tolist()} is not allowed: task {self.task.name} takes "
                f"{shape[1]} finite numbers, or as many for each of {shape[0]} environments."
            )
        return np.broadcast_to(goal, shape)

    def _draw(self, key: Array, commanded: Array | None) -> tuple[Array, Array, Array, Array]:
        """Goal, qpos, qvel and next key of each environment, drawn from its own key alone."""

        def draw(key: Array, commanded: Array | None) -> tuple[Array, Array, Array, Array]:
            key, goal_key, start_key = jax.random.split(jax.random.wrap_key_data(key), 3)
            task, split = self.task, self._split
            goal = task.sample_goal(goal_key, 1, split) if commanded is None else commanded[None]
            qpos, qvel = task.reset(start_key, goal, split)
            return goal[0], qpos[0], qvel[0], jax.random.key_data(key)

        return jax.vmap(draw)(key, commanded)

    def _begin_all(self, key: Array, commanded: Array | None) -> tuple[State, Outcome]:
        goal, qpos, qvel, key = self._draw(key, commanded)
        state = State(self._physics.init(qpos, qvel), goal, jnp.zeros(len(goal), jnp.int32), key)
        return self._observe(state)

    def _step_all(self, state: State, actions: Array, restart: Array) -> tuple[State, Outcome]:
        physics = self._physics.step(state.physics, jnp.clip(actions, -1.0, 1.0))
        stepped = State(physics, state.goal, state.episode_step + 1, state.key)

        def with_resets() -> State:
            goal, qpos, qvel, key = self._draw(state.key, None)
            each = restart[:, None]
            return State(
                self._physics.reset(physics, restart, qpos, qvel),
                jnp.where(each, goal, stepped.goal),
                jnp.where(restart, 0, stepped.episode_step),
                jnp.where(each, key, stepped.key),
            )

        return self._observe(jax.lax.cond(jnp.any(restart), with_resets, lambda: stepped))

    def _observe(self, state: State) -> tuple[State, Outcome]:
        task, physics = self.task, state.physics
        goal, achieved = task.current_goal(physics, state.goal), task.achieved_goal(physics)
        observation = {
            "observation": task.observe(physics),
            "achieved_goal": achieved,
            "desired_goal": goal,
        }
        success = is_success(task, achieved, goal)
        terminated, truncated = task.terminated(physics), task.truncated(physics)
        outcome = Outcome(observation, success, terminated, truncated, state.episode_step)
        return State(physics, goal, state.episode_step, state.key), outcome


class TaskEnv(gymnasium.Env[Any, np.ndarray]):
    """A task as a Gymnasium environment with goals.

    task: a task name, `module:function` of your own, or a `Task`. split: the goal distribution, for
    tasks whose training and evaluation goals differ. `reset(options={"goal": ...})` sets the
    commanded goal. An episode ends early when the task terminates or truncates it, and after the
    task's episode length if `gymnasium.make` made the environment. `metadata["render_fps"]` is one
    frame per control step.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self, task: str | Task, split: GoalSplit = "training", render_mode: str | None = None
    ):
        self._envs = ParallelEnvs(task, 1, split)
        self.task, self.render_mode = self._envs.task, render_mode
        self.metadata = self.metadata | {"render_fps": 1 / self.task.world.control_step}
        self.observation_space, self.action_space = self._envs.spaces
        self._path: list[np.ndarray] = []  # qpos since the reset, for pictures
        self._drawing = ExitStack()
        self._scene: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        outcome = self._envs.begin(seed, options, self.np_random)
        self._path = []
        return self._result(outcome)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        outcome = self._envs.step(np.asarray(action, np.float32)[None], np.zeros(1, bool))
        observation, info = self._result(outcome)
        reward = 0.0 if info["is_success"] else -1.0
        ended = bool(outcome.terminated[0]), bool(outcome.truncated[0])
        return observation, reward, *ended, info

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """0 within the success radius and -1 elsewhere.

        Goals `[goal]` give a float, goals `[batch, goal]` give float64 `[batch]`.
        """
        reward = self._envs.reward(achieved_goal, desired_goal)
        return float(reward) if reward.ndim == 0 else reward

    def render(self) -> Any:
        """The current frame, `[height, width, 3]` uint8; None without render_mode="rgb_array"."""
        if self.render_mode is None:
            return None
        if self._scene is None:
            self._scene = self._drawing.enter_context(make_scene(self.task, FRAME_PIXELS))
        goal, reached = self._latest.observation["desired_goal"][0], bool(self._latest.success[0])
        return np.ascontiguousarray(self._scene.draw(np.stack(self._path), goal, reached))

    def close(self) -> None:
        self._drawing.close()
        self._scene = None

    def _result(self, outcome: Outcome) -> tuple[Observation, dict[str, Any]]:
        self._latest = outcome
        if self.render_mode is not None:
            self._path.append(np.array(self._envs.state.physics.qpos)[0])
        observation = {name: np.array(value)[0] for name, value in outcome.observation.items()}
        return observation, {"is_success": bool(outcome.success[0])}


class TaskVectorEnv(VectorEnv[Any, np.ndarray, np.ndarray]):
    """`num_envs` environments of a task, stepped in one compiled call.

    Environment i behaves like a `TaskEnv` with the seed `seed + i`. After the end of an episode,
    the next step resets the environment and ignores its action (`AutoresetMode.NEXT_STEP`).
    max_episode_steps: length of an episode that does not end early. Default: the task's episode
    length.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        task: str | Task,
        num_envs: int = 1,
        split: GoalSplit = "training",
        max_episode_steps: int | None = None,
    ):
        self._envs = ParallelEnvs(task, num_envs, split)
        self.task, self.num_envs = self._envs.task, num_envs
        require_at_least(1, max_episode_steps=max_episode_steps)
        self.max_episode_steps = max_episode_steps or self.task.episode_length
        self.single_observation_space, self.single_action_space = self._envs.spaces
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        outcome = self._envs.begin(seed, options, self.np_random)
        self._ended[:] = False
        return self._result(outcome)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        resetting = self._ended
        outcome = self._envs.step(np.asarray(actions, np.float32), resetting)
        observation, info = self._result(outcome)
        terminated = outcome.terminated & ~resetting
        truncated = outcome.truncated & ~resetting | (outcome.steps >= self.max_episode_steps)
        self._ended = terminated | truncated
        reward = np.where(info["is_success"] | resetting, 0.0, -1.0)
        return observation, reward, terminated, truncated, info

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> np.ndarray:
        """0 within the success radius and -1 elsewhere, `[..., goal] -> [...]`."""
        return self._envs.reward(achieved_goal, desired_goal)

    def _result(self, outcome: Outcome) -> tuple[Observation, dict[str, Any]]:
        observation = {name: np.array(value) for name, value in outcome.observation.items()}
        everywhere = np.ones(self.num_envs, bool)
        return observation, {"is_success": np.array(outcome.success), "_is_success": everywhere}
