"""The config: JSON both ways, and what is refused on the way in."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kilolayer
from kilolayer.config import TrainConfig
from kilolayer.tasks.registry import make_task
from kilolayer.types import UserError

FIELDS = get_type_hints(TrainConfig)


def values_of(hint) -> st.SearchStrategy:
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    plain = {
        int: st.integers(-(10**12), 10**12),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=12),
        bool: st.booleans(),
        int | None: st.none() | st.integers(0, 10**6),
        str | None: st.none() | st.text(max_size=12),
        float | None: st.none() | st.floats(allow_nan=False, allow_infinity=False),
        str | None: st.none() | st.text(max_size=12),
    }
    return plain[hint]


@given(st.fixed_dictionaries({}, optional={n: values_of(hint) for n, hint in FIELDS.items()}))
def test_json_round_trip(values):
    config = TrainConfig(**values)
    assert TrainConfig.from_json(config.to_json(), "here") == config


def test_a_file_may_name_a_few_fields_only(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"depth": 64, "discount": 1}')
    config = TrainConfig.read(path)
    assert config == TrainConfig(depth=64, discount=1.0)
    assert type(config.discount) is float


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().depth = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"dept": 8}', ["somewhere", "unknown key 'dept'", "nearest is 'depth'"]),
        ('{"learning_rate": 1}', ["unknown key 'learning_rate'", "learning_rate'"]),
        ('{"depth": "8"}', ["depth = '8'", "type int"]),
        ('{"depth": 8.0}', ["depth = 8.0", "type int"]),
        ('{"depth": true}', ["depth = True", "type int"]),
        ('{"discount": "high"}', ["discount = 'high'", "type float"]),
        ('{"discount": true}', ["discount = True", "type float"]),
        ('{"actor_depth": "8"}', ["actor_depth = '8'", "type int or NoneType"]),
        ('{"task": 3}', ["task = 3", "type str"]),
        ('{"wandb": 1}', ["wandb = 1", "type bool"]),
        ('{"energy": "l3"}', ["energy = 'l3'", "one of l2, squared_l2, dot, cosine"]),
        ('{"energy": null}', ["energy = None", "one of l2"]),
        ('{"depth": 8', ["somewhere", "not valid JSON", "line 1"]),
        ("", ["somewhere", "not valid JSON"]),
        ("[1]", ["somewhere", "one JSON object"]),
    ],
)
def test_what_is_refused_says_where_and_why(text, words):
    with pytest.raises(UserError) as error:
        TrainConfig.from_json(text, "somewhere")
    for word in words:
        assert word in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "missing.json"
    with pytest.raises(UserError, match=re.escape(f"cannot read the config file {path}: No such")):
        TrainConfig.read(path)


def test_every_field_has_an_explanation():
    source = Path(str(kilolayer.config.__file__)).read_text()
    for field in FIELDS:
        assert re.search(rf'^    {field}: .*\n    """[^"]+\."""$', source, re.MULTILINE), field


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_field_is_read_by_some_code(field):
    """A flag that no code reads is a lie; checking its range is not reading it."""
    source = Path(kilolayer.__file__).parent
    readers = [path for path in source.rglob("*.py") if path.name != "config.py"]
    pattern = re.compile(rf"config\.{field}\b")
    assert any(pattern.search(path.read_text()) for path in readers)


def test_json_is_readable():
    assert json.loads(TrainConfig().to_json())["task"] == TrainConfig().task
    assert TrainConfig().to_json().count("\n") > len(FIELDS)


@pytest.mark.parametrize("task", ["ant", "ant_u_maze", "ant_u4_maze_stitching"])
def test_a_file_from_before_the_ants_motors_changed_says_how_to_go_on(task, tmp_path):
    old = {"task": task, "depth": 8}
    with pytest.raises(UserError, match=f"write gym_{task} as its task") as error:
        TrainConfig.from_json(json.dumps(old), "old.json")
    assert "old.json" in str(error.value)
    kept = TrainConfig.from_json(json.dumps({**old, "task": f"gym_{task}"}), "old.json")
    assert make_task(kept.task).world.model.actuator_gear[0, 0] == 150
    moved = TrainConfig.from_json(json.dumps({**old, "version": 2}), "old.json")
    assert make_task(moved.task).world.model.actuator_gear[0, 0] == 30


def test_the_ball_and_the_block_have_no_gym_ant_to_go_on_with():
    with pytest.raises(UserError, match='add "version": 2') as error:
        TrainConfig.from_json('{"task": "ant_ball"}', "old.json")
    assert "gym_ant" not in str(error.value)


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_a_file_of_another_release_is_refused(version):
    with pytest.raises(UserError, match=f"version = {version!r}"):
        TrainConfig.from_json(json.dumps({"version": version}), "new.json")
