"""Records a dataset from episodes of a policy."""

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.errors import UserError
from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.replay.buffer import Transition
from kilolayer.runtime.devices import require_memory
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task
from kilolayer.training.rollout import EnvState, Policy, reset, unroll
from kilolayer.types import Array

MAX_ENVS = 64
# Control steps of every environment between two updates of the display.
CHUNK_STEPS = 100


def num_envs_for(task: Task, steps: int) -> int:
    """Number of parallel environments: at most one per whole episode."""
    return max(1, min(MAX_ENVS, steps // task.episode_length))


def require_states(task: Task) -> None:
    """Raises UserError if the states of the task's environment cannot be recorded."""
    if isinstance(task.world, GymnasiumWorld):
        raise UserError(
            f"{task.name} is a Gymnasium environment, whose states cannot be recorded: collect "
            "with --to minari, which needs no states, or from a task of Kilolayer."
        )


def with_noise(policy: Policy, noise: float) -> Policy:
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
    """`steps` control steps in the layout of a dataset, with `achieved_goals` and `goals`.

    physics: of `envs` environments. Episodes have the task's length; each has a new training goal.
    The last episode is truncated at `steps`. If an episode of an environment ended early, the
    environment's last episode is truncated too.
    """
    require_memory("steps", steps, 4 * (len(task.observation) + task.action_dim))
    display.phase("collect")
    length = task.episode_length
    per_env = -(-steps // (envs * length)) * length
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
        return unroll(task, physics, state, policy, key, CHUNK_STEPS, length, record=record)[:2]

    state, chunks = begin(), []
    for index in range(-(-per_env // CHUNK_STEPS)):
        state, chunk = play(state, jax.random.fold_in(key, index))
        chunks.append(jax.device_get(chunk))
        display.advance(min(len(chunks) * CHUNK_STEPS, per_env), per_env)
    arrays = jax.tree.map(lambda *parts: np.concatenate(parts)[:per_env], *chunks)
    # Environments one after the other, each from its first step to its last.
    rows = {
        name: array.swapaxes(0, 1).reshape(envs * per_env, *array.shape[2:])[:steps]
        for name, array in arrays.items()
    }
    episode_step = rows.pop("episode_step")
    return rows | {"terminals": np.r_[episode_step[1:] == 0, True]}
