"""Every preset can be run, and none is changed by deriving its plan."""

import dataclasses

import pytest

from kilolayer.config import TrainConfig
from kilolayer.plan import TrainPlan
from kilolayer.presets import PRESETS, with_recipe
from kilolayer.tasks.registry import make_task


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_derives_a_plan_for_its_task(name):
    config = PRESETS[name]
    before = dataclasses.asdict(config)
    task = make_task(config.task)
    plan = TrainPlan.derive(config, task.episode_length)
    assert plan.total_steps >= config.total_steps
    assert plan.updates_per_unroll > 1
    assert plan.training_unrolls > 10
    assert len(plan.evaluate_after) == config.num_evaluations
    assert plan.episode_length == (config.episode_length or task.episode_length)
    assert dataclasses.asdict(PRESETS[name]) == before


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_survives_its_file(name):
    assert TrainConfig.from_json(PRESETS[name].to_json(), name) == PRESETS[name]


def test_the_paper_preset_is_the_published_recipe():
    config = PRESETS["paper"]
    assert with_recipe(config, "wang2025") == config
    assert config.branch_scale == "none"
    assert (config.num_envs, config.batch_size, config.unroll_length) == (512, 512, 62)
    assert (config.depth, config.width, config.representation_dim) == (64, 256, 64)
    assert (config.update_to_data, config.discount) == (1 / 40, 0.99)
    assert (config.energy, config.contrastive_loss) == ("l2", "forward")
    assert config.logsumexp_penalty == 0.1
    assert config.target_entropy_per_action == -0.5
    rates = {config.actor_learning_rate, config.critic_learning_rate}
    assert rates | {config.temperature_learning_rate} == {3e-4}
