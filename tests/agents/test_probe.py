"""The critic learns the analytic answer: the log occupancy ratio of a small Markov chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kilolayer.agents.base import Problem, TaskSpec
from kilolayer.agents.crl import CRL, Critic
from kilolayer.losses.energies import pairwise
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from probes import Chain

pytestmark = pytest.mark.slow

DISCOUNT = 0.9
CHAIN = Chain()
ENVS, EPISODES = 2048, 2
UPDATES, BATCH = 600, 128


def buffer_from_dataset() -> ring.Buffer:
    """Recorded steps; the ring buffer wraps and holds complete episodes."""
    length, states = CHAIN.episode_length, CHAIN.states
    buffer = ring.init(EPISODES * length, ENVS, states, 2, states)
    play = CHAIN.play(ENVS, EPISODES + 1, seed=0)
    insert = jax.jit(ring.insert)
    for first in range(0, (EPISODES + 1) * length, length):
        unroll = jax.tree.map(lambda leaf, first=first: leaf[first : first + length], play)
        buffer = insert(buffer, unroll)
    return buffer


def train_critic(agent: CRL, buffer: ring.Buffer) -> Critic:
    """The agent's critic loss on batches of the buffer; the step size decays to zero."""
    critic = jax.jit(agent.init)(jax.random.key(0)).parameters.critic
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, UPDATES))

    def update(carry, key):
        critic, moments = carry
        batch = hindsight.sample(buffer, key, BATCH, DISCOUNT, CHAIN.episode_length)
        gradient, _ = jax.grad(agent.critic_loss, has_aux=True)(critic, batch)
        change, moments = optimiser.update(gradient, moments)
        return (optax.apply_updates(critic, change), moments), None

    @jax.jit
    def run(critic, keys):
        return jax.lax.scan(update, (critic, optimiser.init(critic)), keys)[0][0]

    return run(critic, jax.random.split(jax.random.key(1), UPDATES))


@pytest.fixture(scope="module")
def buffer() -> ring.Buffer:
    return buffer_from_dataset()


@pytest.mark.parametrize(
    ("energy", "loss"), [("euclidean", "forward"), ("dot", "symmetric"), ("dot", "binary")]
)
def test_energies_are_the_log_occupancy_ratio(energy, loss, buffer):
    """Optimal energies are log p(g|s,a)/p(g), up to what the loss cannot see.

    Forward InfoNCE is blind to a constant for each (s, a); symmetric to one constant; binary
    noise-contrastive estimation to none, since positives and negatives weigh the same.
    """
    torso = TorsoSpec(depth=4, width=32)
    spec = TaskSpec(CHAIN.states, 2, CHAIN.states)
    agent = CRL(
        representation_dim=16, energy=energy, contrastive_loss=loss, logsumexp_penalty=0.0
    ).on(Problem(spec, torso, torso))
    critic = train_critic(agent, buffer)
    states, actions = (grid.ravel() for grid in np.indices((CHAIN.states, 2)))
    phi = critic.encode_pair(jnp.eye(CHAIN.states)[states], jnp.eye(2)[actions])
    psi = critic.goal(jnp.eye(CHAIN.states))
    error = np.asarray(pairwise(energy, phi, psi)) - CHAIN.log_ratio(DISCOUNT).reshape(-1, 5)
    weight = CHAIN.joint(DISCOUNT).reshape(-1, CHAIN.states)
    if loss == "forward":
        error -= (weight * error).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    elif loss == "symmetric":
        error -= (weight * error).sum()
    assert np.abs(error).mean() < 0.15


def test_hindsight_batches_follow_the_chains_joint_distribution(buffer):
    """The second part of the claim: the batches that buffer and sampler give to the critic."""
    batch = jax.jit(lambda key: hindsight.sample(buffer, key, 200_000, DISCOUNT, 10))(
        jax.random.key(3)
    )
    places = [np.asarray(x).argmax(-1) for x in (batch.observation, batch.action, batch.goal)]
    counts = np.zeros((CHAIN.states, 2, CHAIN.states))
    np.add.at(counts, tuple(places), 1)
    np.testing.assert_allclose(counts / counts.sum(), CHAIN.joint(DISCOUNT), atol=3e-3)


def test_exact_log_ratio_varies_and_depends_on_the_action():
    """So that the comparison above can fail."""
    ratio, joint = CHAIN.log_ratio(DISCOUNT), CHAIN.joint(DISCOUNT)
    assert joint.sum() == pytest.approx(1.0)
    assert np.abs(ratio).mean() > 0.5
    assert np.abs(ratio[:, 0] - ratio[:, 1]).max() > 0.5
