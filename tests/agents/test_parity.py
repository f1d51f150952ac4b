"""The update against an independent one: the published method written out, nothing shared.

Contrastive RL as arXiv 2503.14858 states it (its recipe is `wang2025`): weights in dictionaries,
one layer after the other, every pair of encodings subtracted, Adam step by step. The package gives
it starting weights, a batch and the key of the sampled action; losses, gradients and parameters
after one step must agree.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.crl import CRLState
from kilolayer.config import run_config
from kilolayer.losses.actor import temperature_loss as temperature_loss_of_package
from kilolayer.recipes import with_recipe
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.tasks.registry import make_task
from probes import contrastive_batch

BATCH, LAYERS_PER_BLOCK = 24, 4
CONFIG = with_recipe(run_config(task="ant", depth=8, width=16, batch_size=BATCH), "wang2025")
PENALTY, RATE, TARGET_ENTROPY = 0.1, 3e-4, -0.5 * 8
TOLERANCE = 1e-5


def layer(weights, x):
    """Dense, LayerNorm, Swish."""
    x = jnp.dot(x, weights["kernel"]) + weights["bias"]
    centred = x - jnp.mean(x, axis=1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=1, keepdims=True)
    x = centred / jnp.sqrt(variance + 1e-6) * weights["scale"] + weights["offset"]
    return x / (1 + jnp.exp(-x))


def network(weights, x):
    x = layer(weights["input"], x)
    for start in range(0, len(weights["hidden"]), LAYERS_PER_BLOCK):
        before = x
        for each in weights["hidden"][start : start + LAYERS_PER_BLOCK]:
            x = layer(each, x)
        x = x + before
    return jnp.dot(x, weights["output"]["kernel"]) + weights["output"]["bias"]


def critic_loss(critic, batch):
    phi = network(critic["pair"], jnp.concatenate([batch.observation, batch.action], axis=1))
    psi = network(critic["goal"], batch.goal)
    difference = phi[:, None, :] - psi[None, :, :]  # [B, B, D]
    energy = -jnp.sqrt(jnp.sum(difference**2, axis=2))
    log_partition = jnp.log(jnp.sum(jnp.exp(energy), axis=1))
    info_nce = -jnp.mean(jnp.diag(energy) - log_partition)
    return info_nce + PENALTY * jnp.mean(log_partition**2)


def actor_loss(actor, critic, temperature, batch, noise):
    outputs = network(actor, jnp.concatenate([batch.observation, batch.goal], axis=1))
    mean, raw = outputs[:, :8], outputs[:, 8:]
    deviation = jnp.exp(-5 + 3.5 * (jnp.tanh(raw) + 1))
    before_tanh = mean + deviation * noise
    action = jnp.tanh(before_tanh)
    gaussian = jnp.exp(-(noise**2) / 2) / (deviation * np.sqrt(2 * np.pi))
    slope = 1 / jnp.cosh(before_tanh) ** 2  # 1 - tanh^2, which rounds to 0 where this does not
    log_prob = jnp.sum(jnp.log(gaussian) - jnp.log(slope), axis=1)
    phi = network(critic["pair"], jnp.concatenate([batch.observation, action], axis=1))
    psi = network(critic["goal"], batch.goal)
    energy = -jnp.sqrt(jnp.sum((phi - psi) ** 2, axis=1))
    return jnp.mean(temperature * log_prob - energy), log_prob


def temperature_loss(log_temperature, log_prob):
    """Loss of the log temperature; its gradient is the temperature times the excess entropy."""
    return jnp.exp(log_temperature) * (-jnp.mean(log_prob) - TARGET_ENTROPY)


def first_adam_step(parameter, gradient):
    first, second = 0.1 * gradient, 0.001 * gradient**2
    first, second = first / (1 - 0.9), second / (1 - 0.999)
    return parameter - RATE * first / (jnp.sqrt(second) + 1e-8)


def weights_of(encoder):
    """A network of the package as plain dictionaries, one for each layer."""

    def plain(each):
        named = {"scale": each.scale, "offset": each.offset}
        return {"kernel": each.dense.kernel, "bias": each.dense.bias, **named}

    stacked = [plain(each) for each in encoder.stack.blocks.layers]
    hidden = [
        {name: leaf[block] for name, leaf in each.items()}
        for block in range(len(stacked[0]["bias"]))
        for each in stacked
    ]
    output = {"kernel": encoder.outputs.kernel, "bias": encoder.outputs.bias}
    return {"input": plain(encoder.inputs), "hidden": hidden, "output": output}


def parts_of(parameters):
    """Parameters, or gradients, of the package in the form used here."""
    return {
        "actor": weights_of(parameters.actor.encoder),
        "critic": {
            "pair": weights_of(parameters.critic.state_action),
            "goal": weights_of(parameters.critic.goal),
        },
        "log_temperature": parameters.log_temperature,
    }


def assert_close(ours, theirs):
    """Every array within 1e-5 of its largest entry, since rounding is of that order."""
    ours, theirs = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for path, expected in theirs.items():
        size = float(jnp.abs(expected).max())
        assert size > 0, path
        error = float(jnp.abs(ours[path] - expected).max())
        assert error <= TOLERANCE * size, (jax.tree_util.keystr(path), error, size)


@pytest.fixture(scope="module")
def setting():
    """Agent, a state whose every weight is random, a batch and a key."""
    task = make_task("ant")
    agent = build_agent(CONFIG, TrainSchedule.derive(CONFIG, task.episode_length), task)
    generator = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    state = jax.jit(agent.init)(jax.random.key(0))
    # Biases that are all zero and scales that are all one would hide a mistake.
    parameters = jax.tree.map(lambda leaf: leaf + 0.1 * draw(*leaf.shape), state.parameters)
    batch = contrastive_batch(
        draw(BATCH, 29), jnp.tanh(draw(BATCH, 8)), draw(BATCH, 2), draw(BATCH, 2)
    )
    return agent, CRLState(parameters, state.optimiser), batch, jax.random.key(3)


@pytest.fixture(scope="module")
def independent(setting):
    """Losses, gradients and parameters after a step, by the functions above."""
    _, state, batch, key = setting
    weights = parts_of(state.parameters)
    noise = jax.random.normal(jax.random.split(key)[1], (BATCH, 8))

    def compute(weights):
        temperature = jnp.exp(weights["log_temperature"])
        critic, critic_gradient = jax.value_and_grad(critic_loss)(weights["critic"], batch)
        (actor, log_prob), actor_gradient = jax.value_and_grad(actor_loss, has_aux=True)(
            weights["actor"], weights["critic"], temperature, batch, noise
        )
        tuning, temperature_gradient = jax.value_and_grad(temperature_loss)(
            weights["log_temperature"], log_prob
        )
        gradients = {
            "actor": actor_gradient,
            "critic": critic_gradient,
            "log_temperature": temperature_gradient,
        }
        losses = {"actor": actor, "critic": critic, "temperature": tuning}
        return losses, gradients, jax.tree.map(first_adam_step, weights, gradients)

    return jax.jit(compute)(weights)


@pytest.fixture(scope="module")
def package(setting):
    """The same by the package: values, gradients, and what its update makes of them."""
    agent, state, batch, key = setting

    def critic_loss(critic):
        return agent.critic_loss(critic, batch)[0]

    def actor_loss(actor, parameters):
        psi, action_key = parameters.critic.goal(batch.goal), jax.random.split(key)[1]
        return agent.actor_loss(actor, parameters, batch.observation, batch.goal, psi, action_key)

    def temperature_loss_of(log_temperature, log_prob):
        return temperature_loss_of_package(log_temperature, log_prob, agent.target_entropy(state))

    def compute(state):
        parameters = state.parameters
        critic, critic_gradient = jax.value_and_grad(critic_loss)(parameters.critic)
        (actor, (_, log_prob)), actor_gradient = jax.value_and_grad(actor_loss, has_aux=True)(
            parameters.actor, parameters
        )
        tuning, temperature_gradient = jax.value_and_grad(temperature_loss_of)(
            parameters.log_temperature, log_prob
        )
        losses = {"actor": actor, "critic": critic, "temperature": tuning}
        gradients = type(parameters)(actor_gradient, critic_gradient, temperature_gradient)
        return losses, gradients, agent.update(state, batch, key)

    return jax.jit(compute)(state)


def test_losses_and_gradients_match_the_published_update(package, independent):
    (losses, gradients, _), (expected, expected_gradients, _) = package, independent
    for part, loss in expected.items():
        np.testing.assert_allclose(losses[part], loss, rtol=TOLERANCE)
    assert_close(parts_of(gradients), expected_gradients)


def test_updated_parameters_match_the_published_update(package, independent):
    """With the reported losses, so that the comparison covers the training update."""
    (_, _, (after, metrics)), (losses, _, expected) = package, independent
    for part in ("critic", "actor"):
        np.testing.assert_allclose(metrics[f"{part}/loss"], losses[part], rtol=TOLERANCE)
    assert_close(parts_of(after.parameters), expected)


def test_step_exceeds_the_comparison_tolerance(setting, independent):
    """The comparison can fail: every array changes by more than the tolerance."""
    before = jax.tree.leaves(parts_of(setting[1].parameters))
    for old, new in zip(before, jax.tree.leaves(independent[2]), strict=True):
        assert float(jnp.abs(new - old).max()) > 10 * TOLERANCE * float(jnp.abs(old).max())
