"""Tests for kilolayer.language.fusion."""

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.language.base import Context
from kilolayer.language.fusion import ContextScale, Fusion, position_encoding


def test_attention_selects_the_patch_with_the_matching_key(normal) -> None:
    """One head, hand-made weights: a patch whose key is a hundred times the query gets it all."""
    context = Context(text=normal(0, 2, 3), patches=normal(1, 2, 5, 3))
    fusion = Fusion.init(jax.random.key(0), context, width=3, heads=1)
    eye, zero = jnp.eye(3), jnp.zeros(3)
    for layer in (fusion.query, fusion.value):
        object.__setattr__(layer, "kernel", eye)
        object.__setattr__(layer, "bias", zero)
    object.__setattr__(fusion, "key", eye)
    object.__setattr__(fusion, "position", jnp.zeros_like(fusion.position))
    patches = context.patches.at[0, 2].set(100 * context.text[0])
    patches = patches.at[1, 4].set(100 * context.text[1])
    _, attention = fusion.attend(Context(context.text, patches))
    assert attention.shape == (2, 1, 5)
    np.testing.assert_array_equal(attention[:, 0].argmax(-1), [2, 4])
    np.testing.assert_allclose(attention.max(-1), 1, atol=1e-3)


def test_rows_are_independent(normal) -> None:
    context = Context(text=normal(0, 3, 4), patches=normal(1, 3, 6, 5))
    fusion = Fusion.init(jax.random.key(0), context, width=8)
    alone = [
        fusion.attend(jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], context))[0]
        for row in range(3)
    ]
    together, _ = fusion.attend(context)
    np.testing.assert_allclose(together, jnp.concatenate(alone), rtol=2e-5, atol=1e-6)


def test_output_depends_on_the_positions_of_patches(normal) -> None:
    context = Context(text=normal(0, 1, 4), patches=normal(1, 1, 6, 5))
    fusion = Fusion.init(jax.random.key(0), context, width=8)
    moved = Context(context.text, context.patches[:, ::-1])
    assert jnp.abs(fusion.attend(context)[0] - fusion.attend(moved)[0]).max() > 1e-3


def test_position_encoding_interpolates_between_patches() -> None:
    """Of nine patches, three to a side, the middle one has the mean row and column of the ends."""
    encoding = position_encoding(9)
    assert encoding.shape[0] == 9
    np.testing.assert_allclose(encoding[4, :2], (encoding[0, :2] + encoding[8, :2]) / 2, atol=1e-7)
    assert len(np.unique(encoding.round(5), axis=0)) == 9
    assert len(np.unique(position_encoding(5).round(5), axis=0)) == 5


def test_scaled_features_are_standardised(normal) -> None:
    """Each number of the text by itself, the patches by the mean at their position."""
    text, patches = np.asarray(3 * normal(0, 50, 4) + 7), np.asarray(normal(1, 50, 6, 2))
    mean = np.asarray(100 * normal(2, 6, 2))
    scaled = ContextScale.of(Context(text, patches + mean))(Context(text, patches + mean))
    np.testing.assert_allclose(scaled.text.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.text.std(0), 1, rtol=1e-4)
    np.testing.assert_allclose(scaled.patches.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.patches.std((0, 1)), 1, rtol=0.02)
