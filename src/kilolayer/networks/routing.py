"""Which expert a row goes to, and where it lies among the rows of that expert.

A router rates the experts for every row, logits `[rows, experts]`. Each row has `k` choices. Rows
of one expert are brought together in blocks, so that experts run as one batched product.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.types import Array


class Choice(eqx.Module):
    """What `rows` rows have chosen, `[rows, k]` each.

    expert: by number. gate: its weight; the gates of a row sum to one over those of its choices
    that got a place, and are zero where none did. position: among the rows of that expert. placed:
    whether there was room. rerouted: whether this is not one of the `k` experts rated highest.
    """

    expert: Array
    gate: Array
    position: Array
    placed: Array
    rerouted: Array


class Blocks(eqx.Module):
    """Blocks of equally many slots, each block of one expert.

    slot `[rows, k]`: where each choice lies, or one past the last slot. expert `[blocks]`: whose
    block it is; None where every expert has one, in their order. size: slots of a block.
    """

    slot: Array
    expert: Array | None
    number: int = eqx.field(static=True)
    size: int = eqx.field(static=True)


def choose(logits: Array, k: int) -> Choice:
    """The `k` experts rated highest, each with room for all: no row depends on another."""
    chosen, expert = jax.lax.top_k(logits, k)
    placed = jnp.ones(expert.shape, bool)
    position = _rank(expert.reshape(-1), logits.shape[-1]).reshape(expert.shape)
    return Choice(expert, jax.nn.softmax(chosen, -1), position, placed, ~placed)


def choose_within(logits: Array, k: int, capacity: int) -> Choice:
    """The same with room for `capacity` rows at each expert.

    All rows' first choices are seated, then all second choices, and so on. A row that finds its
    choice full goes on to its next one, through all experts if need be; what finds room nowhere is
    not placed. Of rows with the same wish the earlier in the batch is seated.
    """
    rows, experts = logits.shape
    order = jnp.argsort(-logits, axis=-1)

    def seat(carry: tuple[Array, Array], expert: Array) -> tuple[tuple, tuple]:
        load, seated = carry
        wants = jax.nn.one_hot(expert, experts, dtype=jnp.int32) * (seated < k)[:, None]
        before = jnp.take_along_axis(jnp.cumsum(wants, 0) - wants, expert[:, None], 1)[:, 0]
        position = load[expert] + before
        fits = (seated < k) & (position < capacity)
        load = jnp.minimum(load + wants.sum(0), capacity)
        return (load, seated + fits), (position, fits)

    start = jnp.zeros(experts, jnp.int32), jnp.zeros(rows, jnp.int32)
    _, (position, fits) = jax.lax.scan(seat, start, order.T)
    # Of each row's ranks those that were placed, then those that were not, `k` in all.
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
    """One block for each expert, with room for `capacity` rows."""
    slot = choice.expert * capacity + choice.position
    slot = jnp.where(choice.placed, slot, experts * capacity)
    return Blocks(slot, None, experts, capacity)


def groups(choice: Choice, experts: int, size: int) -> Blocks:
    """As many blocks of `size` slots for each expert as its rows need, and no row left out.

    The number of blocks is the most that there can be. With one slot a block there are exactly as
    many as choices.
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
    """The load-balancing loss, 1 where all experts are used alike and `experts` at the worst.

    `experts * sum_i f_i P_i` with f_i the share of the `k` highest choices that fall on expert i
    and P_i its mean probability. Source: arXiv 2101.03961, equation 4, there for one choice.
    """
    experts = logits.shape[-1]
    expert = jax.lax.top_k(logits, k)[1]
    share = jax.nn.one_hot(expert, experts).mean((0, 1))
    return experts * jnp.sum(share * jax.nn.softmax(logits, -1).mean(0))


def z_loss(logits: Array) -> Array:
    """Mean squared logarithm of the router's normaliser, which keeps logits small.

    Source: arXiv 2202.08906, equation 5.
    """
    return jnp.square(jax.nn.logsumexp(logits, -1)).mean()


def _rank(expert: Array, experts: int) -> Array:
    """How many before it chose the same expert, `[choices]`."""
    chosen = jax.nn.one_hot(expert, experts, dtype=jnp.int32)
    return jnp.take_along_axis(jnp.cumsum(chosen, 0) - chosen, expert[:, None], 1)[:, 0]
