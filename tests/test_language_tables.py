"""The tables of benchmarks/language_tables.py, from cells made by hand."""

import json

from benchmarks.language import labelled, read_cells
from benchmarks.language_tables import tables

from kilolayer.language.base import SPLITS


def cell(method: str, seed: int, success: float, right: float, **more) -> dict:
    goals = {"right": right, "goal_error": 1 - right, "kinds": {"marker": {"right": right}}}
    split = {
        "success": success,
        "time_at_goal": 100 * success,
        "familiar": 1.0,
        "kinds": {"marker": {"success": success}},
        "goals": goals,
    }
    said = {"method": method, "encoder": "own", "depth": 16, "seed": seed}
    return said | {"splits": dict.fromkeys(SPLITS, split)} | more


def test_means_over_seeds_by_method(tmp_path):
    cells = [
        cell("grounded", 0, 0.8, 0.9),
        cell("grounded", 1, 0.6, 0.7),
        cell("teacher", 0, 1.0, 1.0),
        cell("module-moe", 0, 0.5, 0.5, act_ms={"median": 0.1, "chunk": 0.25}),
        {
            **{"method": "encoder", "encoder": "own", "depth": 16, "seed": 0},
            **{"first_pass": 2.0, "second_pass": 0.1, "trained_with": 3, "unchanged": True},
        },
    ]
    for number, each in enumerate(cells):
        (tmp_path / f"{number}.json").write_text(json.dumps(each))
    read = read_cells(tmp_path)
    assert [each["method"] for each in read] == [
        "teacher", "grounded", "grounded", "module-moe", "encoder"
    ]  # fmt: skip
    text = tables(read)
    # Student's t of one degree of freedom: 0.7 +- 12.7 * 0.1.
    assert "| grounded | own | 16 | 0.70 [-0.57, 1.97] |" in text
    assert "| teacher | own | 16 | 1.00 (one seed) |" in text
    assert "| grounded | own | 16 | marker | 0.80 | 0.80 | 0.80 | 0.80 |" in text
    assert "| module-moe | own | 16 | 0.100 | 0.250 |" in text
    assert "| own | 0 | 2.00 | 0.100 | 20 | 3 | yes |" in text
    assert "hard radius" not in text


def test_an_encoder_has_a_label():
    assert labelled("both=minilm+runs/own-{seed}") == ("both", "minilm+runs/own-{seed}")
    assert labelled("runs/own") == ("runs-own", "runs/own")
