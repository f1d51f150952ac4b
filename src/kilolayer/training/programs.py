"""The jitted functions of a run. The next run of the same process can use them again."""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import jax
from jax.sharding import Mesh

from kilolayer.config import CheckpointConfig, RunConfig
from kilolayer.runtime.mesh import replicated
from kilolayer.runtime.tracking import TrackingConfig
from kilolayer.training.build import sharded_physics
from kilolayer.training.evaluate import Evaluator
from kilolayer.training.profile import timed_parts
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer


@dataclass(frozen=True)
class Programs:
    """The jitted functions of a run. Equal values trace and compile to the same programs.

    config: of the run, with defaults in the fields that no program depends on. several: whether
    they are vmapped over seeds.
    """

    config: RunConfig
    mesh: Mesh
    several: bool
    trainer: Trainer = field(compare=False)
    seeds: Seeds = field(compare=False)

    @cached_property
    def init(self) -> Any:
        """seeds -> state before the first step."""
        vmapped = self.seeds.vmap(self.trainer.init)
        return jax.jit(vmapped, out_shardings=self.trainer.shardings)

    @cached_property
    def collect(self) -> Any:
        """state -> state, metrics: an unroll without updates; the memory of the state is reused."""
        return self._on_state(self.trainer.collect)

    @cached_property
    def train_round(self) -> Any:
        """state -> state, metrics: an unroll and its updates; the memory of the state is reused."""
        return self._on_state(self.trainer.round)

    @cached_property
    def evaluate(self) -> Any:
        """evaluated state, keys, starts -> episodes."""
        trainer, config = self.trainer, self.config
        evaluator = Evaluator(
            trainer.task,
            sharded_physics(self.mesh, trainer.task.world, config, config.evaluation.eval_envs),
            trainer.agent,
            trainer.task.episode_length,
            config.evaluation.samples,
        )
        return jax.jit(self.seeds.vmap(evaluator.run), out_shardings=replicated(self.mesh))

    @cached_property
    def sample(self) -> Any:
        """state, keys -> one batch, for the report's diagnostics."""
        return jax.jit(self.seeds.vmap(self.trainer.sample), out_shardings=replicated(self.mesh))

    @cached_property
    def timed_parts(self) -> dict[str, Any]:
        """The parts of a round that are timed apart, of one seed."""
        return timed_parts(self.trainer)

    def _on_state(self, function: Any) -> Any:
        out_shardings = self.trainer.shardings, replicated(self.mesh)
        return jax.jit(self.seeds.vmap(function), out_shardings=out_shardings, donate_argnums=0)


def programs_of(trainer: Trainer, seeds: Seeds) -> Programs:
    """The programs of a recent run of this process if they are the same, else new ones.

    A run on the user's own task, agent or data set always gets new ones: the code or the data may
    have changed, and the environments of Gymnasium have a state of their own.
    """
    config, task = trainer.config, trainer.config.task
    own = task.mjcf or task.gym or ":" in task.task or ":" in config.agent_name
    config = config.having(
        seed=0,
        start_from=None,
        num_evaluations=1,
        evaluate_training_goals=False,
        checkpoints=CheckpointConfig(),
        tracking=TrackingConfig(),
    )
    programs = Programs(config, trainer.mesh, seeds.several, trainer, seeds)
    return programs if own or trainer.dataset is not None else _cached(programs)


@lru_cache(maxsize=4)  # few: programs take memory, and so do the environments that they step
def _cached(programs: Programs) -> Programs:
    return programs
