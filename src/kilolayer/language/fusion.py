"""Fusion of sentence and picture into one vector, by attention of the text over the patches."""

from math import isqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.language.base import Context
from kilolayer.networks.block import Dense, NormedLayer, fan_in_uniform
from kilolayer.types import Array

PERIODS = (0.5, 1.0, 2.0)  # periods along a picture's side, of the position encoding's waves
MIN_DEVIATION = 1e-6


class ContextScale(eqx.Module):
    """Standardises frozen features, because encoders differ in scale and the mean of each patch
    carries no information.

    text and text_deviation `[text_dim]`; patches `[patches, patch_dim]`: the mean of each patch;
    patch_deviation `[patch_dim]`.
    """

    text: Array
    text_deviation: Array
    patches: Array
    patch_deviation: Array

    @staticmethod
    def of(context: Context) -> "ContextScale":
        """Means and deviations of the training features."""
        text, patches = np.asarray(context.text), np.asarray(context.patches)
        mean = patches.mean(0)
        # Not computed from the differences, which would copy all patches.
        variance = np.square(patches).mean((0, 1)) - np.square(mean).mean(0)
        deviations = text.std(0), np.sqrt(np.maximum(variance, 0))
        text_deviation, patch_deviation = (
            jnp.asarray(np.maximum(each, MIN_DEVIATION), jnp.float32) for each in deviations
        )
        return ContextScale(
            jnp.asarray(text.mean(0)), text_deviation, jnp.asarray(mean), patch_deviation
        )

    def __call__(self, context: Context) -> Context:
        return Context(
            (context.text - self.text) / self.text_deviation,
            (context.patches - self.patches) / self.patch_deviation,
        )


class Fusion(eqx.Module):
    """`(text, patches) -> [rows, width]`: attention over the patches with queries from the text
    (arXiv 1706.03762, section 3.2.2), then a layer over the text and the attended values.

    Each head has one query. It attends to the values and the positions of patches. Keys depend
    only on a patch's content: keys with positions would learn where no training goal lies, and the
    network would never attend there.

    key: `[patch_dim, width]`. position: maps smooth functions of row and column to the position
    encoding, `[functions, width]`, so that an unseen place lies between its neighbours.
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
        """context: only its shapes are used, and its leading axis is free. width: a multiple of
        heads."""
        text_dim, (patches, patch_dim) = context.text.shape[-1], context.patches.shape[-2:]
        keys = jax.random.split(key, 5)
        return Fusion(
            query=Dense.init(keys[0], text_dim, width),
            key=fan_in_uniform(keys[1], (patch_dim, width)),
            value=Dense.init(keys[2], patch_dim, width),
            position=jax.random.normal(keys[3], (position_encoding(patches).shape[1], width)),
            output=NormedLayer.init(keys[4], text_dim + width, width),
            heads=heads,
            patches=patches,
        )

    def attend(self, context: Context) -> tuple[Array, Array]:
        """The fused vectors, `[rows, width]`, and the attention, `[rows, heads, patches]`.

        The key kernel is applied to the queries and the value kernel to the attended patches. The
        result is the same, but no kernel is applied to every patch.
        """
        encoding = self._by_head(jnp.asarray(position_encoding(self.patches)) @ self.position)
        query = self._by_head(self.query(context.text))
        patch_query = jnp.einsum("rhd,ihd->rhi", query, self._by_head(self.key))
        scores = jnp.einsum("rhi,rpi->rhp", patch_query, context.patches)
        attention = jax.nn.softmax(scores / jnp.sqrt(query.shape[-1]), axis=-1)
        attended = jnp.einsum("rhp,rpi->rhi", attention, context.patches)
        values = jnp.einsum("rhi,ihd->rhd", attended, self._by_head(self.value.kernel))
        values += jnp.einsum("rhp,phd->rhd", attention, encoding) + self._by_head(self.value.bias)
        joined = jnp.concatenate([context.text, values.reshape(len(values), -1)], -1)
        return self.output(joined), attention

    def _by_head(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


def patch_positions(patches: int) -> np.ndarray:
    """Row and column of each patch in -1 to 1, `[patches, 2]`.

    Patches that form no square count as one row.
    """
    side = isqrt(patches)
    rows, columns = (side, side) if side * side == patches else (1, patches)
    positions = np.indices((rows, columns)).reshape(2, -1).T
    return (2 * positions / max(rows - 1, columns - 1, 1) - 1).astype(np.float32)


def position_encoding(patches: int) -> np.ndarray:
    """Position encoding: row and column of each patch and waves along both, `[patches, functions]`.

    The scale gives a random mixture of the functions a size of about one.
    """
    positions = patch_positions(patches)
    waves = [wave(np.pi * periods * positions) for periods in PERIODS for wave in (np.sin, np.cos)]
    functions = np.concatenate([positions, *waves], -1)
    return (functions / np.sqrt(functions.shape[1])).astype(np.float32)
