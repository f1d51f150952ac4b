"""Influence of each block of a policy, measured on states that the policy visits."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.losses.distillation import gaussian_divergence
from kilolayer.networks.actor import Actor
from kilolayer.networks.surgery import select_blocks
from kilolayer.physics.build import build_physics
from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from kilolayer.training.rollout import reset, unroll
from kilolayer.types import Array

ENVS = 32
# Half of the states have the commanded goal, the other half a hindsight goal.
HINDSIGHT_SHARE = 0.5
# Folded into the seed, so that starts and goals differ from those that score the curve.
VISITED_STREAM = 0x715


class Visited(NamedTuple):
    """Visited states, observation `[states, observation]`, and their goals `[states, goal]`."""

    observation: Array
    goal: Array


class Influence(NamedTuple):
    """Three measures of each block, `[blocks]`; a block with a small value can be pruned.

    cosine: 1 - cosine between the residual stream before and after the block, in 0 to 2 (the block
    influence of arXiv 2403.03853, equation 1). norm: norm of the block's contribution divided by
    the norm of its input stream. divergence: KL(policy || policy without the block), in nats. All
    are means over states.
    """

    cosine: np.ndarray
    norm: np.ndarray
    divergence: np.ndarray


def visited_states(policy: DeployedPolicy, count: int, seed: int) -> Visited:
    """`count` states of evaluation episodes that the policy plays with sampled actions."""
    task, config = policy.task, policy.config
    length = task.episode_length
    physics = build_physics(task.world, ENVS, config.physics)
    key = jax.random.fold_in(jax.random.key(seed), VISITED_STREAM)
    goal_key, env_key, play_key, draw_key, goals_key = jax.random.split(key, 5)

    @jax.jit
    def play(actor: Actor) -> Visited:
        def act(observation: Array, goal: Array, key: Array) -> Array:
            return policy.agent.act(actor, observation, goal, key, deterministic=False)

        goal = task.sample_goal(goal_key, ENVS, "evaluation")
        envs = reset(task, physics, env_key, goal, "evaluation")
        _, steps, _ = unroll(task, physics, envs, act, play_key, length, length)
        empty = ring.init(length, ENVS, len(task.observation), task.action_dim, task.goal.dim)
        batch = hindsight.sample(
            ring.insert(empty, steps), draw_key, count, config.agent.horizon_discount(1.0), length
        )
        return Visited(batch.observation, batch.mixed_goals(HINDSIGHT_SHARE, goals_key))

    return play(policy.agent_state)


def block_influence(actor: Actor, visited: Visited) -> Influence:
    """Measure every block of an actor with at least two blocks."""
    cosine, norm = (np.asarray(each) for each in jax.jit(_stream_changes)(actor, visited))
    return Influence(cosine, norm, divergences(actor, visited, without_each(range(len(cosine)))))


def _stream_changes(actor: Actor, visited: Visited) -> tuple[Array, Array]:
    inputs = jnp.concatenate([visited.observation, visited.goal], -1)
    first = actor.encoder.embed(inputs)
    after = actor.encoder.statistics(inputs).residual
    before = jnp.concatenate([first[None], after[:-1]])
    lengths = jnp.linalg.norm(before, axis=-1), jnp.linalg.norm(after, axis=-1)
    # The residual stream may be zero in a network without norms.
    cosine = (before * after).sum(-1) / jnp.maximum(lengths[0] * lengths[1], 1e-12)
    change = jnp.linalg.norm(after - before, axis=-1) / jnp.maximum(lengths[0], 1e-12)
    return 1 - cosine.mean(-1), change.mean(-1)


def divergences(actor: Actor, visited: Visited, kept: Sequence[Sequence[int]]) -> np.ndarray:
    """KL(policy || policy with these blocks) in nats, for each choice of blocks, `[choices]`.

    kept: choices with equally many blocks, at least one.
    """
    return np.asarray(_divergences(actor, visited, np.asarray(kept, np.int32)))


@jax.jit
def _divergences(actor: Actor, visited: Visited, choices: Array) -> Array:
    unpruned = actor(*visited)
    return jax.lax.map(
        lambda keep: gaussian_divergence(unpruned, select_blocks(actor, keep)(*visited)).mean(),
        choices,
    )


def without_each(kept: Sequence[int]) -> list[list[int]]:
    """For each block in `kept`, the choice without it, in the order of `kept`."""
    kept = list(kept)
    return [kept[:index] + kept[index + 1 :] for index in range(len(kept))]


def one_shot(influence: np.ndarray) -> list[list[int]]:
    """The blocks to keep, from all to one. The block with the least influence is removed first.

    influence: `[blocks]`.
    """
    order = np.argsort(influence, kind="stable")
    return [sorted(order[removed:].tolist()) for removed in range(len(order))]


def greedy(actor: Actor, visited: Visited, advance: Callable[[int, int], None]) -> list[list[int]]:
    """The blocks to keep, from all to one.

    Each step removes the block without which the policy diverges least from the unpruned policy,
    measured again after every removal.
    """
    kept = list(range(actor.encoder.stack.num_blocks))
    chosen, steps = [kept], len(kept) - 1
    for done in range(steps):
        choices = without_each(kept)
        kept = choices[int(np.argmin(divergences(actor, visited, choices)))]
        chosen.append(kept)
        advance(done + 1, steps)
    return chosen
