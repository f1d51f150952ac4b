"""Converts config files of earlier formats to the present one.

Versions 1 and 2 are one flat object of settings. In version 2 `ant` is the ant of MuJoCo's
goal-reaching benchmarks, in version 1 Gym's ant. Version 3 has groups of settings.
"""

from collections.abc import Iterable
from typing import Any

from kilolayer.agents.registry import agent_class
from kilolayer.errors import UserError, nearest
from kilolayer.losses.energies import RENAMED
from kilolayer.settings import settings_of

VERSION = 3
# Tasks of the ant that no longer exist for Gym's ant.
WITHOUT_GYM_ANT = ("ant_ball", "ant_push")

# The group of each setting of a flat file; all others belong to the agent.
FLAT = {
    "task": (
        "task", "gym", "mjcf", "goal_site", "goal_body", "goal_box", "goal_radius", "control_step",
    ),
    "network": (
        "depth", "actor_depth", "critic_depth", "width", "layers_per_block", "residual", "norm",
        "norm_position", "activation", "branch_activation", "expansion", "branch_scale",
        "rematerialisation", "scan_unroll", "compute_dtype",
    ),
    "collection": (
        "total_steps", "num_envs", "unroll_length", "episode_length", "goal_interval",
        "update_to_data", "dataset",
    ),
    "physics": ("physics", "mjx_impl"),
    "replay": ("replay_steps_per_env", "min_replay_steps_per_env"),
    "evaluation": ("num_evaluations", "evaluate_training_goals", "eval_envs", "samples"),
    "checkpoints": ("num_checkpoints", "keep_checkpoints"),
    "tracking": ("tensorboard", "profile", "wandb"),
    "": ("seed", "start_from"),
}  # fmt: skip
FLAT_AGENT = (
    "agent", "batch_size", "discount", "initial_discount", "actor_learning_rate",
    "critic_learning_rate", "temperature_learning_rate", "final_learning_rate_share",
    "average_decay", "weight_decay", "energy", "contrastive_loss", "logsumexp_penalty",
    "initial_temperature", "target_entropy_per_action", "shuffled_goal_share",
    "commanded_goal_share", "hindsight_goal_share", "target_rate", "hindsight_goal_noise",
    "absorbing_termination", "representation_dim", "collector_depth",
)  # fmt: skip
# Removed settings without a successor, with the value at which they did nothing.
REMOVED = {"greedy_env_share": 0.0, "stall_length": None, "initial_episode_length": None}
COLLECTOR_LEARNER = "kilolayer.studies.collector_learner:CollectorLearner"


def migrated(values: dict[str, Any], source: str) -> dict[str, Any]:
    """The values of a config file in the present format; `source` names it in errors.

    Raises UserError for a later format, an unknown key, or a task whose body has changed since.
    """
    version = values.get("version", 1)
    if type(version) is not int or version not in range(1, VERSION + 1):
        raise UserError(
            f"{source} has version = {version!r}, where this release reads up to {VERSION}: "
            "open it with the release that wrote it, or a newer one."
        )
    values = {key: value for key, value in values.items() if key != "version"}
    if version == VERSION:
        return values
    _check_body(version, values, source)
    return _grouped(values, source)


def unknown_key(key: str, known: Iterable[str], source: str) -> UserError:
    return UserError(
        f"{source} has an unknown key {key!r}; the nearest is {nearest(key, known)!r}."
    )


def _check_body(version: int, values: dict[str, Any], source: str) -> None:
    task = str(values.get("task", ""))
    if version == 1 and (task == "ant" or task.startswith("ant_")):
        old = "" if task in WITHOUT_GYM_ANT else f"write gym_{task} as its task to keep them, or "
        raise UserError(
            f"{source} was written when task {task} had the motors of Gym's ant (gear 150, 20 Hz): "
            f'{old}add "version": 2 for the present ones (gear 30, 10 Hz).'
        )


def _grouped(values: dict[str, Any], source: str) -> dict[str, Any]:
    """A flat object, by groups. It has the settings of all agents; other agents' are dropped."""
    home = {name: group for group, names in FLAT.items() for name in names}
    known = (*home, *FLAT_AGENT)
    groups: dict[str, Any] = {name: {} for name in FLAT if name}
    agent: dict[str, Any] = {}
    for key, value in values.items():
        if key in REMOVED and value == REMOVED[key]:
            continue
        if key in REMOVED:
            raise UserError(
                f"{source} has {key} = {value!r}, which no longer exists and has no successor: "
                "delete it from a copy of the file."
            )
        if key not in known:
            raise unknown_key(key, known, source)
        place = agent if key not in home else groups[home[key]] if home[key] else groups
        place[key] = value
    name = agent.pop("agent", "crl")
    if agent.get("collector_depth") is not None:
        name = COLLECTOR_LEARNER
    if "energy" in agent:  # in these formats, the former names were the only ones
        agent["energy"] = RENAMED.get(str(agent["energy"]), agent["energy"])
    owned = settings_of(agent_class(str(name)))
    own = {key: value for key, value in agent.items() if key in owned}
    return {**groups, "agent": {"name": name, **own}}
