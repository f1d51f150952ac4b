"""Depth: the published form blows up where the default takes stable steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.config import RunConfig, run_config
from kilolayer.recipes import with_recipe
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.tasks.registry import make_task
from probes import contrastive_batch

BATCH, UPDATES = 32, 12
CHANCE = np.log(BATCH)
DEEP = run_config(depth=256, width=16, representation_dim=16, batch_size=BATCH)


@pytest.fixture
def losses():
    """`losses(config)`: of every update on one batch whose goals lie near their observations."""
    task = make_task("point_u_maze")
    generator = np.random.default_rng(0)
    place = jnp.asarray(generator.normal(size=(BATCH, 2)), jnp.float32)
    velocity, action = jnp.asarray(generator.normal(size=(2, BATCH, 2)), jnp.float32)
    observation = jnp.concatenate([place, velocity], -1)
    batch = contrastive_batch(observation, jnp.tanh(action), place, place)

    def train(config: RunConfig) -> dict[str, np.ndarray]:
        agent = build_agent(config, TrainSchedule.derive(config, task.episode_length), task)
        keys = jax.random.split(jax.random.key(0), UPDATES)

        @jax.jit
        def run(key):
            return jax.lax.scan(lambda s, k: agent.update(s, batch, k), agent.init(key), keys)[1]

        return {name: np.asarray(values) for name, values in run(jax.random.key(1)).items()}

    return train


def test_default_settings_are_stable_at_depth_256(losses):
    found = losses(DEEP)
    assert all(np.isfinite(values).all() for values in found.values())
    contrastive = found["critic/contrastive_loss"]
    assert contrastive[0] == pytest.approx(CHANCE, rel=0.25)
    assert contrastive.max() < 1.25 * CHANCE
    assert contrastive[-1] < CHANCE
    assert contrastive[-1] < contrastive[0] - 0.1
    assert np.abs(found["actor/loss"]).max() < 20


def test_published_form_starts_far_from_chance_loss_at_depth_256(losses):
    found = losses(with_recipe(DEEP, "wang2025"))
    assert found["critic/loss"][0] > 30 * CHANCE
    assert found["critic/gradient_norm"][0] > 100
    assert np.abs(found["actor/loss"][0]) > 20
