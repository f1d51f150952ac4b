"""Arithmetic and memory of a run from shapes: nothing is executed and no array is created."""

import time
from typing import Any

import jax

from kilolayer.networks.arithmetic import Arithmetic, arithmetic, tree_bytes
from kilolayer.runtime.mesh import replicated
from kilolayer.training.step import Trainer


def update_arithmetic(trainer: Trainer) -> Arithmetic:
    """Arithmetic of one update, with its share of the work that a round does once for all
    updates."""
    state, updates = jax.eval_shape(trainer.init), trainer.schedule.updates_per_unroll
    per_round = arithmetic(trainer.learn, state)
    return Arithmetic(per_round.products // updates, per_round.flops // updates)


def action_arithmetic(trainer: Trainer) -> Arithmetic:
    """Arithmetic of the policy for one control step of all environments."""
    state, key = jax.eval_shape(trainer.init), jax.random.key(0)
    observation = jax.eval_shape(trainer.task.observe, state.envs.physics)

    def act(agent: Any, observation: Any, goal: Any, key: Any) -> Any:
        return trainer.agent.act(agent, observation, goal, key, False)

    return arithmetic(act, state.agent, observation, state.envs.goal, key)


def device_memory(trainer: Trainer) -> tuple[dict[str, int], float]:
    """Peak bytes on one device during a round, by kind, and the seconds to compile the round.

    Target networks and an averaged actor, if any, are counted with the optimiser. The compiled
    program reports the peak. Gradients are as large as the parameters; all other temporary memory
    of a round is counted as activations and temporaries.
    """
    state = jax.eval_shape(trainer.init)
    shardings = (trainer.shardings, replicated(trainer.mesh))
    began = time.perf_counter()
    program = jax.jit(trainer.round, out_shardings=shardings, donate_argnums=0).lower(state)
    analysis: Any = program.compile().memory_analysis()
    seconds = time.perf_counter() - began
    parameters = tree_bytes(state.agent.parameters)
    working = analysis.temp_size_in_bytes + max(
        0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    )
    gradients = min(parameters, working)
    return {
        "parameters": parameters,
        "optimiser": tree_bytes(state.agent) - parameters + tree_bytes(state.average),
        "gradients": gradients,
        "activations and temporaries": working - gradients,
        "replay buffer": tree_bytes(state.buffer),
        "environments": tree_bytes(state.envs),
    }, seconds
