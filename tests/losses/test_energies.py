"""Energies: agreement of both forms, safe gradients, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from kilolayer.losses.energies import pairwise, rowwise

ENERGIES = ["euclidean", "squared_euclidean", "dot", "cosine"]
BATCH, DIM = 5, 3
ROWS = npst.arrays(
    np.float32, (BATCH, DIM), elements=st.floats(-3, 3, width=32, allow_subnormal=False)
)


def numpy_energy(energy: str, phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
    phi, psi = np.asarray(phi, np.float64)[:, None], np.asarray(psi, np.float64)[None]
    if energy in ("euclidean", "squared_euclidean"):
        squared = np.square(phi - psi).sum(-1)
        return -squared if energy == "squared_euclidean" else -np.sqrt(squared)
    if energy == "cosine":
        phi = phi / np.linalg.norm(phi, axis=-1, keepdims=True)
        psi = psi / np.linalg.norm(psi, axis=-1, keepdims=True)
    return (phi * psi).sum(-1)


@pytest.mark.parametrize("energy", ENERGIES)
def test_both_forms_match_the_definition(energy, normal):
    phi, psi = normal(0, 4, 6), normal(1, 7, 6)
    expected = numpy_energy(energy, phi, psi)
    np.testing.assert_allclose(pairwise(energy, phi, psi), expected, atol=1e-4)
    np.testing.assert_allclose(
        rowwise(energy, phi, psi[:4]), np.diagonal(expected[:, :4]), atol=1e-5
    )


@given(phi=ROWS, psi=ROWS)
def test_the_diagonal_of_pairwise_is_rowwise(phi, psi):
    for energy in ENERGIES:
        diagonal = np.diagonal(pairwise(energy, jnp.asarray(phi), jnp.asarray(psi)))
        # The matrix product cancels to about 1e-5 of the squares, sqrt(1e-5) of a distance.
        atol = 1e-2 if energy == "euclidean" else 1e-4
        np.testing.assert_allclose(
            diagonal, rowwise(energy, jnp.asarray(phi), jnp.asarray(psi)), atol=atol
        )


@pytest.mark.parametrize("energy", ENERGIES)
def test_energies_of_rows_are_independent(energy, normal):
    phi, psi = normal(0, 4, 3), normal(1, 4, 3)
    before, after = pairwise(energy, phi, psi), pairwise(energy, phi.at[1].mul(7.0), psi)
    others = np.array([0, 2, 3])
    np.testing.assert_array_equal(before[others], after[others])
    if energy == "cosine":
        np.testing.assert_allclose(before[1], after[1], atol=1e-5)
    else:
        assert not np.allclose(before[1], after[1], atol=1e-2)


def test_cosine_is_bounded_and_finite_for_a_zero_row(normal):
    phi = (100 * normal(0, 6, 3)).at[0].set(0.0)
    energies, gradient = jax.value_and_grad(lambda x: pairwise("cosine", x, phi).sum())(phi)
    assert np.abs(pairwise("cosine", phi, phi)).max() <= 1 + 1e-5
    assert np.isfinite(energies)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("form", [pairwise, rowwise])
def test_the_gradient_of_l2_at_distance_zero_is_zero(form):
    here = jnp.ones((1, 3))
    gradient = jax.grad(lambda x: form("euclidean", x, here).sum())(here)
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


@pytest.mark.parametrize("form", [pairwise, rowwise])
def test_the_gradient_of_l2_elsewhere_is_the_unit_vector(form):
    gradient = jax.grad(lambda x: form("euclidean", x, jnp.zeros((1, 2))).sum())(
        jnp.array([[3.0, 4.0]])
    )
    np.testing.assert_allclose(gradient, [[-0.6, -0.8]], atol=1e-5)


@pytest.mark.parametrize("form", [pairwise, rowwise])
@pytest.mark.parametrize("energy", ENERGIES)
def test_energies_of_bfloat16_encodings_are_float32(form, energy, normal):
    phi = normal(0, 3, 4).astype(jnp.bfloat16)
    assert form(energy, phi, phi).dtype == jnp.float32


def shapes_inside(jaxpr) -> set[tuple[int, ...]]:
    """Shapes of every value that a program computes, inner programs included."""
    shapes = set()
    for equation in jaxpr.eqns:
        shapes |= {value.aval.shape for value in equation.outvars}
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                shapes |= shapes_inside(inner)
    return shapes


@pytest.mark.parametrize("energy", ENERGIES)
def test_no_batch_by_batch_by_dim_array_is_allocated(energy):
    def loss(phi, psi):
        return pairwise(energy, phi, psi).sum()

    phi, psi = jnp.zeros((11, 7)), jnp.zeros((13, 7))
    shapes = shapes_inside(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(phi, psi).jaxpr)
    assert (11, 13) in shapes
    assert max(np.prod(shape) for shape in shapes) <= 11 * 13
    # The measure itself: the form to avoid is seen.
    naive = jax.make_jaxpr(lambda a, b: jnp.square(a[:, None] - b[None]).sum())(phi, psi)
    assert (11, 13, 7) in shapes_inside(naive.jaxpr)


@pytest.mark.parametrize("form", [pairwise, rowwise])
def test_unknown_energy_is_refused(form):
    with pytest.raises(ValueError, match="'l2' is no energy: euclidean"):
        form("l2", jnp.ones((1, 2)), jnp.ones((1, 2)))
