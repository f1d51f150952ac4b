"""The installed JAX: jaxlib 0.10.2 returns wrong sums for more than 32,768 rows on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from kilolayer.losses.contrastive import contrastive_loss
from kilolayer.losses.energies import pairwise, rowwise

ROWS = 32_769
DIM = 3
COLUMNS = 8
BATCH = 2048


def test_the_sum_of_squares_of_many_rows():
    """github.com/jax-ml/jax/issues/39103: 0.10.2 returns 1065369600 for the last row."""
    rows = np.zeros((ROWS, 3), np.float32)
    rows[:, 0] = np.arange(ROWS)
    sums = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
    np.testing.assert_allclose(sums, np.square(rows.astype(np.float64)).sum(1), rtol=1e-6)
    assert float(sums[-1]) == 1_073_741_824


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Representations `[32769, 3]` whose energies differ from row to row."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(2, ROWS, DIM)).astype(np.float32)


def energy_of(kind: str, phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Of equal places of two arrays `[..., dim]`, in float64."""
    phi, psi = phi.astype(np.float64), psi.astype(np.float64)
    if kind == "cosine":
        phi, psi = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (phi, psi))
    if kind in ("dot", "cosine"):
        return (phi * psi).sum(-1)
    squared = np.square(phi - psi).sum(-1)
    return -squared if kind == "squared_euclidean" else -np.sqrt(squared)


@pytest.mark.parametrize("kind", ["euclidean", "squared_euclidean", "dot", "cosine"])
def test_energies_of_many_rows(kind, pairs):
    phi, psi = pairs
    by_row = jax.jit(rowwise, static_argnums=0)(kind, phi, psi)
    np.testing.assert_allclose(by_row, energy_of(kind, phi, psi), atol=1e-4)
    by_pair = jax.jit(pairwise, static_argnums=0)(kind, phi, psi[:COLUMNS])
    np.testing.assert_allclose(by_pair, energy_of(kind, phi[:, None], psi[:COLUMNS]), atol=1e-4)


def test_contrastive_losses_of_the_largest_batch(pairs):
    """Their sums run over 2048 x 2048 energies."""
    phi, psi = pairs[:, :BATCH]
    logits = energy_of("euclidean", phi[:, None], psi)
    positive, negative = np.diagonal(logits), logits[~np.eye(BATCH, dtype=bool)]
    by_row, by_column = (logsumexp(logits, axis=axis) for axis in (1, 0))
    forward, backward = (by_row - positive).mean(), (by_column - positive).mean()
    losses = {
        "forward": forward,
        "backward": backward,
        "symmetric": (forward + backward) / 2,
        "binary": np.logaddexp(0, -positive).mean() + np.logaddexp(0, negative).mean(),
    }

    @jax.jit
    def all_losses(phi, psi):
        energies = pairwise("euclidean", phi, psi)
        return {kind: contrastive_loss(kind, energies, 0.1)[0] for kind in losses}

    penalty = 0.1 * np.square(by_row).mean()
    for kind, loss in all_losses(phi, psi).items():
        assert float(loss) == pytest.approx(losses[kind] + penalty, rel=1e-5), kind
