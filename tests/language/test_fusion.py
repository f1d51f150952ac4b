"""Tests for kilolayer.language.fusion."""

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.language.base import Context
from kilolayer.language.fusion import Fusion


def test_attends_to_the_patch_that_answers_the_sentence(normal) -> None:
    """One head, hand-made weights: a patch whose key is a hundred times the query gets it all."""
    context = Context(text=normal(0, 2, 3), patches=normal(1, 2, 5, 3))
    fusion = Fusion.init(jax.random.key(0), context, width=3, heads=1)
    eye, zero = jnp.eye(3), jnp.zeros(3)
    for name in ("query", "key", "value"):
        layer = getattr(fusion, name)
        object.__setattr__(layer, "kernel", eye)
        object.__setattr__(layer, "bias", zero)
    object.__setattr__(fusion, "position", jnp.zeros((5, 3)))
    patches = context.patches.at[0, 2].set(100 * context.text[0])
    patches = patches.at[1, 4].set(100 * context.text[1])
    _, attention = fusion.attend(Context(context.text, patches))
    assert attention.shape == (2, 1, 5)
    np.testing.assert_array_equal(attention[:, 0].argmax(-1), [2, 4])
    np.testing.assert_allclose(attention.max(-1), 1, atol=1e-3)


def test_rows_do_not_see_each_other(normal) -> None:
    context = Context(text=normal(0, 3, 4), patches=normal(1, 3, 6, 5))
    fusion = Fusion.init(jax.random.key(0), context, width=8)
    alone = [
        fusion(jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], context)) for row in range(3)
    ]
    np.testing.assert_allclose(fusion(context), jnp.concatenate(alone), rtol=2e-5, atol=1e-6)


def test_the_same_patch_elsewhere_is_another_answer(normal) -> None:
    context = Context(text=normal(0, 1, 4), patches=normal(1, 1, 6, 5))
    fusion = Fusion.init(jax.random.key(0), context, width=8)
    moved = Context(context.text, context.patches[:, ::-1])
    assert jnp.abs(fusion(context) - fusion(moved)).max() > 1e-3
