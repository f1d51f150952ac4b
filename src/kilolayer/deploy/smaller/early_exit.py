"""Early exit: a policy stops computing blocks once its action no longer changes."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.errors import UserError
from kilolayer.networks.actor import Actor
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.settings import Count, NonNegative, Settings
from kilolayer.types import Array


class Exit(eqx.Module):
    """action `[batch, action]`; blocks `[batch]`: number of blocks computed for each row."""

    action: Array
    blocks: Array


@dataclass(frozen=True)
class EarlyExit(Settings):
    """An agent that stops at the first block after which its action has settled.

    After every block, the output layer reads the residual stream. An action has settled when each
    coordinate, in [-1, 1], changed by less than `tolerance` over each of the last `patience`
    blocks. The action before the first block comes from the embedded input. The agent's state is
    the actor.
    """

    tolerance: NonNegative = 0.01
    patience: Count = 1

    def act(
        self, state: Actor, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        if not deterministic:
            raise UserError("early exit gives only a deterministic action: use 1 sample.")
        return self.run(state, observation, goal).action

    def run(self, actor: Actor, observation: Array, goal: Array) -> Exit:
        """Act on `[batch, observation]` and `[batch, goal]` until the last row has settled.

        A row keeps the action with which it settled while the other rows continue.
        """
        encoder = actor.encoder
        x = encoder.embed(jnp.concatenate([observation, goal], -1))

        def any_active(carry: tuple) -> Array:
            index, _, _, stable_blocks, _ = carry
            return (index < encoder.stack.num_blocks) & jnp.any(stable_blocks < self.patience)

        def next_block(carry: tuple) -> tuple:
            index, x, action, stable_blocks, blocks = carry
            x = encoder.stack.apply_block(index, x)
            new = _action(actor, x)
            active = stable_blocks < self.patience
            stable = jnp.abs(new - action).max(-1) < self.tolerance
            stable_blocks = jnp.where(
                active, jnp.where(stable, stable_blocks + 1, 0), stable_blocks
            )
            action = jnp.where(active[:, None], new, action)
            return index + 1, x, action, stable_blocks, blocks + active

        zeros = jnp.zeros(x.shape[0], jnp.int32)
        carry = (jnp.int32(0), x, _action(actor, x), zeros, zeros)
        _, _, action, _, blocks = jax.lax.while_loop(any_active, next_block, carry)
        return Exit(action, blocks)

    def rate(self, state: Actor, observation: Array, action: Array, goal: Array) -> Array:
        raise UserError("early exit has no critic to choose among actions: use 1 sample.")


def early_exit_operations(actor: Actor, blocks: np.ndarray) -> tuple[float, float]:
    """Mean floating-point operations per row of early exits after these numbers of blocks: each row
    at batch 1, and all in one batch, whose rows continue until the last one has settled.

    The output layer runs once before the first block and once after each block.
    """
    encoder = actor.encoder
    inputs, width = encoder.inputs.dense.kernel.shape
    stream = jax.ShapeDtypeStruct((1, width), jnp.float32)
    embedding = arithmetic(encoder.embed, jax.ShapeDtypeStruct((1, inputs), jnp.float32)).flops
    block = arithmetic(lambda x: encoder.stack.apply_block(0, x), stream).flops
    output = arithmetic(encoder.outputs, stream).flops
    means = float(np.mean(blocks)), float(np.max(blocks))
    alone, batched = (embedding + count * (block + output) + output for count in means)
    return alone, batched


def _action(actor: Actor, x: Array) -> Array:
    """The deterministic action that the output layer computes from `x [batch, width]`."""
    return jnp.tanh(jnp.split(actor.encoder.outputs(x), 2, -1)[0])
