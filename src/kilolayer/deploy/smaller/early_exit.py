"""Early exit: a policy that computes no more blocks than its action needs."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.networks.actor import Actor
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.types import Array, UserError, bad_field


class Exit(eqx.Module):
    """What was done and after how many blocks: action `[batch, action]`, blocks `[batch]`."""

    action: Array
    blocks: Array


@dataclass(frozen=True)
class EarlyExit:
    """An agent that stops at the first block after which its action has settled.

    After every block the output layer reads the residual stream. An action has settled when none of
    its coordinates, in [-1, 1], has moved by `tolerance` over the last block, and that `patience`
    blocks in a row; before the first block it is what the embedded input gives. The agent's state
    is the actor.
    """

    tolerance: float = 0.01
    patience: int = 1

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise bad_field("tolerance", self.tolerance, "it must be 0 or more", 0)
        if self.patience < 1:
            raise bad_field("patience", self.patience, "it must be at least 1", 1)

    def act(
        self, state: Actor, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        if not deterministic:
            raise UserError("early exit has a deterministic action alone: use 1 sample.")
        return self.run(state, observation, goal).action

    def run(self, actor: Actor, observation: Array, goal: Array) -> Exit:
        """Act on `[batch, observation]` and `[batch, goal]`, until the last row has settled.

        A row's action is what it was when the row settled, whatever the others of its batch need.
        """
        encoder = actor.encoder
        x = encoder.embed(jnp.concatenate([observation, goal], -1))

        def unsettled(carry: tuple) -> Array:
            index, _, _, quiet, _ = carry
            return (index < encoder.stack.num_blocks) & jnp.any(quiet < self.patience)

        def next_block(carry: tuple) -> tuple:
            index, x, action, quiet, blocks = carry
            x = encoder.stack.apply_block(index, x)
            new = _action(actor, x)
            active = quiet < self.patience
            still = jnp.abs(new - action).max(-1) < self.tolerance
            quiet = jnp.where(active, jnp.where(still, quiet + 1, 0), quiet)
            action = jnp.where(active[:, None], new, action)
            return index + 1, x, action, quiet, blocks + active

        zeros = jnp.zeros(x.shape[0], jnp.int32)
        carry = (jnp.int32(0), x, _action(actor, x), zeros, zeros)
        _, _, action, _, blocks = jax.lax.while_loop(unsettled, next_block, carry)
        return Exit(action, blocks)

    def rate(self, state: Actor, observation: Array, action: Array, goal: Array) -> Array:
        raise UserError("early exit has no critic to choose among actions: use 1 sample.")


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of the parts of an actor, for one observation."""

    embedding: int
    block: int
    output: int

    @staticmethod
    def of(actor: Actor) -> "Operations":
        encoder = actor.encoder
        stream = jax.ShapeDtypeStruct((1, encoder.inputs.dense.kernel.shape[1]), jnp.float32)
        inputs = jax.ShapeDtypeStruct((1, encoder.inputs.dense.kernel.shape[0]), jnp.float32)
        return Operations(
            arithmetic(encoder.embed, inputs).flops,
            arithmetic(lambda x: encoder.stack.apply_block(0, x), stream).flops,
            arithmetic(encoder.outputs, stream).flops,
        )

    def whole(self, blocks: float) -> float:
        """Of the policy that computes so many blocks and then its output."""
        return self.embedding + blocks * self.block + self.output

    def exiting(self, blocks: np.ndarray) -> float:
        """Mean of policies that leave after these numbers of blocks, one each at batch 1.

        The output layer runs once before the first block and once after each.
        """
        return self.embedding + float(np.mean(blocks)) * (self.block + self.output) + self.output

    def exiting_together(self, blocks: np.ndarray) -> float:
        """Per row, of one batch of such policies: all rows go on until the last has settled."""
        return self.exiting(np.max(blocks))


def _action(actor: Actor, x: Array) -> Array:
    """What the output layer makes of a residual stream `[batch, width]`."""
    return jnp.tanh(jnp.split(actor.encoder.outputs(x), 2, -1)[0])
