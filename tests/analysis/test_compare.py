"""Comparisons of synthetic runs: groups, refusals, tables and verdicts."""

import re

import numpy as np
import pytest

from kilolayer.analysis.claims import INCONCLUSIVE, NO_DIFFERENCE
from kilolayer.analysis.compare import compare_groups, load_groups
from kilolayer.analysis.groups import factor_text, mean_text, score_bounds
from kilolayer.errors import UserError
from kilolayer.report.group_curves import group_curves
from kilolayer.tasks.registry import make_task
from synthetic_runs import TINY, write_run


@pytest.fixture
def make(tmp_path):
    """`make(name, *final scores, field=value)`: a run for each score, with seeds 0, 1, ..."""

    def make_runs(name, *scores, **fields):
        return [
            write_run(
                tmp_path / f"{name}-{seed}",
                TINY.having(seed=seed, **fields),
                (0.0, score / 2, score),
            )
            for seed, score in enumerate(scores)
        ]

    return make_runs


def test_runs_are_grouped_by_config_without_seed(make):
    groups = load_groups([*make("a", 10, 20, 30), *make("b", 70, depth=8, tensorboard=True)])
    assert [(group.name, group.seeds) for group in groups] == [("depth 4", 3), ("depth 8", 1)]
    assert groups[0].final("evaluation/time_at_goal").tolist() == [10, 20, 30]
    steps, values = groups[0].curve("evaluation/time_at_goal")
    assert steps.tolist() == [1000, 2000, 3000]
    assert values.tolist() == [[0, 5, 10], [0, 10, 20], [0, 15, 30]]


def test_group_curve_uses_steps_common_to_all_seeds(make, tmp_path):
    other = write_run(tmp_path / "c", TINY.having(seed=9), (1.0, 2.0))
    (group,) = load_groups([*make("a", 10), other])
    assert group.curve("evaluation/time_at_goal")[1].tolist() == [[0, 5], [1, 2]]


def test_score_table_has_intervals_and_marks_single_seeds(make):
    answer = compare_groups(load_groups([*make("a", 10, 20, 30), *make("b", 70, depth=8)]))
    (scores,) = answer.tables
    # Student's: 20 -+ 4.3027 * 10 / sqrt(3) = 20 -+ 24.84, cut at 0
    assert scores.rows[0][3] == "20 (0 to 44.8)"
    assert scores.rows[0][:2] == ("depth 4", "3")
    assert scores.rows[1][2:4] == ("0.7 (one seed)", "70 (one seed)")
    assert scores.rows[0][5] == "3,000"
    (verdict,) = answer.verdicts
    assert verdict.strength == INCONCLUSIVE
    assert verdict.sentence.endswith("with a single seed cannot be tested: depth 8: 70 (one seed).")


def test_two_replicated_groups_get_pairwise_test_and_verdict(make):
    better = make("b", 61, 62, 63, 64, depth=8)
    single = make("c", 99, depth=12)
    answer = compare_groups(load_groups([*make("a", 10, 20, 30, 40), *better, *single]))
    ((first, second, probability, seeds, p),) = answer.tables[1].rows
    assert (first, second, seeds) == ("depth 4", "depth 8", "4 and 4")
    assert probability.startswith("0.00 (0.00 to ")
    assert p == "0.029"  # 2 of the 70 ways to divide eight seeds
    assert answer.verdicts[0].strength == "moderate"
    assert "depth 8 is ahead of the other group by" in answer.verdicts[0].sentence
    assert "depth 12: 99 (one seed)" in answer.verdicts[1].sentence


def test_best_of_three_groups_is_bonferroni_corrected(make):
    runs = [*make("a", 1, 2, 3), *make("b", 4, 5, 6, depth=8), *make("c", 7, 8, 9, depth=12)]
    answer = compare_groups(load_groups(runs))
    assert answer.verdicts[0].strength == INCONCLUSIVE
    assert "p = 0.2" in answer.verdicts[0].sentence  # 0.1, the least of three against three, twice
    assert len(answer.tables[1].rows) == 3


def test_single_group_is_not_compared(make):
    answer = compare_groups(load_groups(make("a", 1, 2)))
    assert answer.verdicts[0].sentence.startswith("There is nothing to compare")
    assert len(answer.tables) == 1


def test_unfinished_run_is_included_with_a_note(make, tmp_path):
    config = TINY.having(seed=5)
    half = write_run(tmp_path / "half", config, (1.0, 2.0), finished=False)
    answer = compare_groups(load_groups([*make("a", 1), half]))
    assert "half is unfinished: its score is that of the evaluation at 2,000 of" in answer.notes[-1]
    assert answer.tables[0].rows[0][5] == "2,000 to 3,000"


def test_progress_of_runs_from_a_dataset_is_counted_in_updates(make, tmp_path):
    dataset = {"dataset": "d.npz", "agent": "gcbc", "total_steps": 4000, "update_to_data": 0.02}
    half = write_run(tmp_path / "half", TINY.having(seed=5, **dataset), (1.0, 2.0), finished=False)
    runs = [*make("a", 1, **dataset), half]
    for run in runs:
        events = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(re.sub('"env_steps": [0-9]+', '"env_steps": 0', events))
    groups = load_groups(runs)
    answer = compare_groups(groups)
    assert answer.tables[0].columns[-1] == "updates"
    assert answer.tables[0].rows[0][5] == "50 to 75"
    assert "that of the evaluation at 50 of 100 updates." in answer.notes[-1]
    curves = group_curves({"": groups}, {group.name: group.name for group in groups})
    assert ">updates<" in curves
    assert "environment steps" not in curves


def test_load_groups_refuses_incomparable_runs(make, tmp_path):
    (run,) = make("a", 1)
    (copy,) = make("copy", 1)
    (other_radius,) = make("b", 1, goal_radius=0.3)
    empty = write_run(tmp_path / "empty", TINY.having(seed=7), (), finished=False)
    for runs, sentence in (
        ([run], "at least two runs and there is 1"),
        ([run, tmp_path / "." / "a-0"], "is given twice"),
        ([run, copy], "same config and the same seed"),
        (
            [run, other_radius],
            r"different settings of the same task \(goal_radius is None and 0.3\)",
        ),
        ([run, empty], "empty has no evaluation yet"),
        ([run, tmp_path / "nothing"], "is not a run directory"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_groups(runs)


def test_groups_with_equal_scores_have_no_difference_that_matters(make):
    same = make("a", 100, 101, 102, 103, 104) + make("b", 101, 102, 103, 104, 105, depth=8)
    (verdict,) = compare_groups(load_groups(same)).verdicts
    assert verdict.strength == NO_DIFFERENCE
    assert "an effect below 10 does not matter" in verdict.sentence  # 5 % of 200 steps


def test_several_tasks_are_compared_separately_and_in_aggregate(make):
    runs = []
    for task, base in (("point_u_maze", 20), ("point_big_maze", 100)):
        runs += make(f"{task}-4", *range(base, base + 4), task=task)
        runs += make(f"{task}-8", *range(base + 40, base + 44), task=task, depth=8)
    answer = compare_groups(load_groups(runs))
    together, first, second = answer.verdicts
    # Every run of depth 8 wins: 2 of 70 * 70 permutations, estimated with 9,999.
    assert "Over 2 tasks, the probability that a run of depth 8 beats a run of depth 4" in str(
        together
    )
    assert together.strength == "strong"
    assert first.sentence.startswith("point_u_maze: Mean time at goal in control steps: depth 8:")
    assert second.sentence.startswith("point_big_maze: Mean")
    # Of 200 and 400 steps the middle half is 0.11, 0.115, 0.25 and 0.2525.
    rows = {row[0]: row for row in answer.tables[0].rows}
    assert rows["depth 4"][1] == "8"
    assert rows["depth 4"][2].startswith("0.182 (95 %: ")
    assert rows["depth 8"][3].startswith("1 (95 %: ")
    assert answer.plots[0].title == "Performance profile"


def test_factor_text():
    factors = {"task": "ant", "batch_size": 256, "residual": False, "share": 0.25, "gym": None}
    assert factor_text(factors) == "ant, batch size 256, residual off, share 0.25, gym default"
    assert mean_text(np.array([])) == "not measured"


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        ("evaluation/time_at_goal", 0.0, 50.0),
        ("evaluation/behaviour/grasp_share", 0.0, 1.0),
        ("evaluation/behaviour/falls", 0.0, 1.0),
        ("evaluation/behaviour/cube_travel", 0.0, np.inf),
        ("evaluation/final_distance", 0.0, np.inf),
        ("critic/loss", -np.inf, np.inf),
    ],
)
def test_interval_of_a_metric_stays_within_its_range(metric, low, high):
    assert score_bounds(make_task("arm_push_easy"), metric) == (low, high)
