"""Worlds played into a dataset."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.replay.buffer import Transition
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task
from kilolayer.training.rollout import Policy, WorldState, start_worlds, unroll
from kilolayer.types import Array, UserError

MOST_WORLDS = 64
# Control steps of every world between two signs of life.
STEPS_AT_ONCE = 100


def worlds_for(task: Task, steps: int) -> int:
    """How many worlds play side by side: no more than there are whole episodes to play."""
    return max(1, min(MOST_WORLDS, steps // task.episode_length))


def require_states(task: Task) -> None:
    """Raises UserError if the states of the task's world cannot be recorded."""
    if isinstance(task.world, GymnasiumWorld):
        raise UserError(
            f"{task.name} is a Gymnasium environment, whose states cannot be recorded: collect "
            "from a task, or from a run on one."
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
    worlds: int,
    policy: Policy,
    steps: int,
    seed: int,
    display: ProgressDisplay,
) -> dict[str, np.ndarray]:
    """`steps` control steps of whole episodes, one after the other, in the layout of a dataset.

    physics: of `worlds` worlds. Episodes have the task's length and training goals, drawn anew for
    each. The last one is cut where the steps are complete. A world's last episode too, if one of
    its episodes ended early.
    """
    display.phase("collect")
    length = task.episode_length
    per_world = -(-steps // (worlds * length)) * length
    recorded: list[dict[str, np.ndarray]] = []
    for part in _play(task, physics, worlds, policy, per_world, seed):
        recorded.append(part)
        done = sum(len(each["age"]) for each in recorded)
        display.advance(min(done, per_world), per_world)
    played = {
        name: np.concatenate([part[name] for part in recorded])[:per_world] for name in recorded[0]
    }
    # Worlds one after the other, each from its first step to its last.
    in_order = {
        name: array.swapaxes(0, 1).reshape(-1, *array.shape[2:])[:steps]
        for name, array in played.items()
    }
    age = in_order.pop("age")
    return in_order | {"terminals": np.r_[age[1:] == 0, True]}


def _play(
    task: Task, physics: Physics, worlds: int, policy: Policy, steps: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    """Parts of `STEPS_AT_ONCE` steps, arrays `[steps, worlds, ...]`, until there are `steps`."""
    goal_key, world_key, key = jax.random.split(jax.random.key(seed), 3)

    def record(state: PhysicsState, step: Transition) -> dict[str, Array]:
        return {
            "observations": step.observation,
            "actions": step.action,
            "qpos": state.qpos,
            "qvel": state.qvel,
            "age": step.age,
        }

    @jax.jit
    def begin() -> WorldState:
        goal = task.sample_goal(goal_key, worlds, "training")
        return start_worlds(task, physics, world_key, goal, "training")

    @jax.jit
    def play(state: WorldState, key: Array) -> tuple[WorldState, dict[str, Array]]:
        length = task.episode_length
        return unroll(task, physics, state, policy, key, STEPS_AT_ONCE, length, record=record)[:2]

    state = begin()
    for index in range(-(-steps // STEPS_AT_ONCE)):
        state, part = play(state, jax.random.fold_in(key, index))
        yield jax.device_get(part)
