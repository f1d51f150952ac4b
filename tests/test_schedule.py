"""The plan: hand computations, and one refusal per check."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.agents.registry import AGENTS
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.schedule import TrainSchedule
from kilolayer.settings import settings_of
from kilolayer.tasks.choice import TaskChoice


def derive(**changes) -> TrainSchedule:
    return TrainSchedule.derive(run_config(**with_owner(changes)), task_episode_length=1000)


def with_owner(changes: dict) -> dict:
    """The changes, with the first agent that has all of them."""
    own = run_config().flat()
    if all(name in own for name in changes):
        return changes
    able = (name for name in AGENTS if all(c in run_config(agent=name).flat() for c in changes))
    return {"agent": next(able), **changes}


def depths(schedule: TrainSchedule) -> tuple[int, int]:
    return schedule.actor_torso.depth, schedule.critic_torso.depth


def test_plan_matches_published_counts():
    schedule = derive(
        num_envs=512, unroll_length=62, update_to_data=1 / 40, batch_size=512,
        total_steps=100_000_000, min_replay_steps_per_env=1000, replay_steps_per_env=10_000,
        num_evaluations=100, depth=64,
    )  # fmt: skip
    assert schedule.steps_per_unroll == 512 * 62 == 31_744
    assert schedule.updates_per_unroll == 794  # 793.6
    assert schedule.prefill_unrolls == 17  # 16.1 unrolls of 62 are 1000 steps
    assert schedule.replay_capacity == 162 * 62  # 161.3 unrolls are 10000 steps
    assert schedule.prefill_unrolls + schedule.training_unrolls == 3151  # 3150.2
    assert schedule.total_steps == 3151 * 31_744 >= 100_000_000
    assert schedule.training_unrolls * schedule.updates_per_unroll == (3151 - 17) * 794
    assert depths(schedule) == (64, 64)
    assert schedule.episode_length == 1000
    assert len(schedule.evaluate_after) == 100
    assert schedule.evaluate_after[0] == 31
    assert schedule.evaluate_after[-1] == schedule.training_unrolls


def test_batch_size_does_not_change_number_of_updates():
    counts = {derive(batch_size=size).updates_per_unroll for size in (2, 64, 256, 4096)}
    assert len(counts) == 1


def test_actor_critic_depth_and_episode_length_are_independent():
    schedule = derive(depth=8, critic_depth=16, episode_length=50)
    assert depths(schedule) == (8, 16)
    assert schedule.episode_length == 50
    schedule = derive(depth=6, actor_depth=12, layers_per_block=6)
    assert depths(schedule) == (12, 6)


@pytest.mark.parametrize(
    ("changes", "actor", "critic"),
    [
        ({"depth": 8}, 1.0, 1.0),  # two blocks add up unscaled
        ({"depth": 12}, 2 / 3, 2 / 3),
        ({"depth": 1024}, 2 / 256, 2 / 256),
        ({"actor_depth": 1024, "critic_depth": 8}, 2 / 256, 1.0),
        ({"depth": 32, "layers_per_block": 2}, 2 / 16, 2 / 16),
        ({"depth": 1024, "branch_scale": "none"}, 1.0, 1.0),
        ({"depth": 1024, "residual": "none"}, 1.0, 1.0),
        ({"actor_depth": 4, "critic_depth": 12, "residual": "interpolate"}, 1 / 2, 1 / 4),
    ],
)
def test_branch_scale_of_deep_stacks(changes, actor, critic):
    schedule = derive(**changes)
    assert schedule.actor_torso.branch_scale == pytest.approx(actor)
    assert schedule.critic_torso.branch_scale == pytest.approx(critic)


@pytest.mark.parametrize(
    ("changes", "platform", "expected"),
    [
        # Arrays of 512 x 256 x 4 bytes, 0.52 MB: 1.5 of each of 2 x 1024 layers are 1.6 GB.
        ({"depth": 1024}, "cpu", "none"),
        # 1.5 of 2 x 2048 layers are 3.2 GB, streams of 2 x 512 blocks 0.54 GB.
        ({"depth": 2048}, "cpu", "block"),
        # 2.5 of 2 x 2048 layers are 5.4 GB, of 2 x 4096 layers 10.7 GB.
        ({"depth": 2048}, "gpu", "none"),
        ({"depth": 4096}, "gpu", "block"),
        ({"depth": 4096, "norm": "rms"}, "gpu", "none"),
        # The actor's gradient passes its own layers and one encoder's.
        ({"actor_depth": 2048, "critic_depth": 4}, "cpu", "none"),
        ({"actor_depth": 4096, "critic_depth": 4}, "cpu", "block"),
        # Streams of 2 x 1024 blocks, 2048 x 256 x 4 bytes: 4.3 GB.
        ({"depth": 4096, "batch_size": 2048}, "cpu", "nested"),
        ({"depth": 4096, "batch_size": 2048, "rematerialisation": "none"}, "cpu", "none"),
        ({"depth": 4, "rematerialisation": "nested"}, "cpu", "nested"),
    ],
)
def test_rematerialisation_is_the_cheapest_that_fits(changes, platform, expected):
    config = run_config(**{"batch_size": 512, **changes})
    schedule = TrainSchedule.derive(config, 1000, platform)
    assert schedule.rematerialisation == expected
    assert schedule.describe().endswith(
        f"{'no' if expected == 'none' else expected} rematerialisation"
    )


@pytest.mark.parametrize(
    ("changes", "platform", "lean"),
    [
        ({}, "gpu", True),
        ({"depth": 1024}, "gpu", True),
        ({}, "cpu", False),
        ({"rematerialisation": "block"}, "gpu", False),
        ({"norm": "rms"}, "gpu", False),
        ({"activation": "relu"}, "gpu", False),
    ],
)
def test_lean_gradients_are_used_where_faster(changes, platform, lean):
    schedule = TrainSchedule.derive(run_config(**changes), 1000, platform)
    assert schedule.actor_torso.lean is schedule.critic_torso.lean is lean
    said = ", lean gradients, " if lean else ", gradients by autodiff, "
    assert said in schedule.describe()


@pytest.mark.parametrize(
    ("changes", "platform", "unroll"),
    [
        ({"depth": 64}, "cpu", 1),
        ({"depth": 64}, "gpu", 1),  # lean gradients: not timed with more
        ({"depth": 64, "norm": "rms"}, "gpu", 4),
        ({"depth": 8, "norm": "rms"}, "gpu", 2),  # it has no more blocks
        ({"depth": 64, "norm": "rms", "rematerialisation": "block"}, "gpu", 1),  # not timed
        ({"depth": 64, "scan_unroll": 3}, "cpu", 3),
        ({"depth": 64, "scan_unroll": 3}, "gpu", 3),
    ],
)
def test_blocks_per_scan_iteration_are_chosen_by_platform(changes, platform, unroll):
    schedule = TrainSchedule.derive(run_config(**changes), 1000, platform)
    assert schedule.actor_torso.scan_unroll == schedule.critic_torso.scan_unroll == unroll
    assert f"blocks per scan iteration: {unroll}, " in schedule.describe()


@given(
    total=st.integers(1, 10**7),
    envs=st.integers(1, 600),
    length=st.integers(1, 100),
    evaluations=st.integers(1, 40),
    checkpoints=st.none() | st.integers(1, 40),
)
def test_plan_counts_are_consistent(total, envs, length, evaluations, checkpoints):
    config = run_config(
        total_steps=total, num_envs=envs, unroll_length=length, num_evaluations=evaluations,
        num_checkpoints=checkpoints, batch_size=2, update_to_data=1.0,
    )  # fmt: skip
    schedule = TrainSchedule.derive(config, 100)
    assert schedule.replay_capacity % length == 0
    assert 0 <= schedule.replay_capacity - config.replay.replay_steps_per_env < length
    assert 0 <= schedule.prefill_unrolls * length - config.replay.min_replay_steps_per_env < length
    assert schedule.total_steps >= total
    assert schedule.updates_per_unroll == envs * length
    counts = (evaluations, checkpoints or evaluations)
    for count, due in zip(counts, (schedule.evaluate_after, schedule.save_after), strict=True):
        assert list(due) == sorted(set(due))
        assert len(due) == min(count, schedule.training_unrolls)
        assert 1 <= due[0] <= due[-1] == schedule.training_unrolls


def refusal(changes: dict) -> str:
    """The error message for the changes; empty if they are valid."""
    try:
        derive(**changes)
    except UserError as error:
        return str(error)
    return ""


def test_an_on_policy_agent_learns_from_its_first_unroll() -> None:
    """PPO would throw away what is collected before its updates."""
    settings = {"total_steps": 100_000, "num_envs": 10, "unroll_length": 50}
    schedule = derive(agent="ppo", min_replay_steps_per_env=20_000, batch_size=256, **settings)
    assert (schedule.prefill_unrolls, schedule.training_unrolls, schedule.replay_capacity) == (
        0,
        200,
        50,
    )


# (changes, field of the message, words of the message, nearest valid choice or None)
REFUSED = [
    ({"depth": 6}, "depth", "a multiple of layers_per_block = 4, at least 4", 8),
    ({"depth": 5}, "depth", "a multiple of layers_per_block = 4", 4),
    ({"depth": 0}, "depth", "at least 4", 4),
    ({"actor_depth": 7}, "actor_depth", "a multiple of layers_per_block = 4", 8),
    ({"critic_depth": 1023}, "critic_depth", "a multiple of layers_per_block = 4", 1024),
    ({"depth": 8, "layers_per_block": 3}, "depth", "layers_per_block = 3", 9),
    *(
        ({field: 0}, field, "at least 1", 1)
        for field in (
            "total_steps", "num_envs", "unroll_length", "width", "layers_per_block",
            "expansion", "representation_dim", "scan_unroll", "eval_envs",
            "samples", "keep_checkpoints",
            "replay_steps_per_env", "min_replay_steps_per_env",
        )
    ),
    *(
        ({field: value}, field, "greater than 0", default)
        for field, default in (("actor_learning_rate", 3e-4), ("critic_learning_rate", 3e-4),
                               ("temperature_learning_rate", 3e-4), ("initial_temperature", 1.0))
        for value in (0.0, -1.0)
    ),
    ({"expansion": 4, "layers_per_block": 1}, "expansion", "a block of one layer", 1),
    ({"norm": "hyperspherical", "norm_position": "pre"}, "norm_position",
     "normalised after every product", None),
    ({"weight_decay": -1e-4}, "weight_decay", "at least 0", 0.0),
    ({"norm": "batch"}, "norm", "one of layer, rms, none, hyperspherical", "layer"),
    ({"goal_radius": 0.0}, "goal_radius", "greater than 0", None),
    ({"seed": -1}, "seed", "[0, 4294967296)", 0),
    ({"seed": 2**32}, "seed", "[0, 4294967296)", 0),
    ({"episode_length": 1}, "episode_length", "at least 2", 2),
    ({"batch_size": 1}, "batch_size", "at least 2", 2),
    ({"discount": 0.0}, "discount", "(0, 1]", 0.99),
    ({"discount": 1.01}, "discount", "(0, 1]", 1.0),
    ({"initial_discount": 0.995}, "initial_discount", "(0, 0.99]", 0.99),
    ({"initial_discount": 0.0}, "initial_discount", "(0, 1]", None),
    ({"initial_discount": 0.9, "discount": 1.0}, "discount", "it must be below 1", 0.99),
    ({"update_to_data": 0.0}, "update_to_data", "(0, 1000000]", 0.025),
    ({"update_to_data": -1.0}, "update_to_data", "(0, 1000000]", 0.025),
    ({"update_to_data": 1e308}, "update_to_data", "(0, 1000000]", 1e6),
    ({"num_checkpoints": 0}, "num_checkpoints", "[1, 1000000]", 1),
    ({"num_checkpoints": 2**31 - 1}, "num_checkpoints", "[1, 1000000]", 1_000_000),
    ({"update_to_data": 1e-9, "num_envs": 10, "unroll_length": 50}, "update_to_data",
     "an unroll of 500 steps needs at least one update", 0.002),
    ({"logsumexp_penalty": -0.1}, "logsumexp_penalty", "at least 0", 0.0),
    ({"shuffled_goal_share": 1.5}, "shuffled_goal_share", "[0, 1]", 1.0),
    ({"shuffled_goal_share": -0.5}, "shuffled_goal_share", "[0, 1]", 0.0),
    ({"hindsight_goal_share": 1.5}, "hindsight_goal_share", "[0, 1]", 1.0),
    ({"final_learning_rate_share": -0.1}, "final_learning_rate_share", "[0, 1]", 0.0),
    ({"constant_share": 1.5}, "constant_share", "[0, 1]", 1.0),
    ({"num_evaluations": 0}, "num_evaluations", "[1, 1000000]", 1),
    ({"gym_processes": 0}, "gym_processes", "at least 1", 1),
    ({"horizon_growth_share": 0.0}, "horizon_growth_share", "(0, 1]", 1.0),
    ({"final_learning_rate_share": 2.0}, "final_learning_rate_share", "[0, 1]", 1.0),
    ({"hindsight_goal_noise": -0.5}, "hindsight_goal_noise", "at least 0", 0.0),
    ({"target_rate": 0.0}, "target_rate", "(0, 1]", 0.005),
    ({"target_rate": 2.0}, "target_rate", "(0, 1]", 1.0),
    ({"deterministic_env_share": 1.5}, "deterministic_env_share", "[0, 1]", 1.0),
    ({"commanded_goal_share": 1.5}, "commanded_goal_share", "[0, 1]", 1.0),
    ({"goal_interval": 0}, "goal_interval", "at least 1", 1),
    ({"average_decay": 1.0}, "average_decay", "[0, 1)", 0.0),
    ({"commanded_goal_share": 0.6, "shuffled_goal_share": 0.5}, "commanded_goal_share",
     "with shuffled_goal_share = 0.5 the two exceed 1", 0.5),
    ({"min_replay_steps_per_env": 20_000}, "min_replay_steps_per_env",
     "must not exceed replay_steps_per_env = 10000", 10_000),
    ({"batch_size": 1000, "num_envs": 4, "min_replay_steps_per_env": 100, "unroll_length": 50},
     "batch_size", "(4 environments x 99 steps)", 396),
    ({"num_envs": 1, "min_replay_steps_per_env": 1, "unroll_length": 1, "update_to_data": 1.0},
     "min_replay_steps_per_env", "two steps with a successor", 3),
    ({"depth": 8.0}, "depth", "whole number", None),
    ({"policy_delay": 0}, "policy_delay", "at least 1", 1),
    ({"seed": True}, "seed", "whole number", None),
    ({"energy": "euclid"}, "energy", "one of euclidean, squared_euclidean, dot, cosine",
     "euclidean"),
    ({"physics": "gpu"}, "physics", "one of auto, native, mjx", "auto"),
    ({"mjx_impl": "cuda"}, "mjx_impl", "one of jax, warp", "jax"),
    ({"compute_dtype": "float16"}, "compute_dtype", "one of float32, bfloat16", "bfloat16"),
    *(({"actor_depth": value}, "actor_depth", "whole number", None) for value in ("8", 8.0, True)),
    ({"episode_length": 99.5}, "episode_length", "whole number", None),
    *(
        ({field: value}, field, "finite number", None)
        for field in ("discount", "initial_discount", "update_to_data", "critic_learning_rate",
                      "logsumexp_penalty",
                      "target_entropy_per_action", "shuffled_goal_share",
                      "hindsight_goal_share", "hindsight_goal_noise", "target_rate",
                      "final_learning_rate_share", "clip", "gae_lambda", "entropy_weight",
                      "exploration_noise", "smoothing_noise", "smoothing_limit")
        for value in (float("nan"), float("inf"), "0.5")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "field", "allowed", "nearest"), REFUSED)
def test_plan_errors_name_field_value_range_and_nearest(changes, field, allowed, nearest):
    message = refusal(changes)
    value = changes.get(field, run_config().flat().get(field))
    assert message.startswith(f"{field} = {value!r} is not allowed: ")
    assert allowed in message
    found = re.search(r"; the nearest valid choice is (.*)\.$", message)
    if nearest is None:
        assert found is None
        return
    assert found is not None
    assert type(nearest)(found[1]) == pytest.approx(nearest)
    # With the nearest valid choice this field is no longer refused.
    assert not refusal({**changes, field: type(nearest)(nearest)}).startswith(f"{field} = ")


def test_every_ranged_field_has_a_refusal_test():
    refused = {field for _, field, *_ in REFUSED}
    free = {"agent", "rematerialisation", "branch_scale", "tensorboard", "wandb",
            "contrastive_loss", "absorbing_termination", "residual", "activation",
            "branch_activation", "evaluate_training_goals",
            "profile", "final_target_entropy_per_action"}  # fmt: skip
    # The choice of the task is checked when the task is built.
    free |= {"dataset", "start_from"} | set(settings_of(TaskChoice))
    known = set(run_config().flat())
    for agent in AGENTS:
        known |= set(run_config(agent=agent).flat())
    assert refused | free == known


@pytest.mark.parametrize(("batch_size", "nearest"), [(2, "4"), (3, "4"), (5, "4 or 8")])
def test_nearest_choice_is_never_zero(batch_size, nearest):
    config = run_config(batch_size=batch_size, num_envs=8, eval_envs=4)
    with pytest.raises(UserError, match=f"batch_size = .*the nearest valid choice is {nearest}\\."):
        TrainSchedule.derive(config, 100, devices=4)
