"""Training states on disk, and whether they are worth keeping."""

import dataclasses
from typing import Any

import jax
import numpy as np

from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.mesh import place
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer, TrainState


def without_dataset(trainer: Trainer, state: TrainState) -> TrainState:
    """The part of a state that its checkpoint keeps: all but a dataset, which has its own file."""
    return state if trainer.dataset is None else dataclasses.replace(state, buffer=None)


def write_state(run: RunDirectory, rounds: int, state: TrainState) -> int:
    """Write the checkpoint after `rounds` of a state in host memory; returns its size in bytes, 0
    where nothing is written."""
    loop = (state.buffer, state.envs, state.key, state.unrolls)
    return checkpoint.save(run.checkpoints, rounds, state.learnt, loop) if run.writes else 0


def restore_state(
    run: RunDirectory, rounds: int, trainer: Trainer, seeds: Seeds | None = None
) -> TrainState:
    """The state of a checkpoint, on the trainer's devices, whatever devices it was saved from.

    Without its buffer where that is a dataset.
    """
    seeds = seeds or Seeds((trainer.config.seed,))
    like = without_dataset(trainer, jax.eval_shape(seeds.lift(trainer.init), seeds.array()))
    loop = (like.buffer, like.envs, like.key, like.unrolls)
    learnt = checkpoint.restore(run.checkpoints, rounds, checkpoint.AGENT, like.learnt)
    loop = checkpoint.restore(run.checkpoints, rounds, checkpoint.LOOP, loop)
    agent, average = (learnt, None) if like.average is None else (learnt.agent, learnt.average)
    state = TrainState(agent, average, *loop)
    return place(state, without_dataset(trainer, trainer.shardings))


def first_nonfinite(metrics: dict[str, float], state: TrainState) -> str | None:
    """The name of the first metric, parameter or environment tensor with a NaN or an infinity."""
    checked = (
        state.envs,
        state.agent,
    )  # a broken environment breaks the agent, so it is named first
    for (path, _), finite in zip(
        jax.tree_util.tree_flatten_with_path(checked)[0],
        np.asarray(_finite_leaves(checked)),
        strict=True,
    ):
        if not finite:
            return ("envs", "agent")[path[0].idx] + jax.tree_util.keystr(path[1:])
    return next((name for name, value in metrics.items() if not np.isfinite(value).all()), None)


@jax.jit
def _finite_leaves(tree: Any) -> jax.Array:
    """Whether each leaf is finite throughout, `[leaves]`."""
    return jax.numpy.stack([jax.numpy.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])
