"""Where the time of an update goes, and what share of the machine's peak it reaches.

An update is one program, so its parts are timed apart. What they leave of the whole is the
remainder: metrics, the input and output layers, and what the parts do better or worse alone.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import Figures, Program, alternate
from benchmarks.updates import make_agent, random_batch
from kilolayer.agents.crl import CRL, CRLState
from kilolayer.agents.optimiser import apply_gradients
from kilolayer.losses.contrastive import contrastive_loss
from kilolayer.losses.energies import pairwise
from kilolayer.networks.block import Dense, ResidualBlock
from kilolayer.networks.stack import Stack
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array


@dataclass(frozen=True)
class Profile:
    """Seconds of the whole update and of its parts.

    by_phase and by_kind are two cuts through the same time. operations: of its matrix products.
    peak: operations a second of a large matrix product, the fastest repeat.
    """

    update: float
    by_phase: dict[str, float]
    by_kind: dict[str, float]
    operations: float
    peak: float


def step(agent: CRL, state: CRLState, gradients: dict[str, Any]) -> tuple[Any, Any]:
    """The optimisers alone."""
    return apply_gradients(agent.optimisers, state.parameters, gradients, state.optimiser)


def measure(depth: int, width: int, batch_size: int, peak_size: int, repeats: int) -> Profile:
    agent, batch, key = make_agent(depth, width), random_batch(batch_size), jax.random.key(2)
    state = jax.jit(agent.init)(jax.random.key(1))
    stack = state.parameters.critic.state_action.stack
    stream = jax.random.normal(key, (batch_size, width))
    encodings = jax.random.normal(key, (2, batch_size, agent.representation_dim))
    square = jax.random.normal(key, (peak_size, peak_size))
    programs = {
        "update": Program.compile(agent.update, state, batch, key),
        "forward": Program.compile(partial(losses, agent), state, batch, key),
        "optimiser": Program.compile(partial(step, agent), state, vars(state.parameters)),
        "energies": Program.compile(partial(energy_gradient, agent), encodings),
        "square": Program.compile(jnp.matmul, square, square),
    }
    for name, loss in {"stack": stack_loss, "products": products_loss}.items():
        # Three networks learn; through the fourth pass the gradient only reaches the actor.
        for suffix, arguments in {"": (0, 1), " of inputs": (1,)}.items():
            programs[name + suffix] = Program.compile(jax.grad(loss, arguments), stack, stream)
    times = alternate(list(programs.values()), repeats)
    fastest = {name: min(seconds) for name, seconds in zip(programs, times, strict=True)}
    each = {n: Figures(seconds).each for n, seconds in zip(programs, times, strict=True)}
    products, stacks = (
        3 * each[name] + each[f"{name} of inputs"] for name in ("products", "stack")
    )
    kinds = {
        "matrix products": products,
        "layer norm and Swish": stacks - products,
        "energies and loss": each["energies"],
        "optimiser": each["optimiser"],
    }
    phases = {
        "forward": each["forward"],
        "backward": each["update"] - each["forward"] - each["optimiser"],
        "optimiser": each["optimiser"],
    }
    kinds["remainder"] = each["update"] - sum(kinds.values())
    peak = 2 * peak_size**3 / fastest["square"]
    return Profile(each["update"], phases, kinds, operations(agent, batch_size), peak)


def losses(agent: CRL, state: CRLState, batch: Batch, key: Array) -> tuple[Array, Array]:
    """The update's forward passes."""
    parameters = state.parameters
    critic, (_, psi) = agent.critic_loss(parameters.critic, batch)
    actor, _ = agent.actor_loss(
        parameters.actor, parameters, batch.observation, batch.goal, psi, key
    )
    return critic, actor


def energy_gradient(agent: CRL, encodings: Array) -> Array:
    def loss(encodings: Array) -> Array:
        logits = pairwise(agent.energy, *encodings)
        return contrastive_loss(agent.contrastive_loss, logits, agent.logsumexp_penalty)[0]

    return jax.grad(loss)(encodings)


def stack_loss(stack: Stack, x: Array) -> Array:
    return jnp.square(stack(x)).sum()


def products_loss(stack: Stack, x: Array) -> Array:
    """The same stack without norms and activations."""

    def block(residual: Array, block: ResidualBlock) -> tuple[Array, None]:
        x = residual
        for layer in block.layers:
            x = layer.dense(x)
        return residual + stack.torso.branch_scale * x, None

    return jnp.square(jax.lax.scan(block, x, stack.blocks)[0]).sum()


def operations(agent: CRL, batch_size: int) -> float:
    """Multiplications and additions in the matrix products of one update, by their shapes."""
    parameters = jax.eval_shape(agent.init, jax.random.key(0)).parameters
    pair, goal = parameters.critic.state_action, parameters.critic.goal

    def kernels(part: Any) -> int:
        nodes = jax.tree.leaves(part, is_leaf=lambda node: isinstance(node, Dense))
        return sum(node.kernel.size for node in nodes if isinstance(node, Dense))

    # A network that learns: forward, its kernels' gradients, and those of all inputs but its own.
    learning = sum(
        3 * kernels(network) - kernels(network.inputs)
        for network in (pair, goal, parameters.actor.encoder)
    )
    through_critic = 2 * kernels(pair)
    energies = 3 * batch_size * agent.representation_dim
    return 2.0 * batch_size * (learning + through_critic + energies)
