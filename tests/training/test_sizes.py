"""Sizes beyond memory are refused from the settings, with a size that fits."""

import re
import time

import pytest

from kilolayer.config import RunConfig, run_config
from kilolayer.errors import UserError
from kilolayer.recommendations import recommended
from kilolayer.tasks.registry import task_of
from kilolayer.training import sizes
from kilolayer.training.build import build_trainer

ROOM = 2**35  # bytes

TOO_LARGE = [
    ("num_envs", 1_000_000_000),
    ("num_envs", 100_000_000),
    ("replay_steps_per_env", 2_000_000_000),
    ("width", 10_000_000),
    ("width", 2_000_000_000),
    ("depth", 2_000_000_000),
    ("representation_dim", 2_000_000_000),
    ("expansion", 1_000_000),
    ("eval_envs", 2_000_000_000),
    ("samples", 2_000_000_000),
    ("update_to_data", 1e6),
    ("unroll_length", 2_000_000_000),
]


def refused(config: RunConfig, monkeypatch) -> tuple[str, float]:
    """The field that the refusal names, and the value that it says would fit."""
    monkeypatch.setattr(sizes, "host_memory", lambda: ROOM)
    with pytest.raises(UserError, match=r"GiB at least") as error:
        sizes.require_run_fits(config, task_of(config.task), ROOM)
    found = re.search(r"^(\w+) = .* nearest valid choice is (.+)\.$", str(error.value))
    assert found, str(error.value)
    return found[1], float(found[2])


@pytest.mark.parametrize("task", ["point_u_maze", "ant", "arm_reach"])
@pytest.mark.parametrize(("field", "value"), TOO_LARGE)
def test_size_beyond_memory_is_refused_with_a_size_that_fits(task, field, value, monkeypatch):
    config = recommended(task, **{field: value})
    named, fitting = refused(config, monkeypatch)
    assert named == field
    assert 0 < fitting < value
    unit = config.network.layers_per_block if field == "depth" else 1
    smaller = fitting if field == "update_to_data" else int(fitting) // unit * unit
    sizes.require_run_fits(config.having(**{field: smaller}), task_of(config.task), ROOM)


@pytest.mark.parametrize(("field", "value"), TOO_LARGE)
def test_size_is_refused_before_anything_is_built(field, value):
    began = time.perf_counter()
    with pytest.raises(UserError, match=rf"^{field} = "):
        build_trainer(run_config(**{field: value}))
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "field", ["num_envs", "width", "episode_length", "eval_envs", "batch_size"]
)
@pytest.mark.parametrize("value", [2**31, 10**12, 10**30])
def test_numbers_beyond_32_bits_are_refused(field, value):
    with pytest.raises(UserError, match=rf"{field} = {value} is not allowed.*at most 2147483647"):
        run_config(**{field: value})


def test_memory_limit_counts_all_seeds(monkeypatch):
    config = run_config()
    task = task_of(config.task)
    sizes.require_run_fits(config, task, ROOM)
    with pytest.raises(UserError, match=r"^seeds = 4000 .* nearest valid choice is \d+\.$"):
        sizes.require_run_fits(config, task, ROOM, seeds=4000)


@pytest.mark.parametrize("task", ["point_u_maze", "ant", "humanoid", "arm_binpick_hard"])
def test_recommended_settings_fit_a_laptop(task):
    config = recommended(task)
    sizes.require_run_fits(config, task_of(config.task), 2**33)
