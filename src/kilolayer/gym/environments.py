"""The Gymnasium interfaces: `TaskEnv` is one environment, `TaskVectorEnv` is a batch of them."""

from contextlib import ExitStack
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from kilolayer.gym.parallel import Outcome, ParallelEnvs
from kilolayer.render.scene import make_scene
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.types import bad_field

Observation = dict[str, np.ndarray]

FRAME_PIXELS = 480


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
        if max_episode_steps is not None and max_episode_steps < 1:
            raise bad_field("max_episode_steps", max_episode_steps, "it must be at least 1", 1)
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
