"""The tables of benchmarks/distillation.py, from cells made by hand."""

import json

from benchmarks.distillation import read_cells, shares_gone, tables


def cell(time_at_goal: float, **more) -> dict:
    scores = {"time_at_goal": time_at_goal, "success": 0.5}
    return {"depth": 4, "steps": 1_000, "scores": scores, **more}


def point(order: str, healed: bool, blocks: int, time_at_goal: float) -> dict:
    return {"order": order, "healed": healed, "blocks": blocks, "time_at_goal": time_at_goal}


def test_removable_blocks_at_95_percent():
    points = [
        point("greedy", False, 4, 100.0),
        point("greedy", False, 3, 95.0),
        point("greedy", False, 2, 94.0),
        point("greedy", True, 2, 99.0),
        point("one-shot", False, 3, 10.0),
    ]
    expected = {"greedy": 0.25, "greedy, healed": 0.5, "one-shot": 0.0}
    assert shares_gone(points, 100.0) == expected


def test_a_student_is_compared_with_its_own_teacher(tmp_path):
    (tmp_path / "cells").mkdir()
    for name, seed, score in (
        ("teacher", 0, 100.0),
        ("teacher", 1, 50.0),
        ("distilled", 0, 90.0),
        ("distilled", 1, 45.0),
        # No seed of the method `distilled`.
        ("distilled-critic", 0, 80.0),
    ):
        (tmp_path / "cells" / f"{name}-seed{seed}.json").write_text(json.dumps(cell(score)))
    cells = read_cells(tmp_path)
    assert {name: sorted(found) for name, found in cells.items()} == {
        "teacher": [0, 1],
        "distilled": [0, 1],
        "distilled-critic": [0],
    }
    rows = tables(cells).splitlines()[2:]
    # Both students have 0.9 of their teacher's score: no spread.
    assert "| 0.90 [0.90, 0.90] | 0.50 | 1,000 | 2 |" in rows[1]
    assert "| 80.0 (one seed) | 0.80 (one seed) |" in rows[2]


def test_pruning_has_its_own_table():
    cells = {"teacher": {0: cell(1.0)}, "pruned": {0: {"gone": {"greedy": 0.25}}}}
    assert tables(cells).endswith("| greedy | 0.25 (one seed) |\n")
