"""Sentence and picture in one vector: the sentence asks, the patches of the picture answer."""

from math import isqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.language.base import Context
from kilolayer.networks.block import Dense, NormedLayer, fan_in_uniform
from kilolayer.types import Array

PERIODS = (0.5, 1.0, 2.0)  # along a side of the picture, of the waves that tell places apart
LEAST_DEVIATION = 1e-6


class ContextScale(eqx.Module):
    """Frozen features standardised: their size is the encoder's affair, and what all pictures show
    at a place is no news.

    text and text_deviation `[text_dim]`; patches `[patches, patch_dim]`: the mean at each place;
    patch_deviation `[patch_dim]`.
    """

    text: Array
    text_deviation: Array
    patches: Array
    patch_deviation: Array

    @staticmethod
    def of(context: Context) -> "ContextScale":
        """Of the features that are trained on."""
        text, patches = np.asarray(context.text), np.asarray(context.patches)
        usual = patches.mean(0)
        # Not of the differences: they would be a copy of all patches.
        variance = np.square(patches).mean((0, 1)) - np.square(usual).mean(0)
        deviations = text.std(0), np.sqrt(np.maximum(variance, 0))
        text_deviation, patch_deviation = (
            jnp.asarray(np.maximum(each, LEAST_DEVIATION), jnp.float32) for each in deviations
        )
        return ContextScale(
            jnp.asarray(text.mean(0)), text_deviation, jnp.asarray(usual), patch_deviation
        )

    def __call__(self, context: Context) -> Context:
        return Context(
            (context.text - self.text) / self.text_deviation,
            (context.patches - self.patches) / self.patch_deviation,
        )


class Fusion(eqx.Module):
    """`(text, patches) -> [rows, width]`: attention whose queries come from the text, over patches
    (arXiv 1706.03762, section 3.2.2), then a layer over both.

    What attends are as many heads as queries; the answer of each is a mixture of the patches'
    values and so of their places. A patch is found by what lies there alone: keys that knew places
    would learn where no training goal lies, and never look there.

    key: `[patch_dim, width]`. position: what is learnt of places is a map of smooth functions of
    row and column, `[functions, width]`, so that a place never asked for lies between its
    neighbours.
    """

    query: Dense
    key: Array
    value: Dense
    position: Array
    output: NormedLayer
    heads: int = eqx.field(static=True)
    patches: int = eqx.field(static=True)

    @staticmethod
    def init(key: Array, context: Context, width: int, heads: int = 4) -> "Fusion":
        """context: its shapes alone count; its leading axis is free. width: heads divide it."""
        text_dim, (patches, patch_dim) = context.text.shape[-1], context.patches.shape[-2:]
        keys = jax.random.split(key, 5)
        return Fusion(
            query=Dense.init(keys[0], text_dim, width),
            key=fan_in_uniform(keys[1], (patch_dim, width)),
            value=Dense.init(keys[2], patch_dim, width),
            position=jax.random.normal(keys[3], (places(patches).shape[1], width)),
            output=NormedLayer.init(keys[4], text_dim + width, width),
            heads=heads,
            patches=patches,
        )

    def __call__(self, context: Context) -> Array:
        return self.attend(context)[0]

    def attend(self, context: Context) -> tuple[Array, Array]:
        """The fused vectors, `[rows, width]`, and who looked where, `[rows, heads, patches]`."""
        both, attention = self.look(context)
        return self.output(both), attention

    def look(self, context: Context) -> tuple[Array, Array]:
        """The text beside the answers of all heads, `[rows, text_dim + width]`, and who looked
        where, `[rows, heads, patches]`.

        Queries are taken to the patches, and mixtures of patches to their values: the same products
        in an order in which no patch is multiplied by a kernel of its own.
        """
        place = self._by_head(jnp.asarray(places(self.patches)) @ self.position)
        query = self._by_head(self.query(context.text))
        toward = jnp.einsum("rhd,ihd->rhi", query, self._by_head(self.key))
        scores = jnp.einsum("rhi,rpi->rhp", toward, context.patches)
        attention = jax.nn.softmax(scores / jnp.sqrt(query.shape[-1]), axis=-1)
        seen = jnp.einsum("rhp,rpi->rhi", attention, context.patches)
        answers = jnp.einsum("rhi,ihd->rhd", seen, self._by_head(self.value.kernel))
        answers += jnp.einsum("rhp,phd->rhd", attention, place) + self._by_head(self.value.bias)
        return jnp.concatenate([context.text, answers.reshape(len(answers), -1)], -1), attention

    def _by_head(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


def grid(patches: int) -> np.ndarray:
    """Row and column of each patch in -1 to 1, `[patches, 2]`.

    Patches that are no square are taken as a row.
    """
    side = isqrt(patches)
    rows, columns = (side, side) if side * side == patches else (1, patches)
    where = np.indices((rows, columns)).reshape(2, -1).T
    return (2 * where / max(rows - 1, columns - 1, 1) - 1).astype(np.float32)


def places(patches: int) -> np.ndarray:
    """Row and column of each patch and waves along both, `[patches, functions]`, scaled so that a
    random mixture of them is of size one."""
    where = grid(patches)
    waves = [wave(np.pi * periods * where) for periods in PERIODS for wave in (np.sin, np.cos)]
    functions = np.concatenate([where, *waves], -1)
    return (functions / np.sqrt(functions.shape[1])).astype(np.float32)
