"""Training states on disk, and whether they are worth keeping."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kilolayer.agents.averaging import Averaged, actor_of
from kilolayer.runtime import checkpoint
from kilolayer.runtime.mesh import fetch, place
from kilolayer.runtime.run_dir import RunDirectory
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import UserError, bad_field


def save_state(run: RunDirectory, rounds: int, state: TrainState) -> int:
    """Write the checkpoint after `rounds`; returns its size in bytes, 0 where nothing is written.

    Every process must call this.
    """
    return write_state(run, rounds, fetch(state))


def without_dataset(trainer: Trainer, state: TrainState) -> TrainState:
    """The part of a state that its checkpoint keeps: all but a dataset, which has its own file."""
    return state if trainer.dataset is None else dataclasses.replace(state, buffer=None)


def write_state(run: RunDirectory, rounds: int, state: TrainState) -> int:
    """The same for a state in host memory."""
    loop = (state.buffer, state.worlds, state.key, state.unrolls)
    return checkpoint.save(run.checkpoints, rounds, state.learnt, loop) if run.writes else 0


def restore_state(
    run: RunDirectory, rounds: int, trainer: Trainer, seeds: Seeds | None = None
) -> TrainState:
    """The state of a checkpoint, on the trainer's devices, whatever devices it was saved from.

    Without its buffer where that is a dataset.
    """
    seeds = seeds or Seeds((trainer.config.seed,))
    like = without_dataset(trainer, jax.eval_shape(seeds.lift(trainer.init), seeds.array()))
    loop = (like.buffer, like.worlds, like.key, like.unrolls)
    learnt = checkpoint.restore(run.checkpoints, rounds, checkpoint.AGENT, like.learnt)
    loop = checkpoint.restore(run.checkpoints, rounds, checkpoint.LOOP, loop)
    agent, average = (learnt, None) if like.average is None else (learnt.agent, learnt.average)
    state = TrainState(agent, average, *loop)
    return place(state, without_dataset(trainer, trainer.shardings))


def starting_point(path: Path, trainer: Trainer) -> Averaged:
    """The newest agent of another run and what its average begins as, None where none is kept.

    In host memory. Raises UserError if there is none, or its networks are not the trainer's.
    """
    source = RunDirectory.open(path)
    newest = checkpoint.latest(source.checkpoints)
    if newest is None:
        raise bad_field("start_from", str(path), "it has no checkpoint yet")
    like = jax.eval_shape(trainer.agent.init, jax.random.key(0))
    averages = source.config.average_decay > 0
    kept = Averaged(like, actor_of(like)) if averages else like
    try:
        learnt = checkpoint.restore(source.checkpoints, newest, checkpoint.AGENT, kept)
    except UserError as error:
        allowed = f"task, agent and sizes of its networks must be those of this run ({error})"
        raise bad_field("start_from", str(path), allowed) from error
    agent, average = (learnt.agent, learnt.average) if averages else (learnt, None)
    agent = _at_full_rate(agent)
    if trainer.config.average_decay == 0:
        return Averaged(agent, None)
    return Averaged(agent, actor_of(agent) if average is None else average)


def _at_full_rate(agent: Any) -> Any:
    """The agent with its learning rates, if they fall, where they begin; all else as it was."""

    def begun(part: Any) -> Any:
        falls = isinstance(part, optax.ScaleByScheduleState)
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)) if falls else part

    return jax.tree.map(
        begun, agent, is_leaf=lambda part: isinstance(part, optax.ScaleByScheduleState)
    )


def started_from(start: Averaged, state: TrainState, trainer: Trainer, seeds: Seeds) -> TrainState:
    """A state before the first step that begins with a `starting_point`, the same for all seeds."""
    agent, average = (
        place(seeds.stack([tree] * len(seeds.values)), shardings)
        for tree, shardings in (
            (start.agent, trainer.shardings.agent),
            (start.average, trainer.shardings.average),
        )
    )
    return dataclasses.replace(state, agent=agent, average=average)


def first_nonfinite(metrics: dict[str, float], state: TrainState) -> str | None:
    """The name of the first metric, parameter or world tensor with a NaN or an infinity."""
    checked = (state.worlds, state.agent)  # a broken world breaks the agent, so it is named first
    for (path, _), finite in zip(
        jax.tree_util.tree_flatten_with_path(checked)[0],
        np.asarray(_finite_leaves(checked)),
        strict=True,
    ):
        if not finite:
            return ("worlds", "agent")[path[0].idx] + jax.tree_util.keystr(path[1:])
    return next((name for name, value in metrics.items() if not np.isfinite(value).all()), None)


@jax.jit
def _finite_leaves(tree: Any) -> jax.Array:
    """Whether each leaf is finite throughout, `[leaves]`."""
    return jax.numpy.stack([jax.numpy.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])
