"""A Gymnasium environment as a robot: each action is one step of the environment.

    kilolayer-robot run policy/ --robot kilolayer_robot.adapters.gymnasium:GymnasiumRobot \\
        --set env=PointMaze_UMaze-v3

Needs the extra `gym`. The environment does not keep time: the loop's rate does.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from kilolayer_robot.errors import UserError, bad_field
from kilolayer_robot.robot import Sensed

PARTS = ("observation", "achieved_goal", "desired_goal")


class GymnasiumRobot:
    """Any environment with a Box of actions.

    env: an id or an environment. achieved: for an environment without goals, the indices of the
    achieved goal in its flattened observation; the loop then needs a goal. module: imported first,
    for environments that it registers. seed: of the first reset. Actions in [-1, 1] span the
    environment's range; the safe action is the middle of the range. After an episode ends, the next
    one begins, with a new `errand`. Raises UserError for an environment that does not fit.
    """

    def __init__(
        self,
        env: "str | gymnasium.Env",
        achieved: Sequence[int] | None = None,
        module: str | None = None,
        seed: int = 0,
    ):
        if module is not None:
            __import__(module)
        try:
            self.env: Any = gymnasium.make(env) if isinstance(env, str) else env
        except gymnasium.error.Error as error:
            raise bad_field("env", str(env), str(error)) from error
        space = self.env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded():
            raise UserError(f"{env} has the action space {space}: a bounded Box is needed.")
        self._middle, self._half = (space.high + space.low) / 2, (space.high - space.low) / 2
        self._shape, self._dtype = space.shape, space.dtype
        self._achieved = None if achieved is None else list(achieved)
        self.episodes = 0
        observation, _ = self.env.reset(seed=seed)
        self._sensed = self._read(observation)

    def observe(self) -> Sensed:
        return self._sensed

    def act(self, action: np.ndarray) -> None:
        scaled = self._middle + self._half * np.reshape(action, self._shape)
        observation, _, terminated, truncated, _ = self.env.step(scaled.astype(self._dtype))
        if terminated or truncated:
            self.episodes += 1
            observation, _ = self.env.reset()
        self._sensed = self._read(observation)

    def safe_action(self) -> np.ndarray:
        return np.zeros(self._half.size, np.float32)

    def close(self) -> None:
        self.env.close()

    def _read(self, observation: Any) -> Sensed:
        if isinstance(observation, dict) and all(part in observation for part in PARTS):
            return Sensed(*(np.ravel(observation[part]) for part in PARTS), errand=self.episodes)
        if self._achieved is None:
            raise UserError(
                "the environment's observation has no achieved_goal: give the indices of the "
                "achieved goal with achieved=[...]."
            )
        found: Any = gymnasium.spaces.flatten(self.env.observation_space, observation)
        flat = np.ravel(found)
        return Sensed(flat, flat[self._achieved], errand=self.episodes)
