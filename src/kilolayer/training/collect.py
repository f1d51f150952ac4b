"""Environments played into a dataset."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.replay.buffer import Transition
from kilolayer.runtime.devices import require_memory
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task
from kilolayer.training.rollout import EnvState, Policy, reset, unroll
from kilolayer.types import Array, UserError

MOST_ENVS = 64
# Control steps of every environment between two signs of life.
STEPS_AT_ONCE = 100


def envs_for(task: Task, steps: int) -> int:
    """How many environments play side by side: no more than there are whole episodes to play."""
    return max(1, min(MOST_ENVS, steps // task.episode_length))


def require_states(task: Task) -> None:
    """Raises UserError if the states of the task's environment cannot be recorded."""
    if isinstance(task.world, GymnasiumWorld):
        raise UserError(
            f"{task.name} is a Gymnasium environment, whose states cannot be recorded: collect "
            "with --to minari, which needs none, or from a task of Kilolayer."
        )


def noisy(policy: Policy, noise: float) -> Policy:
    """The policy with Gaussian noise of this standard deviation on its actions, clipped."""

    def act(observation: Array, goal: Array, key: Array) -> Array:
        policy_key, noise_key = jax.random.split(key)
        action = policy(observation, goal, policy_key)
        return jnp.clip(action + noise * jax.random.normal(noise_key, action.shape), -1.0, 1.0)

    return act


def random_policy(action_dim: int) -> Policy:
    """Uniform actions."""
    return lambda observation, goal, key: jax.random.uniform(
        key, (observation.shape[0], action_dim), minval=-1.0
    )


def collect_steps(
    task: Task,
    physics: Physics,
    envs: int,
    policy: Policy,
    steps: int,
    seed: int,
    display: ProgressDisplay,
) -> dict[str, np.ndarray]:
    """`steps` control steps of whole episodes, one after the other, in the layout of a dataset,
    with `achieved_goals` and `goals`.

    physics: of `envs` environments. Episodes have the task's length and training goals, drawn anew
    for each. The last one is cut where the steps are complete. An environment's last episode too,
    if one of its episodes ended early.
    """
    require_memory("steps", steps, 4 * (len(task.observation) + task.action_dim))
    display.phase("collect")
    length = task.episode_length
    per_env = -(-steps // (envs * length)) * length
    recorded: list[dict[str, np.ndarray]] = []
    for part in _play(task, physics, envs, policy, per_env, seed):
        recorded.append(part)
        done = sum(len(each["episode_step"]) for each in recorded)
        display.advance(min(done, per_env), per_env)
    played = {
        name: np.concatenate([part[name] for part in recorded])[:per_env] for name in recorded[0]
    }
    # Environments one after the other, each from its first step to its last.
    in_order = {
        name: array.swapaxes(0, 1).reshape(envs * per_env, *array.shape[2:])[:steps]
        for name, array in played.items()
    }
    episode_step = in_order.pop("episode_step")
    return in_order | {"terminals": np.r_[episode_step[1:] == 0, True]}


def _play(
    task: Task, physics: Physics, envs: int, policy: Policy, steps: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    """Parts of `STEPS_AT_ONCE` steps, arrays `[steps, envs, ...]`, until there are `steps`."""
    goal_key, env_key, key = jax.random.split(jax.random.key(seed), 3)

    def record(state: PhysicsState, step: Transition) -> dict[str, Array]:
        return {
            "observations": step.observation,
            "actions": step.action,
            "qpos": state.qpos,
            "qvel": state.qvel,
            "achieved_goals": step.achieved_goal,
            "goals": step.goal,
            "episode_step": step.episode_step,
        }

    @jax.jit
    def begin() -> EnvState:
        goal = task.sample_goal(goal_key, envs, "training")
        return reset(task, physics, env_key, goal, "training")

    @jax.jit
    def play(state: EnvState, key: Array) -> tuple[EnvState, dict[str, Array]]:
        length = task.episode_length
        return unroll(task, physics, state, policy, key, STEPS_AT_ONCE, length, record=record)[:2]

    state = begin()
    for index in range(-(-steps // STEPS_AT_ONCE)):
        state, part = play(state, jax.random.fold_in(key, index))
        yield jax.device_get(part)
