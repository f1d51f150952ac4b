"""Training states on disk, and the check for values that are not finite."""

import dataclasses
from typing import Any

import jax
import numpy as np

from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.mesh import put_on_devices
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer, TrainState


def without_dataset(trainer: Trainer, state: TrainState) -> TrainState:
    """The state as a checkpoint stores it: without the dataset, which has its own file."""
    return state if trainer.dataset is None else dataclasses.replace(state, buffer=None)


def write_state(run: RunDirectory, rounds: int, state: TrainState) -> int:
    """Write the checkpoint of a state in host memory after `rounds`; returns its size in bytes, 0
    if this process does not write."""
    loop = (state.buffer, state.envs, state.key, state.unrolls)
    return checkpoint.save(run.checkpoints, rounds, state.checkpointed, loop) if run.writes else 0


def restore_state(
    run: RunDirectory, rounds: int, trainer: Trainer, seeds: Seeds | None = None
) -> TrainState:
    """The state of a checkpoint on the trainer's devices, which may differ from the saving devices.

    The state has no buffer if the run learns from a dataset.
    """
    seeds = seeds or Seeds((trainer.config.seed,))
    like = without_dataset(trainer, jax.eval_shape(seeds.vmap(trainer.init), seeds.array()))
    loop = (like.buffer, like.envs, like.key, like.unrolls)
    found = run.restore_agent(rounds, like.agent, like.average is not None)
    loop = checkpoint.restore(run.checkpoints, rounds, checkpoint.LOOP, loop)
    state = TrainState(found.agent, found.average, *loop)
    return put_on_devices(state, without_dataset(trainer, trainer.shardings))


def first_nonfinite(metrics: dict[str, float], state: TrainState) -> str | None:
    """The name of the first metric, parameter or environment tensor with a NaN or an infinity."""
    # A diverged environment makes the agent diverge, so environments are named first.
    checked = (state.envs, state.agent)
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
