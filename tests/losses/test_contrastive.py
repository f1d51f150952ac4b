"""Contrastive losses, computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.losses.contrastive import contrastive_loss

LN = np.log

# Rows: log-partitions ln(3+1) and ln(2+2). Columns: ln(3+2) and ln(1+2). Diagonal: ln 3, ln 2.
TWO = jnp.log(jnp.array([[3.0, 1.0], [2.0, 2.0]]))
FORWARD = ((LN(4) - LN(3)) + (LN(4) - LN(2))) / 2
BACKWARD = ((LN(5) - LN(3)) + (LN(3) - LN(2))) / 2
# softplus(-ln p) = ln(1 + 1/p) of the diagonal 3, 2; softplus(ln n) = ln(1 + n) of the rest 1, 2.
BINARY = (LN(4 / 3) + LN(3 / 2)) / 2 + (LN(2) + LN(3)) / 2

# Rows sum to 4, 8, 2; columns to 4, 6.5, 3.5; the diagonal is 2, 5, 1.
THREE = jnp.log(jnp.array([[2.0, 1.0, 1.0], [1.5, 5.0, 1.5], [0.5, 0.5, 1.0]]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("forward", FORWARD),
        ("backward", BACKWARD),
        ("symmetric", (FORWARD + BACKWARD) / 2),
        ("binary", BINARY),
    ],
)
def test_info_nce_of_two_rows_matches_hand_computation(kind, expected):
    loss, metrics = contrastive_loss(kind, TWO, 0.0)
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    assert float(metrics["loss"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("forward", (LN(4 / 2) + LN(8 / 5) + LN(2 / 1)) / 3),
        ("backward", (LN(4 / 2) + LN(6.5 / 5) + LN(3.5 / 1)) / 3),
        (
            "binary",
            (LN(1 + 1 / 2) + LN(1 + 1 / 5) + LN(1 + 1 / 1)) / 3
            + (2 * LN(2) + 2 * LN(2.5) + 2 * LN(1.5)) / 6,
        ),
    ],
)
def test_info_nce_of_three_rows_matches_hand_computation(kind, expected):
    assert float(contrastive_loss(kind, THREE, 0.0)[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["forward", "backward", "symmetric", "binary"])
def test_the_penalty_is_the_mean_square_of_the_rows_log_partition(kind):
    bare, _ = contrastive_loss(kind, THREE, 0.0)
    penalised, metrics = contrastive_loss(kind, THREE, 0.1)
    expected = 0.1 * (LN(4) ** 2 + LN(8) ** 2 + LN(2) ** 2) / 3
    assert float(penalised - bare) == pytest.approx(expected, abs=1e-6)
    assert float(metrics["contrastive_loss"]) == pytest.approx(float(bare), abs=1e-6)


def test_metrics_match_hand_computation():
    logits = jnp.array([[2.0, 1.0, 0.0], [5.0, 4.0, 3.0], [0.0, 0.0, 1.0]])
    _, metrics = contrastive_loss("forward", logits, 0.0)
    assert float(metrics["accuracy"]) == pytest.approx(2 / 3)
    assert float(metrics["positive_energy"]) == pytest.approx((2 + 4 + 1) / 3)
    assert float(metrics["negative_energy"]) == pytest.approx((1 + 0 + 5 + 3 + 0 + 0) / 6)
    rows = np.log(np.exp(np.asarray(logits)).sum(1))
    assert float(metrics["logsumexp"]) == pytest.approx(rows.mean(), abs=1e-6)


def test_constant_critic_has_chance_accuracy():
    _, metrics = contrastive_loss("forward", jnp.full((5, 5), -3.0), 0.1)
    assert float(metrics["accuracy"]) == pytest.approx(1 / 5)


def test_tied_energies_share_the_accuracy():
    logits = jnp.array([[2.0, 2.0, 0.0], [1.0, 3.0, 0.0], [4.0, 1.0, 3.0]])
    _, metrics = contrastive_loss("forward", logits, 0.0)
    assert float(metrics["accuracy"]) == pytest.approx((1 / 2 + 1 + 0) / 3)


@pytest.mark.parametrize("kind", ["forward", "backward", "symmetric", "binary"])
def test_gradient_raises_positives_and_lowers_negatives(kind, normal):
    gradient = jax.grad(lambda logits: contrastive_loss(kind, logits, 0.0)[0])(normal(0, 4, 4))
    positive = np.eye(4, dtype=bool)
    assert (np.asarray(gradient)[positive] < 0).all()
    assert (np.asarray(gradient)[~positive] > 0).all()


def test_binary_loss_weights_positives_and_negatives_equally():
    # Where all energies are zero each class costs ln 2, however many negatives there are.
    for batch in (2, 5):
        gradient = jax.grad(lambda x: contrastive_loss("binary", x, 0.0)[0])(
            jnp.zeros((batch, batch))
        )
        on = float(jnp.diagonal(gradient).sum())
        assert on == pytest.approx(-0.5, abs=1e-6)
        assert float(gradient.sum()) - on == pytest.approx(0.5, abs=1e-6)


def test_forward_ignores_a_constant_per_row_and_backward_one_per_column(normal):
    logits, shift = normal(0, 4, 4), normal(1, 4)
    shifts = {"forward": shift[:, None], "backward": shift[None, :]}
    for kind, other in (("forward", "backward"), ("backward", "forward")):
        base = float(contrastive_loss(kind, logits, 0.0)[0])
        free = float(contrastive_loss(kind, logits + shifts[kind], 0.0)[0])
        bound = float(contrastive_loss(kind, logits + shifts[other], 0.0)[0])
        assert free == pytest.approx(base, abs=1e-5)
        assert abs(bound - base) > 1e-2


def test_large_energies_do_not_overflow():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    for kind in ("forward", "backward", "symmetric", "binary"):
        assert float(contrastive_loss(kind, logits, 0.0)[0]) == pytest.approx(0.0, abs=1e-6)
