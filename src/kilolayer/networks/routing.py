"""Which expert a row goes to, and its position among the rows of that expert.

A router rates the experts for every row, logits `[rows, experts]`. Each row has `k` choices. The
rows of one expert are gathered in blocks, so that all experts run as one batched product.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.types import Array


class Choice(eqx.Module):
    """The choices of `rows` rows, `[rows, k]` each.

    expert: its number. gate: its weight. The gates of a row sum to one over the choices that were
    placed; they are zero if none was. position: among the rows of that expert. placed: whether the
    expert had capacity. rerouted: whether this is not one of the `k` experts rated highest.
    """

    expert: Array
    gate: Array
    position: Array
    placed: Array
    rerouted: Array


class Blocks(eqx.Module):
    """Blocks with the same number of slots. Each block belongs to one expert.

    slot `[rows, k]`: the slot of each choice, or one past the last slot. expert `[blocks]`: the
    expert of each block; None if every expert has one block, in order. size: slots of a block.
    """

    slot: Array
    expert: Array | None
    number: int = eqx.field(static=True)
    size: int = eqx.field(static=True)


def choose(logits: Array, k: int) -> Choice:
    """The `k` experts rated highest. Each has capacity for all rows, so rows are independent."""
    chosen, expert = jax.lax.top_k(logits, k)
    placed = jnp.ones(expert.shape, bool)
    position = _rank(expert.reshape(-1), logits.shape[-1]).reshape(expert.shape)
    return Choice(expert, jax.nn.softmax(chosen, -1), position, placed, ~placed)


def choose_within(logits: Array, k: int, capacity: int) -> Choice:
    """Like `choose`, with a capacity of `capacity` rows per expert.

    All first choices are placed, then all second choices, and so on. A row whose choice is full
    tries its next choice, through all experts if necessary; a choice that finds no free expert is
    not placed. Among rows with the same choice, the earlier row in the batch is placed first.
    """
    rows, experts = logits.shape
    order = jnp.argsort(-logits, axis=-1)

    def assign(carry: tuple[Array, Array], expert: Array) -> tuple[tuple, tuple]:
        load, num_assigned = carry
        requests = jax.nn.one_hot(expert, experts, dtype=jnp.int32) * (num_assigned < k)[:, None]
        before = jnp.take_along_axis(jnp.cumsum(requests, 0) - requests, expert[:, None], 1)[:, 0]
        position = load[expert] + before
        fits = (num_assigned < k) & (position < capacity)
        load = jnp.minimum(load + requests.sum(0), capacity)
        return (load, num_assigned + fits), (position, fits)

    initial = jnp.zeros(experts, jnp.int32), jnp.zeros(rows, jnp.int32)
    _, (position, fits) = jax.lax.scan(assign, initial, order.T)
    # For each row: the ranks that were placed, then those that were not, `k` in total.
    rank = jnp.argsort(~fits.T, axis=-1, stable=True)[:, :k]
    expert, position, placed = (
        jnp.take_along_axis(each, rank, 1) for each in (order, position.T, fits.T)
    )
    chosen = jnp.take_along_axis(logits, expert, 1)
    highest = jnp.max(jnp.where(placed, chosen, -jnp.inf), -1, keepdims=True)
    weight = jnp.where(placed, jnp.exp(jnp.where(placed, chosen - highest, 0.0)), 0.0)
    gate = weight / jnp.maximum(weight.sum(-1, keepdims=True), jnp.finfo(weight.dtype).tiny)
    return Choice(expert, gate, position, placed, placed & (rank >= k))


def buffers(choice: Choice, experts: int, capacity: int) -> Blocks:
    """One block of `capacity` slots for each expert."""
    slot = choice.expert * capacity + choice.position
    slot = jnp.where(choice.placed, slot, experts * capacity)
    return Blocks(slot, None, experts, capacity)


def groups(choice: Choice, experts: int, size: int) -> Blocks:
    """As many blocks of `size` slots for each expert as its rows need; no row is left out.

    The number of blocks is the largest that can occur; with one slot each, that of the choices.
    """
    count = jnp.zeros(experts, jnp.int32).at[choice.expert.reshape(-1)].add(1)
    end = jnp.cumsum(-(-count // size))
    first = end - -(-count // size)
    choices = choice.expert.size
    blocks = (choices + min(experts, choices) * (size - 1)) // size
    owner = jnp.searchsorted(end, jnp.arange(blocks), side="right")
    slot = first[choice.expert] * size + choice.position
    return Blocks(slot, jnp.minimum(owner, experts - 1), blocks, size)


def balance_loss(logits: Array, k: int) -> Array:
    """The load-balancing loss: 1 if all experts are used equally, `experts` in the worst case.

    `experts * sum_i f_i P_i`, where f_i is the share of the `k` highest choices that go to expert i
    and P_i is its mean probability. Source: arXiv 2101.03961, equation 4, which has one choice per
    row.
    """
    experts = logits.shape[-1]
    expert = jax.lax.top_k(logits, k)[1]
    share = jax.nn.one_hot(expert, experts).mean((0, 1))
    return experts * jnp.sum(share * jax.nn.softmax(logits, -1).mean(0))


def z_loss(logits: Array) -> Array:
    """Mean squared logarithm of the router's normaliser; it keeps logits small.

    Source: arXiv 2202.08906, equation 5.
    """
    return jnp.square(jax.nn.logsumexp(logits, -1)).mean()


def _rank(expert: Array, experts: int) -> Array:
    """How many earlier choices went to the same expert, `[choices]`."""
    chosen = jax.nn.one_hot(expert, experts, dtype=jnp.int32)
    return jnp.take_along_axis(jnp.cumsum(chosen, 0) - chosen, expert[:, None], 1)[:, 0]
