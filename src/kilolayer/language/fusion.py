"""Sentence and picture in one vector: the sentence asks, the patches of the picture answer."""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.language.base import Context
from kilolayer.networks.block import Dense, NormedLayer
from kilolayer.types import Array

POSITION_SPREAD = 0.1  # standard deviation of what tells one patch from another at the start


class Fusion(eqx.Module):
    """`(text, patches) -> [rows, width]`: attention whose queries come from the text, over patches
    that know their place (arXiv 1706.03762, section 3.2.2), then a layer over both.

    What attends are as many heads as queries; the answer of each is a mixture of the patches'
    values and so of their places.
    """

    query: Dense
    key: Dense
    value: Dense
    position: Array  # [patches, width]
    output: NormedLayer
    heads: int = eqx.field(static=True)

    @staticmethod
    def init(key: Array, context: Context, width: int, heads: int = 4) -> "Fusion":
        """context: its shapes alone count; its leading axis is free. width: heads divide it."""
        text_dim, (patches, patch_dim) = context.text.shape[-1], context.patches.shape[-2:]
        keys = jax.random.split(key, 5)
        return Fusion(
            query=Dense.init(keys[0], text_dim, width),
            key=Dense.init(keys[1], patch_dim, width),
            value=Dense.init(keys[2], patch_dim, width),
            position=POSITION_SPREAD * jax.random.normal(keys[3], (patches, width)),
            output=NormedLayer.init(keys[4], text_dim + width, width),
            heads=heads,
        )

    def __call__(self, context: Context) -> Array:
        return self.attend(context)[0]

    def attend(self, context: Context) -> tuple[Array, Array]:
        """The fused vectors, `[rows, width]`, and who looked where, `[rows, heads, patches]`."""
        query = self._by_head(self.query(context.text)[:, None])
        key = self._by_head(self.key(context.patches) + self.position)
        value = self._by_head(self.value(context.patches) + self.position)
        scores = jnp.einsum("rqhd,rphd->rhp", query, key) / jnp.sqrt(key.shape[-1])
        attention = jax.nn.softmax(scores, axis=-1)
        answers = jnp.einsum("rhp,rphd->rhd", attention, value)
        both = jnp.concatenate([context.text, answers.reshape(len(answers), -1)], -1)
        return self.output(both), attention

    def _by_head(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)
