"""The mixture against its loop twin, routing against a plain implementation, and the dense
twins."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.networks import routing
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.networks.mixture import Mixture, MixtureSpec
from oracles import apply_in_loops

SPEC = MixtureSpec(width=8, depth=2, layers=2, experts=4, top_k=2, layers_per_block=2)
apply = jax.jit(Mixture.__call__, static_argnames="training")


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    made = Mixture.init(jax.random.key(0), SPEC)
    # Routers that tell rows apart, so that gates are far from even.
    return jax.tree.map(lambda leaf: 2 * leaf, made)


def test_batched_experts_equal_the_loop_in_values_and_gradients(mixture, normal):
    x = normal(1, 8, SPEC.width)  # blocks of two slots

    def value_and_gradients(apply):
        def total(mixture, x):
            output = apply(mixture, x)
            return jnp.square(output).mean(), output

        (_, output), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(mixture, x)
        return output, jax.tree.leaves(gradients)

    output, gradients = jax.jit(lambda: value_and_gradients(lambda m, x: m(x)[0]))()
    expected, expected_gradients = value_and_gradients(apply_in_loops)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert float(jnp.abs(theirs).max()) > 0
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_slots_hold_every_row(mixture, normal):
    """Forty rows come in blocks of ten slots, one row in blocks of one."""
    x = normal(2, 40, SPEC.width)
    one = jnp.concatenate([apply(mixture, row[None])[0] for row in x])
    np.testing.assert_allclose(apply(mixture, x)[0], one, atol=1e-5)


def test_ample_capacity_equals_no_capacity_limit(mixture, normal):
    x = normal(1, 24, SPEC.width)
    roomy = with_capacity(mixture, SPEC.experts / SPEC.top_k)
    (free, _), (seated, routed) = jax.jit(lambda: (mixture(x), roomy(x, training=True)))()
    np.testing.assert_allclose(free, seated, atol=1e-5)
    assert (routed.rerouted == 0).all()
    np.testing.assert_allclose(routed.dropped, 0, atol=1e-6)


def with_capacity(mixture: Mixture, factor: float) -> Mixture:
    return Mixture(dataclasses.replace(mixture.layers, capacity_factor=factor))


def test_rows_interact_only_through_capacity(mixture, normal):
    """Among rows with the same choice, a row loses its place; at evaluation it keeps it."""
    tight = with_capacity(mixture, 0.5)
    alone = normal(3, 1, SPEC.width)
    crowd = jnp.concatenate([alone + 0.01 * normal(4, 15, SPEC.width), alone])
    others = jnp.concatenate([normal(5, 15, SPEC.width), alone])

    @jax.jit
    def last(x):
        return tight(x)[0][-1], tight(x, training=True)[0][-1]

    (free, seated), (free_elsewhere, _) = last(crowd), last(others)
    np.testing.assert_allclose(free, free_elsewhere, atol=1e-6)
    np.testing.assert_allclose(free, apply(tight, alone)[0][0], atol=1e-6)
    assert float(jnp.abs(free - seated).max()) > 0.01


def seat_by_hand(logits: np.ndarray, k: int, capacity: int) -> list[dict[int, int]]:
    """Of each row its experts and its place there, by the rule of `choose_within`."""
    load, seats = [0] * logits.shape[1], [{} for _ in logits]
    for rank in range(logits.shape[1]):
        for row, ratings in enumerate(logits):
            expert = int(np.argsort(-ratings)[rank])
            if len(seats[row]) < k and load[expert] < capacity:
                seats[row][expert] = load[expert]
                load[expert] += 1
    return seats


@pytest.mark.parametrize("capacity", [2, 5, 9])
def test_overflowing_row_goes_to_its_next_expert_with_room(capacity):
    generator = np.random.default_rng(capacity)
    # All rows are of a mind.
    logits = np.float32(generator.normal(size=(12, 4)) + np.array([3, 2, 0, 0]))
    choice = jax.jit(routing.choose_within, static_argnums=(1, 2))(logits, 2, capacity)
    expert, position, placed, gate = map(
        np.asarray, (choice.expert, choice.position, choice.placed, choice.gate)
    )
    first_choices = np.argsort(-logits, axis=1)[:, :2]
    expected = seat_by_hand(logits, 2, capacity)
    rerouted = 0
    for row, seats in enumerate(expected):
        at = placed[row]
        assert dict(zip(expert[row][at], position[row][at], strict=True)) == seats
        rerouted += sum(each not in first_choices[row] for each in seats)
        weights = np.exp(logits[row, expert[row]]) * at
        np.testing.assert_allclose(gate[row], weights / max(weights.sum(), 1e-30), atol=1e-6)
    assert choice.rerouted.sum() == rerouted
    assert rerouted > 0
    assert placed.sum() == min(24, sum(map(len, expected)))
    assert placed.all() == (capacity == 9)


def test_dropped_row_passes_through_and_is_counted(mixture, normal):
    layer = jax.tree.map(lambda leaf: leaf[0], mixture.layers)
    layer = dataclasses.replace(layer, capacity_factor=0.25)
    x = normal(6, 32, SPEC.width)
    output, routed = jax.jit(lambda: layer(x, training=True))()
    # Four places at each of four experts, for 64 choices.
    np.testing.assert_allclose(routed.dropped, 1 - 16 / 64, atol=1e-6)
    np.testing.assert_allclose(routed.load, 0.25, atol=1e-6)
    left = np.asarray(routed.use).sum(-1) == 0
    assert left.sum() >= 32 - 16
    np.testing.assert_array_equal(np.asarray(output)[left], np.asarray(x)[left])
    assert (np.asarray(output)[~left] != np.asarray(x)[~left]).any(-1).all()


def test_router_losses_match_hand_computation():
    """Rows that all choose experts 0 and 1, with probabilities 1/2, 1/4, 1/8, 1/8."""
    logits = jnp.log(jnp.tile(jnp.array([4.0, 2, 1, 1]), (6, 1)))
    assert routing.balance_loss(logits, 2) == pytest.approx(4 * (0.5 * 0.5 + 0.5 * 0.25))
    assert routing.z_loss(logits) == pytest.approx(math.log(8) ** 2)
    even = jnp.tile(jnp.eye(4), (3, 1))
    assert routing.balance_loss(even, 1) == pytest.approx(1)


def test_statistics_match_the_routers(mixture, normal):
    _, routed = apply(mixture, normal(7, 50, SPEC.width))
    assert routed.use.shape == (2, 50, 4)
    np.testing.assert_allclose(routed.use.sum(-1), 1, atol=1e-6)
    assert ((routed.use > 0).sum(-1) == 2).all()
    np.testing.assert_allclose(routed.load, (routed.use > 0).mean(1) / 2, atol=1e-6)
    assert ((routed.entropy > 0) & (routed.entropy < math.log(4))).all()
    assert (routed.balance >= 0.9).all()
    assert (routed.dropped == 0).all()


def test_dense_twins_have_equal_counts():
    """What is left is the routers, and of the parameters nothing else."""
    spec = MixtureSpec(width=64)

    def counts(init):
        module = jax.eval_shape(init, jax.random.key(0))
        row = jax.ShapeDtypeStruct((1, spec.width), jnp.float32)
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(module))
        return size, arithmetic(lambda module, x: module(x), module, row).flops

    parameters, operations = counts(lambda key: Mixture.init(key, spec))
    of_parameters = counts(lambda key: spec.dense(key, spec.depth_of_equal_parameters))[0]
    of_operations = counts(lambda key: spec.dense(key, spec.depth_of_equal_operations))[1]
    assert parameters - of_parameters == spec.layers * (64 * 8 + 8)
    assert operations - of_operations == spec.layers * 2 * 64 * 8
    assert parameters / of_parameters == pytest.approx(1, abs=0.02)
    assert operations / of_operations == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"top_k": 1}, r"top_k = 1 is not allowed.*always 1.*nearest valid choice is 2"),
        ({"top_k": 9}, r"top_k = 9 is not allowed.*nearest valid choice is 4"),
        ({"experts": 1}, "experts = 1 is not allowed"),
        ({"depth": 3}, r"depth = 3 is not allowed: it must be a multiple of .* is 4"),
        ({"layers": 0}, "layers = 0 is not allowed: it must be at least 1; .* is 1"),
        ({"width": 8.5}, "width = 8.5 is not allowed: it must be a whole number"),
        ({"capacity_factor": 0.0}, r"capacity_factor = 0.0 is not allowed.*1.25"),
        ({"capacity_factor": math.inf}, "capacity_factor = inf is not allowed.*finite"),
    ],
)
def test_invalid_shapes_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(SPEC, **changes)
