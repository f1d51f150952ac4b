"""The config: JSON both ways, and what is refused on the way in."""

import dataclasses
import inspect
import json
import operator
import re
import types
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Interval
from hypothesis import given
from hypothesis import strategies as st

import kilolayer
from kilolayer.agents.ppo import PPO
from kilolayer.agents.registry import AGENTS
from kilolayer.agents.sac import SAC
from kilolayer.config import GROUPS, RunConfig, run_config
from kilolayer.errors import UserError
from kilolayer.migrate import VERSION
from kilolayer.networks.config import NetworkConfig
from kilolayer.settings import settings_of
from kilolayer.tasks.registry import make_task

HINTS = {
    name: get_type_hints(type(group), include_extras=True)[name]
    for group in (*RunConfig().groups.values(), RunConfig())
    for name in settings_of(group)
}
# These have to go together, which random values rarely do.
TOGETHER = {"depth", "actor_depth", "critic_depth", "layers_per_block", "expansion",
            "norm_position",
            "initial_discount", "commanded_goal_share", "shuffled_goal_share"}  # fmt: skip


def within(hint) -> st.SearchStrategy:
    """Values of a setting's type, within its bounds."""
    if get_origin(hint) in (types.UnionType, Union):
        return st.one_of(*(within(each) for each in get_args(hint)))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is Annotated:
        kind, *marks = get_args(hint)
        if get_origin(kind) is Literal:
            return within(kind)
        draw = {int: st.integers(0, 10**9), float: st.floats(0, 1)}[kind]
        return draw.filter(lambda value: accepts(marks, value))
    plain = {str: st.text(max_size=12), bool: st.booleans(), type(None): st.none(),
             int: st.integers(), float: st.floats(-10, 10)}  # fmt: skip
    return plain[hint]


def accepts(marks, value) -> bool:
    bounds = [each for mark in marks for each in (mark if isinstance(mark, Interval) else [mark])]
    tests = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
    return all(
        tests[kind](value, bound)
        for mark in bounds
        for kind, bound in dataclasses.asdict(mark).items()
    )


DRAWN = {name: within(hint) for name, hint in HINTS.items() if name not in TOGETHER}


@given(st.fixed_dictionaries({}, optional=DRAWN))
def test_json_round_trip(values):
    config = run_config(**values)
    assert RunConfig.from_json(config.to_json(), "here") == config


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_round_trips(agent):
    config = run_config(agent=agent, batch_size=77)
    assert json.loads(config.to_json())["agent"]["name"] == agent
    assert RunConfig.from_json(config.to_json(), "here") == config
    assert type(config.agent) is AGENTS[agent]


def test_partial_config_file_is_accepted(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"depth": 64, "discount": 1}')
    config = RunConfig.read(path)
    assert config == run_config(depth=64, discount=1.0)
    assert type(config.agent.discount) is float


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        run_config().seed = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"dept": 8}', ["somewhere", "unknown key 'dept'", "nearest is 'depth'"]),
        ('{"learning_rate": 1}', ["unknown key 'learning_rate'", "learning_rate'"]),
        ('{"depth": "8"}', ["depth = '8'", "whole number"]),
        ('{"depth": 8.0}', ["depth = 8.0", "whole number"]),
        ('{"depth": true}', ["depth = True", "whole number"]),
        ('{"discount": "high"}', ["discount = 'high'", "finite number"]),
        ('{"discount": true}', ["discount = True", "finite number"]),
        ('{"actor_depth": "8"}', ["actor_depth = '8'", "whole number"]),
        ('{"task": 3}', ["task = 3", "type str"]),
        ('{"wandb": 1}', ["wandb = 1", "type bool"]),
        ('{"energy": "l3"}', ["energy = 'l3'", "one of euclidean, squared_euclidean, dot, cosine"]),
        ('{"energy": null}', ["energy = None", "one of euclidean"]),
        ('{"energy": []}', ["energy = []", "one of euclidean"]),
        ('{"version": 3, "depth": 8}', ["unknown key 'depth'"]),
        ('{"version": 3, "network": {"dept": 8}}', ["network", "unknown key 'dept'", "'depth'"]),
        ('{"version": 3, "network": 8}', ["network must be one JSON object"]),
        (
            '{"version": 3, "agent": {"name": "ppo", "energy": "dot"}}',
            ["energy is a setting", "crl", "ppo"],
        ),
        ('{"version": 3, "agent": {"name": "cr"}}', ["agent = 'cr'", "nearest", "crl"]),
        ('{"depth": 8', ["somewhere", "not valid JSON", "line 1"]),
        ("", ["somewhere", "not valid JSON"]),
        ("[1]", ["somewhere", "one JSON object"]),
    ],
)
def test_refused_values_name_field_and_reason(text, words):
    with pytest.raises(UserError) as error:
        RunConfig.from_json(text, "somewhere")
    for word in words:
        assert word in str(error.value)


def test_unreadable_file_is_named(tmp_path):
    path = tmp_path / "missing.json"
    with pytest.raises(UserError, match=re.escape(f"cannot read the config file {path}: No such")):
        RunConfig.read(path)


def groups_and_agents() -> list[type]:
    """Every class with settings: the groups, the agents, and the run itself."""
    return [
        *(kind for name, kind in GROUPS.items() if name != "agent"),
        *AGENTS.values(),
        RunConfig,
    ]


@pytest.mark.parametrize("group", groups_and_agents(), ids=lambda each: each.__name__)
def test_every_setting_has_an_explanation(group):
    sources = [inspect.getsource(each) for each in group.__mro__ if each.__module__ != "builtins"]
    for name in settings_of(group):
        pattern = rf'^    {name}: .*\n    """[^"]+\."""$'
        assert any(re.search(pattern, source, re.MULTILINE) for source in sources), name


@pytest.mark.parametrize("group", groups_and_agents(), ids=lambda each: each.__name__)
def test_every_setting_is_read_by_some_code(group):
    """A flag that no code reads is a lie; its declaration and its migration are no reading."""
    root = Path(kilolayer.__file__).parent
    text = "".join(p.read_text() for p in root.rglob("*.py") if p.name != "migrate.py")
    for name in settings_of(group):
        assert re.search(rf"\.{name}\b", text), name


def test_json_is_readable():
    values = json.loads(run_config().to_json())
    assert values["version"] == VERSION
    assert values["task"]["task"] == run_config().task.task
    assert run_config().to_json().count("\n") > len(HINTS)


@pytest.mark.parametrize("task", ["ant", "ant_u_maze", "ant_u4_maze_stitching"])
def test_file_with_the_old_ant_is_refused_with_a_remedy(task, tmp_path):
    old = {"task": task, "depth": 8}
    with pytest.raises(UserError, match=f"write gym_{task} as its task") as error:
        RunConfig.from_json(json.dumps(old), "old.json")
    assert "old.json" in str(error.value)
    kept = RunConfig.from_json(json.dumps({**old, "task": f"gym_{task}"}), "old.json")
    assert make_task(kept.task.task).world.model.actuator_gear[0, 0] == 150
    moved = RunConfig.from_json(json.dumps({**old, "version": 2}), "old.json")
    assert make_task(moved.task.task).world.model.actuator_gear[0, 0] == 30


def test_old_ball_and_block_files_are_refused():
    with pytest.raises(UserError, match='add "version": 2') as error:
        RunConfig.from_json('{"task": "ant_ball"}', "old.json")
    assert "gym_ant" not in str(error.value)


@pytest.mark.parametrize("version", [0, 4, "2", None])
def test_a_file_of_another_release_is_refused(version):
    with pytest.raises(UserError, match=f"version = {version!r}"):
        RunConfig.from_json(json.dumps({"version": version}), "new.json")


def test_files_of_the_first_formats_open_in_groups():
    old = {"version": 2, "task": "ant", "agent": "sac-her", "depth": 8, "energy": "l2", "seed": 3,
           "hindsight_goal_share": 0.5, "num_envs": 32, "wandb": True}  # fmt: skip
    config = RunConfig.from_json(json.dumps(old), "old.json")
    assert config == run_config(
        task="ant", agent="sac-her", depth=8, seed=3, hindsight_goal_share=0.5, num_envs=32,
        wandb=True,
    )  # fmt: skip
    # The settings of other agents that a flat file listed mean nothing to this one.
    assert not hasattr(config.agent_name, "energy")
    renamed = RunConfig.from_json('{"energy": "squared_l2"}', "old.json")
    assert renamed == run_config(energy="squared_euclidean")
    saved = {"keep_checkpoints": 3, "evaluate_training_goals": True, "profile": False}
    assert RunConfig.from_json(json.dumps({"version": 2, **saved}), "x") == run_config(**saved)


@pytest.mark.parametrize(
    "read",
    [
        lambda: RunConfig.from_json('{"version": 3, "agent": {"energy": "squared_l2"}}', "x.json"),
        lambda: run_config(energy="squared_l2"),
    ],
)
def test_a_former_name_of_an_energy_is_read_with_a_warning(read):
    with pytest.warns(FutureWarning, match="energy squared_l2 is called squared_euclidean now"):
        assert read() == run_config(energy="squared_euclidean")


def test_a_removed_setting_is_dropped_where_it_did_nothing_else_named():
    assert RunConfig.from_json('{"stall_length": null, "depth": 16}', "x") == run_config(depth=16)
    with pytest.raises(UserError, match=r"old.json has greedy_env_share = 0.1, .*has no successor"):
        RunConfig.from_json('{"greedy_env_share": 0.1}', "old.json")


COMMITTED = sorted(Path(__file__).parents[1].glob("results/*/config*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_configs_open(path):
    values = json.loads(path.read_text())
    config = RunConfig.read(path)
    assert config.network.depth == values.get("network", values)["depth"]
    assert config.seed == values["seed"]


def test_settings_are_found_by_name():
    config = run_config(depth=16, num_envs=7, task="ant")
    assert (config.network.depth, config.collection.num_envs, config.task.task) == (16, 7, "ant")
    assert config.having(network=NetworkConfig(width=32)).network == NetworkConfig(width=32)
    with pytest.raises(UserError, match="no setting 'dept'; the nearest is 'depth'"):
        config.having(dept=8)


def test_a_setting_of_another_agent_is_named_with_its_owners():
    with pytest.raises(UserError, match=r"clip is a setting of the agents ppo, .* agent is crl"):
        run_config(clip=0.1)
    assert run_config(agent="ppo", clip=0.1).agent == PPO(clip=0.1)


def test_switching_agents_keeps_shared_settings():
    before = run_config(discount=0.97, energy="dot", batch_size=64)
    after = before.having(agent="sac")
    assert after.agent == SAC(discount=0.97, batch_size=64)
