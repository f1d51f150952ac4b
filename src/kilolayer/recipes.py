"""Named methods from papers: settings that override those recommended for a task.

docs/recipes.md lists what each recipe takes from its paper and what it leaves out.
"""

from typing import Any

from kilolayer.agents.crl import CRL
from kilolayer.config import RunConfig
from kilolayer.errors import bad_field, nearest
from kilolayer.settings import values_of

# Blocks of two layers with an activation between them.
PAIRS: dict[str, Any] = {
    "residual": "add",
    "norm": "layer",
    "norm_position": "post",
    "activation": "relu",
    "branch_activation": False,
    "expansion": 1,
    "layers_per_block": 2,
    "branch_scale": "none",
    "weight_decay": 0.0,
}

RECIPES: dict[str, dict[str, Any]] = {
    # arXiv 2503.14858, section 3 and its code: the whole method, with its batch size and number of
    # environments, at any depth, width and number of steps. The agent's own defaults are its
    # settings of the objective.
    "wang2025": values_of(CRL())
    | {
        "batch_size": 512,
        "num_envs": 512,
        "unroll_length": 62,
        "episode_length": 1000,
        "goal_interval": None,
        "update_to_data": 1 / 40,
        "replay_steps_per_env": 10_000,
        "min_replay_steps_per_env": 1_000,
        "residual": "add",
        "norm": "layer",
        "norm_position": "post",
        "activation": "swish",
        "branch_activation": True,
        "expansion": 1,
        "layers_per_block": 4,
        "branch_scale": "none",
        "compute_dtype": "float32",
    },
    # The other recipes are architectures with their weight decay: objective, learning rates and
    # sizes stay those of the task. arXiv 2410.09754, without its running statistics of
    # observations: LayerNorm, Dense four times wider, ReLU, Dense; a LayerNorm before the output.
    "simba": PAIRS | {"norm_position": "pre", "expansion": 4, "weight_decay": 1e-2},
    # arXiv 2502.15280, without its running statistics of observations and its distributional
    # critic: kernels projected to unit columns, features on a sphere, learnt scales and
    # interpolation.
    "simba-v2": PAIRS | {"residual": "interpolate", "norm": "hyperspherical", "expansion": 4},
    # arXiv 2405.16158, without its resets, optimism and quantiles: Dense, LayerNorm, ReLU, Dense,
    # LayerNorm; AdamW with the weight decay that its code leaves at optax's default.
    "bronet": PAIRS | {"weight_decay": 1e-4},
    # A network with none of these: Dense, ReLU.
    "plain-mlp": PAIRS
    | {"residual": "none", "norm": "none", "branch_activation": True, "layers_per_block": 1},
}


def with_recipe(config: RunConfig, name: str) -> RunConfig:
    """The config with a recipe's settings. An agent takes only the settings that it has.

    Raises UserError for an unknown recipe.
    """
    return config.taking(recipe_named(name))


def recipe_named(name: str) -> dict[str, Any]:
    """The settings of a recipe; raises UserError for an unknown recipe."""
    if name not in RECIPES:
        raise bad_field("recipe", name, f"one of {', '.join(RECIPES)}", nearest(name, RECIPES))
    return RECIPES[name]
