"""Depth diagnostics: statistics of every residual block of a trained network on real data."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.base import DeepNetwork
from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Run, read_arrays
from kilolayer.errors import UserError
from kilolayer.networks.stack import Stack
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array

# A unit is dormant if its score is at most this (arXiv 2302.12902, section 3 and figure 2).
DORMANT_THRESHOLD = 0.025


@dataclass(frozen=True)
class BlockDiagnostics:
    """One network's blocks from input to output; every array is `[blocks]`.

    residual_norm: mean Euclidean norm of the residual stream after the block. effective_rank: of
    the residual stream after the block, between 1 and the width. dormant_share: share of the
    block's units that are dormant, in 0 to 1. gradient_norm: Euclidean norm of the gradient of the
    network's own loss with respect to the block's parameters.
    """

    residual_norm: np.ndarray
    effective_rank: np.ndarray
    dormant_share: np.ndarray
    gradient_norm: np.ndarray


def block_diagnostics(run: Run) -> dict[str, BlockDiagnostics]:
    """Diagnostics of every deep network of the agent, on a batch from the replay buffer.

    Raises UserError if the run has no checkpoint or no batch yet, or if its agent has no method
    `networks`.
    """
    agent = run.agent
    networks = jax.jit(agent.networks)(run.agent_state, replay_batch(run), jax.random.key(0))
    if not networks:
        raise UserError(
            f"depth diagnostics need the networks of {run.config.agent_name}: add the method "
            "`networks`, which kilolayer.agents.base describes."
        )
    return {name: _network_diagnostics(network) for name, network in networks.items()}


def replay_batch(run: Run) -> Batch:
    """The batch from the replay buffer that training stored at its newest evaluation; raises
    UserError if there is no batch, or if the batch does not fit the run's task."""
    path, task = run.path / "episodes" / "batch.npz", task_spec(run.task)
    sizes = {
        "observation": (task.observation_dim,),
        "action": (task.action_dim,),
        "goal": (task.goal_dim,),
        "commanded_goal": (task.goal_dim,),
        "achieved_goal": (task.goal_dim,),
        "next_observation": (task.observation_dim,),
        "terminated": (),
    }
    arrays = read_arrays(path, list(sizes))
    for name, size in sizes.items():
        expected = (len(arrays["observation"]), *size)
        if arrays[name].shape != expected:
            raise UserError(
                f"{path} is not a batch of this run: {name} has the shape {arrays[name].shape}, "
                f"and should have {expected}."
            )
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path} is not a batch of this run: {name} is not finite.")
    return Batch(**{name: jnp.asarray(array) for name, array in arrays.items()})


def effective_rank(matrix: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli, EUSIPCO 2007).

    matrix `[rows, columns]`, not centred. 1 for rank one, the rank for equal singular values, 0 for
    the zero matrix.
    """
    singular = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    total = singular.sum()
    if total == 0:
        return 0.0
    share = singular[singular > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def dormant_share(activity: Sequence[np.ndarray]) -> np.ndarray:
    """Share of dormant units over all layers, `[...]`.

    activity: mean absolute activation of every unit, for each layer `[..., units]`. A unit's score
    is its activity divided by the mean of its layer (arXiv 2302.12902, definition 3.1). If a layer
    has no activity, all its units are dormant.
    """
    layers = [np.asarray(layer, np.float64) for layer in activity]
    dormant = [layer <= DORMANT_THRESHOLD * layer.mean(-1, keepdims=True) for layer in layers]
    return np.concatenate(dormant, axis=-1).mean(-1)


def _network_diagnostics(network: DeepNetwork) -> BlockDiagnostics:
    statistics = jax.jit(type(network.encoder).statistics)(network.encoder, network.inputs)
    residual = np.asarray(statistics.residual.astype(jnp.float32))
    return BlockDiagnostics(
        residual_norm=np.linalg.norm(residual, axis=-1).mean(-1),
        effective_rank=np.array([effective_rank(block) for block in residual]),
        dormant_share=dormant_share([layer.astype(jnp.float32) for layer in statistics.activity]),
        gradient_norm=np.asarray(block_norms(network.gradient.stack)),
    )


def block_norms(stack: Stack) -> Array:
    """Euclidean norm of each block's parameters (or gradients) together, `[blocks]`."""
    squares = [jnp.square(leaf).reshape(len(leaf), -1).sum(-1) for leaf in jax.tree.leaves(stack)]
    return jnp.sqrt(sum(squares))
