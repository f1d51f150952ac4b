"""Tiny problems with known answers, shared by tests."""

import dataclasses
import os
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer.replay.buffer import Transition
from kilolayer.replay.hindsight import Batch

exhaustive = pytest.mark.skipif(
    not os.environ.get("KILOLAYER_EVERY_BENCHMARK"), reason="set KILOLAYER_EVERY_BENCHMARK=1"
)
"""For tests that compile for long and whose like is among the others."""


def contrastive_batch(observation, action, goal, commanded_goal) -> Batch:
    """A batch for an agent that reads no successors: theirs are NaN, so that reading one shows."""
    missing = jnp.full_like(observation, jnp.nan)
    return Batch(
        observation=observation,
        action=action,
        goal=goal,
        commanded_goal=commanded_goal,
        achieved_goal=jnp.full_like(goal, jnp.nan),
        next_observation=missing,
        terminated=jnp.zeros(len(goal), bool),
    )


def labelled_transitions(episode_steps: np.ndarray, first_time: int = 0) -> Transition:
    """Steps of environments whose every entry says where it comes from, for ages `[time, envs]`.

    observation and achieved_goal: (environment, time since the start of the recording), so that a
    sample shows which step it is and from which step its goal was taken. action: the age.
    """
    times, envs = np.indices(episode_steps.shape)
    label = jnp.asarray(np.stack([envs, times + first_time], -1), jnp.float32)
    return Transition(
        observation=label,
        action=jnp.asarray(episode_steps[..., None], jnp.float32),
        achieved_goal=label,
        goal=-label,
        episode_step=jnp.asarray(episode_steps, jnp.int32),
    )


def ages_of_episodes(lengths: list[int], time: int) -> np.ndarray:
    """Ages `[time]` of an environment whose episodes have these lengths, repeated as needed."""
    episode_steps: list[int] = []
    while len(episode_steps) < time:
        for length in lengths:
            episode_steps.extend(range(length))
    return np.array(episode_steps[:time])


@dataclass(frozen=True)
class Chain:
    """A Markov chain on `states` places in a row, with episodes of `episode_length` steps.

    Action 1 moves right and action 0 left with probability `obedience`; else the other way. The
    ends hold. An episode starts anywhere, uniformly, and acts right with probability `right`.
    """

    states: int = 5
    episode_length: int = 10
    obedience: float = 0.85
    right: float = 0.6

    @property
    def transition(self) -> np.ndarray:
        """P(next | state, action), `[states, 2, states]`."""
        chances = np.zeros((self.states, 2, self.states))
        for state in range(self.states):
            for action in (0, 1):
                for move, chance in ((1, self.obedience), (-1, 1 - self.obedience)):
                    step = move if action == 1 else -move
                    chances[state, action, np.clip(state + step, 0, self.states - 1)] += chance
        return chances

    @property
    def policy(self) -> np.ndarray:
        """Probabilities of the two actions, `[2]`."""
        return np.array([1 - self.right, self.right])

    def joint(self, discount: float) -> np.ndarray:
        """p(state, action, goal) of hindsight sampling, `[states, 2, states]`.

        A step of age t is drawn uniformly among those with a future, t = 0..L-2, and its goal k
        steps later with probability proportional to discount^k, k = 1..L-1-t.
        """
        step = np.einsum("sag,a->sg", self.transition, self.policy)
        visited = np.full(self.states, 1 / self.states)
        joint = np.zeros((self.states, 2, self.states))
        for episode_step in range(self.episode_length - 1):
            weights = discount ** np.arange(1.0, self.episode_length - episode_step)
            later = self.transition
            for weight in weights / weights.sum():
                joint += weight * visited[:, None, None] * self.policy[:, None] * later
                later = later @ step
            visited = visited @ step
        return joint / joint.sum()

    def log_ratio(self, discount: float) -> np.ndarray:
        """log p(goal | state, action) / p(goal), `[states, 2, states]`."""
        joint = self.joint(discount)
        given = joint / joint.sum(-1, keepdims=True)
        return np.log(given / joint.sum((0, 1)))

    def play(self, envs: int, episodes: int, seed: int) -> Transition:
        """Recorded episodes, leaves `[time, envs, ...]`; states and actions are one-hot."""
        generator = np.random.default_rng(seed)
        cumulative = self.transition.cumsum(-1)
        time = episodes * self.episode_length
        states, actions = np.zeros((2, time, envs), int)
        for now in range(time):
            if now % self.episode_length == 0:
                state = generator.integers(self.states, size=envs)
            action = (generator.random(envs) < self.right).astype(int)
            states[now], actions[now] = state, action
            draw = generator.random((envs, 1))
            state = (draw > cumulative[state, action]).sum(-1)
        place = jnp.asarray(np.eye(self.states)[states], jnp.float32)
        return Transition(
            observation=place,
            action=jnp.asarray(np.eye(2)[actions], jnp.float32),
            achieved_goal=place,
            goal=place,
            episode_step=jnp.asarray(
                np.tile(np.arange(time)[:, None] % self.episode_length, (1, envs)), jnp.int32
            ),
        )


class BreakingPhysics(KinematicPhysics):
    """Point environments whose positions become `value` where one coordinate passes `line`, in
    cells."""

    def __init__(self, world: PointWorld, line: float, value: float):
        super().__init__(world)
        self.line, self.value = line, value

    def step(self, state: PhysicsState, control: jax.Array) -> PhysicsState:
        state = super().step(state, control)
        broken = jnp.any(state.qpos > self.line, axis=-1, keepdims=True)
        return dataclasses.replace(state, qpos=jnp.where(broken, self.value, state.qpos))
