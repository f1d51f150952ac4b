"""Settings belong to tasks: the command line, Python and the studies start from the same ones."""

from pathlib import Path

import pytest

import kilolayer
from kilolayer import recommended
from kilolayer.agents.crl import CRL
from kilolayer.agents.ppo import PPO
from kilolayer.config import RunConfig, run_config
from kilolayer.errors import UserError
from kilolayer.recipes import RECIPES, with_recipe
from kilolayer.recommendations import ANT, ANT_FAR, ANT_MAZE, FAMILIES, OWN_ARM, OWN_LEGS, POINT
from kilolayer.schedule import TrainSchedule
from kilolayer.tasks.registry import TASKS, make_task


@pytest.mark.parametrize("name", TASKS)
def test_the_settings_of_every_task_derive_a_plan(name):
    config = recommended(name)
    assert config.task.task == name
    schedule = TrainSchedule.derive(config, make_task(name).episode_length)
    assert schedule.total_steps >= config.collection.total_steps
    assert schedule.updates_per_unroll > 1
    assert schedule.training_unrolls > 10
    assert len(schedule.evaluate_after) == config.evaluation.num_evaluations
    assert RunConfig.from_json(config.to_json(), name) == config


def test_every_family_has_a_task_and_valid_settings():
    known = set(run_config().flat())
    for family, settings in FAMILIES.items():
        assert any(name.startswith(family) for name in TASKS), family
        assert set(settings) <= known
        assert "task" not in settings


def test_longest_matching_prefix_selects_the_family():
    assert recommended("ant").agent.discount == ANT["discount"]
    assert recommended("ant_big_maze").agent.discount == ANT_MAZE["discount"] != ANT["discount"]
    assert recommended("ant_push").agent.discount == ANT_FAR["discount"]
    assert recommended("ant_u4_maze_stitching").collection.goal_interval is None
    assert recommended("gym_ant_u_maze").agent.absorbing_termination
    assert not recommended("ant_u_maze").agent.absorbing_termination
    assert recommended("point_u_maze").collection.goal_interval == POINT["goal_interval"]
    assert recommended("point_hardest_maze").collection.goal_interval != POINT["goal_interval"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"task": "examples.puck:make_puck"}, POINT),
        ({"task": "arm_tools:make_task"}, POINT),
        ({"gym": "Some-v0"}, POINT),
        ({"mjcf": "not-there.xml"}, OWN_ARM),
    ],
)
def test_default_settings_of_user_tasks(arguments, expected):
    config = recommended(**arguments)
    assert config == run_config(**{"task": config.task.task, **arguments}, **expected)


@pytest.mark.parametrize(("joint", "expected"), [("hinge", OWN_ARM), ("free", OWN_LEGS)])
def test_a_robot_with_a_free_joint_starts_from_the_ant(tmp_path, joint, expected):
    robot = tmp_path / "robot.xml"
    body = f'<body><joint type="{joint}"/><geom size="1" mass="1"/></body>'
    robot.write_text(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    config = recommended(mjcf=str(robot))
    assert config == run_config(mjcf=str(robot), **expected)


def test_fields_override_recipe_and_recipe_overrides_task():
    config = recommended("arm_reach", recipe="wang2025", depth=64, energy="dot")
    expected = RECIPES["wang2025"] | {"depth": 64, "energy": "dot", "task": "arm_reach"}
    assert {name: config.flat()[name] for name in expected} == expected
    assert config.collection.total_steps == recommended("arm_reach").collection.total_steps


def test_the_published_recipe_has_the_published_settings():
    config = recommended("ant_big_maze", recipe="wang2025")
    assert config.network.branch_scale == "none"
    assert (
        config.collection.num_envs,
        config.agent.batch_size,
        config.collection.unroll_length,
    ) == (512, 512, 62)
    assert (config.replay.replay_steps_per_env, config.collection.episode_length) == (10_000, 1000)
    assert config.agent.representation_dim == 64
    assert (config.collection.update_to_data, config.agent.discount) == (1 / 40, 0.99)
    assert (config.agent.energy, config.agent.contrastive_loss) == ("euclidean", "forward")
    assert config.agent.logsumexp_penalty == 0.1
    assert config.agent.target_entropy_per_action == -0.5
    rates = {config.agent.actor_learning_rate, config.agent.critic_learning_rate}
    assert rates | {config.agent.temperature_learning_rate} == {3e-4}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_adds_nothing_to_the_published_recipe_but_sizes(task):
    config = recommended(task, recipe="wang2025")
    assert config.agent == CRL(batch_size=512)
    plain = run_config(task=task).taking(RECIPES["wang2025"]).flat()
    differs = {name for name, value in config.flat().items() if value != plain[name]}
    assert differs <= {"depth", "width", "total_steps", "num_evaluations"}


def test_the_recommended_task_is_that_of_a_plain_config():
    assert recommended().task == run_config().task
    assert kilolayer.recommended is recommended


def test_an_unknown_recipe_or_field():
    with pytest.raises(UserError, match=r"recipe = 'wang' is not allowed.*nearest.*wang2025"):
        recommended("ant", recipe="wang")
    with pytest.raises(UserError, match="no setting 'dpeth'; the nearest is 'depth'"):
        recommended("ant", dpeth=8)


def test_gyms_ant_has_the_settings_of_its_results():
    """The page in results/gym_ant says that its runs repeat with `--task gym_ant`."""
    kept = Path(__file__).parents[1] / "results" / "gym_ant" / "config-laptop.json"
    # What `auto` chose there.
    config = recommended("gym_ant", rematerialisation="none", scan_unroll=1)
    assert config == RunConfig.read(kept)


def test_switching_agents_keeps_shared_settings():
    config = recommended("ant", agent="ppo")
    assert config.agent_name == "ppo"
    assert config.agent.discount == ANT["discount"]
    assert config.collection == recommended("ant").collection
    assert with_recipe(config, "wang2025").agent.actor_learning_rate == 3e-4


def test_an_agent_object_keeps_its_settings():
    agent = PPO(discount=0.9, clip=0.1)
    assert recommended("ant", agent=agent).agent == agent
    assert recommended("ant", agent=agent, discount=0.8).agent == PPO(discount=0.8, clip=0.1)
