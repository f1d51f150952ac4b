"""Ants a second: physics alone, with the policy in the loop, and with the updates of training.

Each has a yardstick: environments stepped one after the other; a call from Python for every control
step; that, a `[time, time]` matrix to draw goals, and an update that loops over layers.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.engines import bare_play, random_controls, starts
from benchmarks.measure import Figures, Row, alternate
from benchmarks.yardsticks import EnvByEnv, UnrolledUpdate, hindsight_of_trajectories
from kilolayer.config import RunConfig
from kilolayer.replay.buffer import Buffer
from kilolayer.replay.hindsight import Batch
from kilolayer.training.build import build_trainer
from kilolayer.training.programs import profile_round, programs_of
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer, TrainState
from kilolayer.types import Array


def measure(config: RunConfig, repeats: int) -> tuple[list[Row], dict[str, float]]:
    """Rows per environment step, and seconds per round of each part of a round."""
    trainer = build_trainer(config)
    collect = Advancing(lambda state: trainer.collect(state)[0], jax.jit(trainer.init)())
    for _ in range(trainer.schedule.prefill_unrolls):
        collect()
    straightforward = StraightforwardRound(trainer, copy(collect.state))
    train_round = Advancing(lambda state: trainer.round(state)[0], copy(collect.state))
    pairs = {
        "physics": (bare_play(*sizes(trainer), os.cpu_count() or 1), env_by_env(trainer)),
        "rollout": (collect, straightforward.rollout),
        "round": (train_round, straightforward),
    }
    steps, rows = trainer.schedule.steps_per_unroll, []
    for name, pair in pairs.items():
        figures = [Figures(seconds, steps) for seconds in alternate(pair, repeats)]
        rows.append(Row(name, config.collection.num_envs, *figures))
    programs = programs_of(trainer, Seeds((config.seed,)))
    parts = profile_round(programs.timed_parts, train_round.state, rows[-1].ours.each * steps)
    return rows, parts


def sizes(trainer: Trainer) -> tuple:
    return trainer.task, trainer.config.collection.num_envs, trainer.config.collection.unroll_length


def env_by_env(trainer: Trainer) -> Callable[[], None]:
    task, envs, steps = sizes(trainer)
    controls = random_controls(task.world, envs, steps)
    qpos, qvel = map(np.asarray, starts(task, envs))

    def play() -> None:
        stepped = EnvByEnv(task.world, qpos, qvel)
        for control in controls:
            stepped.step(control)

    return play


def copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


class Advancing:
    """A state that every call moves on in place."""

    def __init__(self, function: Callable[[TrainState], TrainState], state: TrainState):
        self.function = jax.jit(function, donate_argnums=0).lower(state).compile()
        self.state = state

    def __call__(self) -> None:
        self.state = jax.block_until_ready(self.function(self.state))


class StraightforwardRound:
    """A round of training from the yardsticks, each a call of its own from Python.

    Its updates do not reach the policy that acts; that changes nothing of the time.
    """

    def __init__(self, trainer: Trainer, state: TrainState):
        config, self.schedule = trainer.config, trainer.schedule
        self.steps, self.batch_size = config.collection.unroll_length, config.agent.batch_size
        one_step = build_trainer(config.having(unroll_length=1, update_to_data=1.0))
        self.collect = Advancing(lambda state: one_step.collect(state)[0], state)
        update = UnrolledUpdate(trainer.agent)
        self.learner = copy(update.init(state.agent))  # the state itself is given away
        self.update = jax.jit(update, donate_argnums=0)
        self.sample = jax.jit(partial(self.shuffled, trainer.agent.horizon_discount(1.0)))
        self.key = jax.random.key(0)

    def rollout(self) -> None:
        for _ in range(self.steps):
            self.collect()

    def __call__(self) -> None:
        self.rollout()
        batches = self.batches()
        for _ in range(self.schedule.updates_per_unroll):
            self.key, key = jax.random.split(self.key)
            self.learner, losses = self.update(self.learner, next(batches), key)
        jax.block_until_ready(losses)

    def batches(self) -> Iterator[Batch]:
        while True:
            self.key, key = jax.random.split(self.key)
            yield from self.sample(self.collect.state.buffer, key)

    def shuffled(self, discount: float, buffer: Buffer, key: Array) -> list[Batch]:
        """All transitions of some trajectories, shuffled and cut into batches."""
        length = min(self.schedule.episode_length, self.schedule.replay_capacity)
        trajectories = -(-self.batch_size // length)
        sample_key, order_key = jax.random.split(key)
        drawn = hindsight_of_trajectories(buffer, sample_key, trajectories, length, discount)
        order = jax.random.permutation(order_key, trajectories * length)
        return [
            jax.tree.map(lambda leaf, i=i: leaf[order[i : i + self.batch_size]], drawn)
            for i in range(0, len(order) - self.batch_size + 1, self.batch_size)
        ]
