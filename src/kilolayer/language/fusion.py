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
LEAST_DEVIATION = 1e-6


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
        usual = patches.mean(0)
        # Not computed from the differences, which would copy all patches.
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
    """`(text, patches) -> [rows, width]`: attention over the patches with queries from the text
    (arXiv 1706.03762, section 3.2.2), then a layer over text and answers.

    Each head has one query. Its answer mixes the values and the positions of patches. Keys depend
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
            position=jax.random.normal(keys[3], (places(patches).shape[1], width)),
            output=NormedLayer.init(keys[4], text_dim + width, width),
            heads=heads,
            patches=patches,
        )

    def __call__(self, context: Context) -> Array:
        return self.attend(context)[0]

    def attend(self, context: Context) -> tuple[Array, Array]:
        """The fused vectors, `[rows, width]`, and the attention, `[rows, heads, patches]`."""
        both, attention = self.look(context)
        return self.output(both), attention

    def look(self, context: Context) -> tuple[Array, Array]:
        """Text and answers of all heads, `[rows, text_dim + width]`, and the attention, `[rows,
        heads, patches]`.

        The key kernel is applied to the queries and the value kernel to the mixed patches. The
        result is the same, but no kernel is applied to every patch.
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

    Patches that form no square count as one row.
    """
    side = isqrt(patches)
    rows, columns = (side, side) if side * side == patches else (1, patches)
    where = np.indices((rows, columns)).reshape(2, -1).T
    return (2 * where / max(rows - 1, columns - 1, 1) - 1).astype(np.float32)


def places(patches: int) -> np.ndarray:
    """Position encoding: row and column of each patch and waves along both, `[patches, functions]`.

    The scale gives a random mixture of the functions a size of about one.
    """
    where = grid(patches)
    waves = [wave(np.pi * periods * where) for periods in PERIODS for wave in (np.sin, np.cos)]
    functions = np.concatenate([where, *waves], -1)
    return (functions / np.sqrt(functions.shape[1])).astype(np.float32)
