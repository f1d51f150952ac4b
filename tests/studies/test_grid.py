"""Grids: names, numbers of runs, refusals."""

import dataclasses

import pytest

from kilolayer.errors import UserError
from kilolayer.forecasting.calibrate import StepTimes
from kilolayer.recipes import RECIPES
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.studies import cost
from kilolayer.studies.grid import Grid, field_factor, merge_grids
from kilolayer.studies.question import Setup
from kilolayer.studies.questions import QUESTIONS
from kilolayer.studies.run import study

DEPTHS = field_factor("depth", (4, 8))


def test_grid_names_and_configs(tiny_config):
    objectives = {"a b": {"energy": "dot"}, "l/2": {}}
    cells = Grid(tiny_config, {"objective": objectives, "depth": DEPTHS}, 2).cells()
    assert list(cells) == [  # names of folders
        "a_b-depth4-seed0", "a_b-depth4-seed1", "a_b-depth8-seed0", "a_b-depth8-seed1",
        "l_2-depth4-seed0", "l_2-depth4-seed1", "l_2-depth8-seed0", "l_2-depth8-seed1",
    ]  # fmt: skip
    cell = cells["a_b-depth8-seed1"]
    assert cell.factors == {"objective": "a b", "depth": 8, "seed": 1}
    assert cell.config == tiny_config.having(energy="dot", depth=8, seed=1)


def test_names_of_runs_are_distinct(tiny_config):
    large = Grid(tiny_config.having(seed=1_000_000), {"depth": DEPTHS}, 2).cells()
    assert list(large) == [
        f"depth{depth}-seed{seed}" for depth in (4, 8) for seed in (1_000_000, 1_000_001)
    ]
    rates = field_factor("discount", (0.9900001, 0.9900002))  # equal in six digits
    with pytest.raises(UserError, match=r"two runs called discount0\.99-seed0"):
        Grid(tiny_config, {"discount": rates}, 1).cells()


def test_recipe_is_applied_before_other_fields(tiny_config):
    change = {"recipe": "wang2025", "discount": 0.5, "depth": 4}
    config = Grid(tiny_config, {"recipe": {"x": change}}, 1).cells()["x-seed0"].config
    assert config.agent.discount == 0.5
    assert config.network.layers_per_block == RECIPES["wang2025"]["layers_per_block"] == 4
    assert config.collection.num_envs == RECIPES["wang2025"]["num_envs"] == 512
    assert config.network.width == tiny_config.network.width


def test_merge_grids(tiny_config):
    labelled = [
        dataclasses.replace(Grid(tiny_config, {"depth": DEPTHS}, 1), labels={"held": held})
        for held in ("updates", "samples")
    ]
    cells = merge_grids(labelled)
    assert list(cells)[::2] == ["updates-depth4-seed0", "samples-depth4-seed0"]
    with pytest.raises(UserError, match="two runs called updates-depth4-seed0"):
        merge_grids([labelled[0], labelled[0]])


@pytest.mark.parametrize(
    ("factors", "seeds", "sentence"),
    [
        ({"depth": {}}, 1, "the grid is empty: depth has no values"),
        ({"depth": DEPTHS}, 0, "seeds = 0 is not allowed: it must be at least 1"),
        ({"x": {1: {"dept": 4}}}, 1, "no setting 'dept'; the nearest is 'depth'"),
        ({"x": {1: {"recipe": "wang"}}}, 1, "recipe = 'wang' .*nearest valid choice is wang2025"),
        ({"x": {1: {"agent": "crll"}}}, 1, "run x1-seed0 .*cannot be trained: agent = 'crll'"),
        (
            {"depth": {6: {"depth": 6, "layers_per_block": 4}}}, 1,
            "the run depth6-seed0 of the grid cannot be trained: depth = 6 is not allowed",
        ),
    ],
)  # fmt: skip
def test_grid_refuses_invalid_input(factors, seeds, sentence, tiny_config):
    with pytest.raises(UserError, match=sentence):
        merge_grids([Grid(tiny_config, factors, seeds)])
    with pytest.raises(UserError, match="the grid is empty"):
        merge_grids([])


# Runs at each size that the question has, in their order, counted by hand.
COUNTS = {
    "depth": (9, 15, 20, 25),
    "cost": (9, 15, 20, 25),
    "threshold": (9, 15, 20, 25),
    "collector-learner": (12, 20, 20, 20),  # 2 x 2
    "attribution": (24, 40, 40, 40),  # 2 x 2 x 2
    "width-depth": (18, 30, 40, 50),  # twice
    "actor-critic-depth": (27, 45, 80, 125),  # squared
    "batch-depth": (18, 30, 30, 30),  # (2 + 1) batches x 2
    "feedback": (9, 15, 20, 25),
    "stitching": (6, 15, 15),
    "recipe": (36, 60, 60, 60),  # (1 + 5) x 2
    "limits": (6, 8, 12),
    "seeds": (9, 15, 20, 25),
    "test-time": (9, 15, 20, 25),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_valid_runs(name):
    """Without a check of the configs, since a grid may need an optional package."""
    question = QUESTIONS[name]()
    assert question.name == name
    assert question.text.endswith("?")
    for size, count in zip(question.setups, COUNTS[name], strict=True):
        setup = question.setup(size)
        grids = question.grids(setup)
        assert all(question.required_factor in {*grid.factors, *grid.labels} for grid in grids)
        assert sum(map(_size, grids)) == count


def _size(grid: Grid) -> int:
    size = grid.seeds
    for factor in grid.factors.values():
        size *= len(factor)
    return size


def test_setup_arguments_replace_tasks_depths_and_seeds():
    question = QUESTIONS["depth"]()
    setup = question.setup("quick", ["point_u_maze", "point_big_maze"], [8, 4], 2)
    cells = question.cells(setup)
    assert list(cells) == [
        f"{task}-depth{depth}-seed{seed}"
        for task in ("point_u_maze", "point_big_maze")
        for depth in (4, 8)
        for seed in (0, 1)
    ]
    assert {cell.config.task.task for cell in cells.values()} == {"point_u_maze", "point_big_maze"}
    with pytest.raises(UserError, match=r"size = 'papers' .* laptop, body, paper; .* is paper"):
        question.setup("papers")  # type: ignore[arg-type]


def test_a_misspelled_executor_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"executor = 'slum' .* local, ray, slurm; .* is slurm"):
        study("depth", executor="slum")


def test_hours_of_a_grid_use_the_physics_of_their_own_task(tiny_config, monkeypatch):
    """Every task is timed once, at its smallest depth, and an ant's step takes longer."""
    cells = merge_grids(
        Grid(tiny_config.having(task=task), {"depth": DEPTHS}, 1, {"task": task})
        for task in ("point_u_maze", "ant")
    )
    steps, timed = {"point_u_maze": 1e-6, "ant": 1e-3}, []

    def calibrate(config, display):
        timed.append((config.task.name, config.network.depth))
        step = steps[config.task.name]
        return StepTimes((0.0, 0.0), (step, 2 * step), "here")

    monkeypatch.setattr(cost, "calibrate", calibrate)
    monkeypatch.setattr(cost, "build_trainer", lambda config: config)
    monkeypatch.setattr(cost, "forecast_run", lambda *arguments: None)
    monkeypatch.setattr(
        cost, "operations", lambda config: cost.Operations(9, 9, config.network.depth, 5, 3600)
    )
    hours = cost.grid_cost(cells, True, SilentDisplay()).hours or {}
    assert sorted(timed) == [("ant", 4), ("point_u_maze", 4)]
    assert {name: low for name, (low, _) in hours.items()} == pytest.approx(
        {name: 1e-3 if name.startswith("ant") else 1e-6 for name in cells}
    )


def test_answer_tells_how_far_rounded_widths_are_from_equal_parameters(tiny_config, write_study):
    """Depth 32 would need a width of 11.3, and 8 has half of the parameters."""
    setup = Setup(tiny_config.having(width=32, update_to_data=1.0), (4, 8, 32), 2)
    question = QUESTIONS["width-depth"]()
    runs = [
        (
            each.factors,
            [0.0, *[10.0] * 6],
            {"depth": each.factors["depth"], "width": each.config.network.width},
        )
        for each in question.cells(setup).values()
    ]
    assert "differs from 1 by rounding: 4: 1, 8: 1.1, 32: 0.5." in "".join(
        question.answer(write_study("width-depth", runs)).notes
    )
