"""What a run computes and holds, from shapes alone: nothing is run and no array is made."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from kilolayer.networks.encoders import Encoder
from kilolayer.runtime.mesh import whole
from kilolayer.training.step import Trainer


@dataclass(frozen=True)
class Arithmetic:
    """The matrix products of a program.

    products: how many. flops: their floating-point operations, two for each factor pair. All else
    that a network computes grows with batch times width alone and is a few percent of them.
    """

    products: int = 0
    flops: int = 0

    def __add__(self, other: "Arithmetic") -> "Arithmetic":
        return Arithmetic(self.products + other.products, self.flops + other.flops)

    def __mul__(self, times: int) -> "Arithmetic":
        return Arithmetic(self.products * times, self.flops * times)


def arithmetic(function: Callable, *arguments: Any) -> Arithmetic:
    """Count what `function` computes for arguments of these shapes.

    It is traced, so every agent and rematerialisation is counted as it stands. A loop without a
    known number of iterations counts once, a branch as its most expensive side.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> Arithmetic:
    total = Arithmetic()
    for equation in jaxpr.eqns:
        inner = [_count(each) for each in _inner(equation.params)]
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            output: Any = equation.outvars[0].aval
            length = math.prod(left.shape[axis] for axis in contracted)
            total += Arithmetic(1, 2 * math.prod(output.shape) * length)
        elif name == "cond":
            total += max(inner, key=lambda each: each.flops)
        else:
            total += sum(inner, Arithmetic()) * equation.params.get("length", 1)
    return total


def _inner(parameters: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs within a step of a program: bodies of loops, branches, functions called."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each


def update_arithmetic(trainer: Trainer) -> Arithmetic:
    """What one update computes, with its share of what a round computes for all its updates."""
    state, updates = jax.eval_shape(trainer.init), trainer.plan.updates_per_unroll
    of_a_round = arithmetic(trainer.learn, state)
    return Arithmetic(of_a_round.products // updates, of_a_round.flops // updates)


def action_arithmetic(trainer: Trainer) -> Arithmetic:
    """What the policy computes for one control step of all worlds."""
    state, key = jax.eval_shape(trainer.init), jax.random.key(0)
    observation = jax.eval_shape(trainer.task.observe, state.worlds.physics)

    def act(agent: Any, observation: Any, goal: Any, key: Any) -> Any:
        return trainer.agent.act(agent, observation, goal, key, False)

    return arithmetic(act, state.agent, observation, state.worlds.goal, key)


def parameters_of(agent_state: Any) -> dict[str, int]:
    """Numbers in each network of an agent's state, and in each parameter outside of them."""
    parameters = getattr(agent_state, "parameters", agent_state)
    parts = jax.tree_util.tree_flatten_with_path(
        parameters, is_leaf=lambda part: isinstance(part, Encoder)
    )[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator=" "): sum(
            math.prod(leaf.shape) for leaf in jax.tree.leaves(part)
        )
        for path, part in parts
    }


def bytes_of(tree: Any) -> int:
    """Size of a tree's arrays, or of those that its shapes stand for."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def device_memory(trainer: Trainer) -> tuple[dict[str, int], float]:
    """Bytes by kind that one device holds at the peak of a round, and the seconds to compile it.

    Target networks, where the agent has them, are counted with the optimiser. The peak is the
    compiled program's own account. Gradients are as large as the parameters; what
    else the program needs for the time of a round are activations and smaller temporaries.
    """
    state = jax.eval_shape(trainer.init)
    shardings = (trainer.shardings, whole(trainer.mesh))
    began = time.perf_counter()
    program = jax.jit(trainer.round, out_shardings=shardings, donate_argnums=0).lower(state)
    account: Any = program.compile().memory_analysis()
    seconds = time.perf_counter() - began
    parameters = bytes_of(getattr(state.agent, "parameters", state.agent))
    working = account.temp_size_in_bytes + max(
        0, account.output_size_in_bytes - account.alias_size_in_bytes
    )
    gradients = min(parameters, working)
    return {
        "parameters": parameters,
        "optimiser": bytes_of(state.agent) - parameters,
        "gradients": gradients,
        "activations and temporaries": working - gradients,
        "replay buffer": bytes_of(state.buffer),
        "worlds": bytes_of(state.worlds),
    }, seconds
