"""Depth diagnostics: hand computations, and diagnostics of a trained run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.analysis.diagnostics import (
    block_diagnostics,
    block_norms,
    dormant_share,
    effective_rank,
    replay_batch,
)
from kilolayer.analysis.load import read_arrays
from kilolayer.errors import UserError
from kilolayer.networks.block import TorsoSpec
from kilolayer.networks.stack import Stack


@pytest.mark.parametrize(
    ("singular", "expected"),
    [
        ([1.0, 1.0, 1.0], 3.0),
        ([5.0, 0.0, 0.0], 1.0),
        ([0.0, 0.0, 0.0], 0.0),
        # Shares 3/4 and 1/4: exp(-(3/4 ln 3/4 + 1/4 ln 1/4)) = 4 / 3^(3/4).
        ([3.0, 1.0, 0.0], 4 / 3**0.75),
    ],
)
def test_effective_rank_of_known_singular_values(singular, expected):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    # 1e-6: a rotation leaves the zero singular values at the rounding of the others.
    assert effective_rank(rotation @ np.diag(singular)) == pytest.approx(expected, abs=1e-6)


def test_effective_rank_ignores_the_scale():
    matrix = np.random.default_rng(1).normal(size=(20, 6))
    assert effective_rank(1e-3 * matrix) == pytest.approx(effective_rank(matrix))


def test_dormant_share_matches_hand_computation():
    # Two blocks of two layers, the second twice as wide. The first has the mean 1.0, so 0.025 is
    # just dormant and 0.026 is not; in the first block the second layer is inactive.
    first = np.array([[1.975, 2.0, 0.025, 0.0], [2.974, 1.0, 0.026, 0.0]])
    second = np.array([np.zeros(8), np.ones(8)])
    np.testing.assert_allclose(dormant_share([first, second]), [10 / 12, 1 / 12])


def test_block_norms_are_computed_per_block():
    stack = Stack.init(jax.random.key(0), TorsoSpec(depth=6, width=4, layers_per_block=2))
    factor = jnp.array([0.0, 1.0, 2.0])
    ones = jax.tree.map(
        lambda leaf: jnp.ones_like(leaf) * factor.reshape(-1, *[1] * (leaf.ndim - 1)), stack
    )
    # A layer of width 4 has 16 + 4 + 4 + 4 parameters, a block two layers.
    np.testing.assert_allclose(block_norms(ones), np.sqrt(56) * np.array([0, 1, 2]), rtol=1e-6)


def test_every_network_has_one_finite_value_per_block(run_copy):
    networks = block_diagnostics(run_copy)
    assert set(networks) == {"actor", "state-action encoder", "goal encoder"}
    blocks = run_copy.config.network.depth // run_copy.config.network.layers_per_block
    for diagnostics in networks.values():
        values = dataclasses.asdict(diagnostics)
        assert all(array.shape == (blocks,) for array in values.values())
        assert (values["residual_norm"] > 0).all()
        assert (values["gradient_norm"] > 0).all()
        assert (values["effective_rank"] >= 1).all()
        assert (values["effective_rank"] <= run_copy.config.network.width).all()


def test_block_gradients_match_the_losses(run_copy):
    batch, parameters = replay_batch(run_copy), run_copy.agent_state.parameters
    gradient = jax.grad(lambda critic: run_copy.agent.critic_loss(critic, batch)[0])(
        parameters.critic
    )
    found = block_diagnostics(run_copy)["goal encoder"].gradient_norm
    np.testing.assert_allclose(found, block_norms(gradient.goal.stack), rtol=1e-4)


def test_missing_batch_is_reported(run_copy):
    (run_copy.path / "episodes" / "batch.npz").unlink()
    with pytest.raises(UserError, match=r"no batch\.npz yet"):
        block_diagnostics(run_copy)


@pytest.mark.parametrize("damage", ["cut", "text", "shape", "nan", "name"])
def test_damaged_batch_is_reported(run_copy, damage):
    path = run_copy.path / "episodes" / "batch.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "shape":
        np.savez(path, **{**arrays, "goal": arrays["goal"][:, :1]})
    elif damage == "nan":
        np.savez(path, **{**arrays, "action": arrays["action"] * np.nan})
    else:
        arrays.pop("action")
        np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"batch\.npz"):
        replay_batch(run_copy)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "batch.npz", goal=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        read_arrays(tmp_path / "batch.npz", ["goal"])
