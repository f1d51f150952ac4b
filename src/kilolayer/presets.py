"""Named starting points for a config; options given beside a preset override its fields.

A preset is a whole config; a recipe is how to learn, and leaves task and sizes alone.
"""

import dataclasses
from typing import Any

from kilolayer.config import TrainConfig

# What each recipe takes from its paper and what it leaves out: docs/recipes.md.
RECIPES: dict[str, dict[str, Any]] = {
    # arXiv 2503.14858, section 3 and its code, at any depth and width.
    "wang2025": {
        "residual": "add",
        "norm": "layer",
        "norm_position": "post",
        "activation": "swish",
        "branch_activation": True,
        "expansion": 1,
        "layers_per_block": 4,
        "branch_scale": "none",
        "weight_decay": 0.0,
        "average_decay": 0.0,
        "representation_dim": 64,
        "compute_dtype": "float32",
        "update_to_data": 1 / 40,
        "discount": 0.99,
        "initial_discount": None,
        "actor_learning_rate": 3e-4,
        "critic_learning_rate": 3e-4,
        "temperature_learning_rate": 3e-4,
        "energy": "l2",
        "contrastive_loss": "forward",
        "logsumexp_penalty": 0.1,
        "initial_temperature": 1.0,
        "target_entropy_per_action": -0.5,
        "shuffled_goal_share": 0.0,
        "commanded_goal_share": 0.0,
        "absorbing_termination": False,
        "goal_interval": None,
    },
    # The others are architectures with the weight decay that belongs to them: objective, learning
    # rates and sizes stay those of the preset. arXiv 2410.09754, without its running statistics of
    # observations: LayerNorm, Dense four times wider, ReLU, Dense; a LayerNorm before the output.
    "simba": {
        "residual": "add",
        "norm": "layer",
        "norm_position": "pre",
        "activation": "relu",
        "branch_activation": False,
        "expansion": 4,
        "layers_per_block": 2,
        "branch_scale": "none",
        "weight_decay": 1e-2,
    },
    # arXiv 2502.15280, without the same and without its distributional critic: kernels projected
    # to unit columns, features on a sphere, learnt scales and interpolation.
    "simba-v2": {
        "residual": "interpolate",
        "norm": "hyperspherical",
        "norm_position": "post",
        "activation": "relu",
        "branch_activation": False,
        "expansion": 4,
        "layers_per_block": 2,
        "branch_scale": "none",
        "weight_decay": 0.0,
    },
    # arXiv 2405.16158, without its resets, optimism and quantiles: Dense, LayerNorm, ReLU, Dense,
    # LayerNorm; AdamW with the weight decay that its code leaves at optax's default.
    "bronet": {
        "residual": "add",
        "norm": "layer",
        "norm_position": "post",
        "activation": "relu",
        "branch_activation": False,
        "expansion": 1,
        "layers_per_block": 2,
        "branch_scale": "none",
        "weight_decay": 1e-4,
    },
    # What is left without any of it: Dense, ReLU.
    "plain-mlp": {
        "residual": "none",
        "norm": "none",
        "norm_position": "post",
        "activation": "relu",
        "branch_activation": True,
        "expansion": 1,
        "layers_per_block": 1,
        "branch_scale": "none",
        "weight_decay": 0.0,
    },
}


def with_recipe(config: TrainConfig, name: str) -> TrainConfig:
    """The config with a recipe's fields; raises KeyError for a name that is none."""
    return dataclasses.replace(config, **RECIPES[name])


PRESETS: dict[str, TrainConfig] = {
    # A point U-maze that two cores learn in two minutes: see results/point_u_maze.
    "quickstart": TrainConfig(
        task="point_u_maze",
        total_steps=320_000,
        num_envs=128,
        unroll_length=50,
        goal_interval=50,
        depth=8,
        width=64,
        batch_size=128,
        update_to_data=1 / 20,
        actor_learning_rate=5e-4,
        critic_learning_rate=5e-4,
        temperature_learning_rate=1e-3,
        average_decay=0.999,
        initial_temperature=0.05,
        discount=0.98,
        contrastive_loss="symmetric",
        logsumexp_penalty=0.01,
        shuffled_goal_share=0.5,
        replay_steps_per_env=4_000,
        min_replay_steps_per_env=200,
        num_evaluations=8,
    ),
    # The real thing on two cores: native MuJoCo physics, 90 minutes. The best found so far; what
    # was measured and what each choice is for stands in results/ant.
    "laptop": TrainConfig(
        task="ant",
        total_steps=15_000_000,
        update_to_data=1 / 60,
        episode_length=300,
        discount=0.995,
        initial_discount=0.95,
        absorbing_termination=True,
        commanded_goal_share=0.5,
        contrastive_loss="symmetric",
        logsumexp_penalty=0.01,
        actor_learning_rate=5e-4,
        critic_learning_rate=5e-4,
        temperature_learning_rate=1e-3,
        initial_temperature=0.02,
        replay_steps_per_env=1_000,
        min_replay_steps_per_env=400,
        num_evaluations=40,
    ),
    # An arm that learns to push a cube to places, in half an hour on one core: see
    # results/arm_push_easy.
    "arm": TrainConfig(
        task="arm_push_easy",
        total_steps=1_600_000,
        unroll_length=50,
        width=128,
        update_to_data=1 / 20,
        discount=0.97,
        commanded_goal_share=0.5,
        contrastive_loss="symmetric",
        logsumexp_penalty=0.01,
        actor_learning_rate=5e-4,
        critic_learning_rate=5e-4,
        temperature_learning_rate=1e-3,
        initial_temperature=0.02,
        replay_steps_per_env=4_000,
        min_replay_steps_per_env=400,
    ),
    # arXiv 2503.14858: for a GPU.
    "paper": TrainConfig(
        task="ant_big_maze",
        total_steps=100_000_000,
        num_envs=512,
        batch_size=512,
        depth=64,
        num_evaluations=100,
        **RECIPES["wang2025"],
    ),
}
