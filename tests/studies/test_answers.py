"""Answers of the questions to studies with known scores."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.claims import INCONCLUSIVE, NO_DIFFERENCE
from kilolayer.analysis.study import load_answer, load_study, require_matching_plan
from kilolayer.errors import UserError
from kilolayer.migrate import COLLECTOR_LEARNER
from kilolayer.studies.questions import QUESTIONS
from kilolayer.studies.questions.curves import cost_curve, counted, seconds
from kilolayer.studies.questions.depth import width_of_equal_parameters
from kilolayer.studies.questions.stitching import stitching_note
from kilolayer.studies.run import study as run_study
from kilolayer.tasks.choice import TaskChoice
from kilolayer.tasks.registry import task_of

NOISE = (-0.3, -0.15, 0.0, 0.15, 0.3)


def flat(score: float) -> list[float]:
    """An untrained evaluation, then the final score."""
    return [0.0, *[score] * 6]


def by_depth(scores: dict[int, float], noise=NOISE, **changes) -> list:
    return [
        (
            {"depth": depth, "seed": seed},
            flat(score + off),
            {"depth": depth, "seed": seed, **changes},
        )
        for depth, score in scores.items()
        for seed, off in enumerate(noise)
    ]


def answer(name: str, study) -> Answer:
    return QUESTIONS[name]().answer(study)


def test_depth_study_finds_jump(write_study):
    found = answer("depth", write_study("depth", by_depth({1: 10, 2: 11, 4: 30, 8: 31})))
    first, critical, saturation, _ = found.verdicts
    assert first.sentence.startswith("From depth 1 to 8 the score changes by 21 (95 %:")
    assert first.strength == "moderate"  # p = 2 / 252, corrected for four claims
    assert critical.sentence.startswith(
        "Depth 4 is critical: the step from depth 2 to 4 contributes"
    )
    assert saturation.sentence.startswith("The shallowest depth with 90 % of the best score is 4 ")
    assert found.plots[0].marks == ((4.0, "largest step: to depth 4"),)
    assert found.plots[0].series[0].y == pytest.approx((10, 11, 30, 31))
    assert found.tables[0].rows[0][:3] == ("1", "5", "10 (9.71 to 10.3)")


def test_one_seed_per_depth_is_inconclusive(write_study):
    found = answer("depth", write_study("depth", by_depth({1: 10, 2: 20}, noise=(0.0,))))
    assert [verdict.strength for verdict in found.verdicts] == [INCONCLUSIVE]
    assert found.tables[0].rows[0][1:3] == ("1", "10 (one seed)")
    assert found.plots[0].series[0].low is None


@pytest.mark.parametrize("name", ["cost", "threshold", "seeds", "feedback", "test-time"])
def test_other_questions_with_one_seed_are_inconclusive(name, write_study):
    study = write_study("depth", by_depth({1: 10, 2: 20}, noise=(0.0,)))
    (verdict,) = answer(name, study).verdicts
    assert verdict.strength == INCONCLUSIVE
    assert "seed" in verdict.sentence


def test_unfinished_runs_are_excluded_with_a_note(write_study):
    study = write_study("depth", by_depth({1: 10, 2: 20}))
    (study.path / "runs" / "run5" / "DONE").unlink()
    assert answer("depth", study).notes[-1] == "Excluded, since they have not finished: run5."
    for run in study.finished:
        (run.path / "DONE").unlink()
    assert answer("depth", study).verdicts[0].sentence == "No run has finished yet."


def test_tasks_are_analysed_separately(write_study):
    runs = by_depth({1: 10, 2: 30}, task="point_u_maze") + by_depth(
        {1: 50, 2: 5}, task="point_big_maze"
    )
    found = answer("depth", write_study("depth", runs))
    sentences = [verdict.sentence for verdict in found.verdicts]
    changes = "From depth 1 to 2 the score changes by"
    assert any(s.startswith(f"point_u_maze: {changes} 20 ") for s in sentences)
    assert any(s.startswith(f"point_big_maze: {changes} -45 ") for s in sentences)
    assert {plot.title.split(":")[0] for plot in found.plots} == {
        "Performance profile",
        "point_u_maze",
        "point_big_maze",
    }


def test_short_runs_of_several_tasks_are_answered_by_task(write_study):
    """Three evaluations give no final score, which only the comparison over all tasks needs."""
    runs = [
        ({"depth": depth, "seed": 0}, [0.0, 5, 5], {"depth": depth, "task": task})
        for task in ("point_u_maze", "point_big_maze") for depth in (1, 2)
    ]  # fmt: skip
    overall, *by_task = answer("depth", write_study("depth", runs)).verdicts
    assert overall.sentence.startswith("The tasks cannot be compared together: a trailing mean of")
    assert [verdict.sentence.split(":")[0] for verdict in by_task] == [
        "point_u_maze", "point_big_maze",
    ]  # fmt: skip


def test_gain_is_split_into_exploration_expressivity_and_interaction(write_study):
    runs = [
        ({"collector": c, "learner": n, "seed": seed}, flat(10 + 4 * (c == 2) + 6 * (n == 2) + off),
         {"agent": COLLECTOR_LEARNER, "collector_depth": c, "depth": n, "seed": seed})
        for c in (1, 2) for n in (1, 2) for seed, off in enumerate(NOISE)
    ]  # fmt: skip
    found = answer("collector-learner", write_study("collector-learner", runs))
    whole, exploration, expressivity, interaction = found.verdicts
    assert whole.sentence.startswith("The gain from depth is 10 (95 %:")
    assert exploration.sentence.startswith("Exploration contributes 4 (95 %:")
    assert found.tables[0].rows[1][2].startswith("40 % (95 %: ")
    assert expressivity.sentence.startswith("Expressivity contributes 6 (95 %:")
    assert interaction.strength == NO_DIFFERENCE


def test_attribution_starts_from_the_first_value_of_each_factor(write_study):
    """The baseline is the first value of each factor in the grid, not in alphabetical order."""
    runs = [
        ({"objective": o, "recipe": r, "depth": d, "seed": seed},
         flat(20 + 5 * (o == "crl") + 2 * (r == "good") - 1 * (d == 2) + off), {"depth": d})
        for o in ("sac", "crl") for r in ("plain", "good") for d in (1, 2)
        for seed, off in enumerate(NOISE)
    ]  # fmt: skip
    found = answer("attribution", write_study("attribution", runs))
    whole, *parts = [verdict.sentence for verdict in found.verdicts]
    assert whole.startswith("The gain from all three is 6 (95 %:")
    for sentence, start in zip(
        parts,
        ("Objective contributes 5 ", "Recipe contributes 2 ", "Depth contributes -1 "),
        strict=True,
    ):
        assert sentence.startswith(start)
    assert [row[0] for row in found.tables[1].rows] == [
        "objective x recipe", "objective x depth", "recipe x depth",
    ]  # fmt: skip


def test_costs_are_read_from_the_runs(write_study):
    study = write_study("depth", by_depth({1: 10, 2: 20}))
    run = study.runs[0].run
    assert counted(run, "env_steps").tolist() == [0, 100, 200, 300, 400, 500, 600]
    # One second of prefill, then two per checkpoint.
    assert seconds(run).tolist() == [0, 3, 5, 7, 9, 11, 13]
    curve = cost_curve(1, list(study.runs[:5]), seconds)
    assert curve.cost.tolist() == [11, 13]  # trailing means of five, from the first update on
    assert curve.mean.tolist() == pytest.approx([10, 10])
    # A run that a busy machine slowed down does not move the budget.
    slowed = cost_curve(
        1, list(study.runs[:5]), lambda run: seconds(run) * (9 if run.config.seed == 0 else 1)
    )
    assert slowed.cost.tolist() == [11, 13]
    found = answer("cost", study)
    assert [verdict.sentence.split(" depth")[0] for verdict in found.verdicts[:3]] == [
        "Within 600 environment steps", "Within 60 updates", "Within 13 seconds",
    ]  # fmt: skip
    assert all("depth 2 scores best" in verdict.sentence for verdict in found.verdicts[:3])


def test_threshold_study_matches_hand_computation(write_study):
    rising = [0.0, 0, 0, 0, 0, 10, 20, 30, 40, 55, 60, 60, 60, 60, 60]
    runs = [
        ({"depth": depth, "seed": seed}, [s + off for s in rising], {"depth": depth})
        for depth in (1, 2)
        for seed, off in enumerate((-0.1, 0, 0.1))
    ]
    found = answer("threshold", write_study("threshold", runs))
    # Trailing means of five: 31 > 30 at evaluation 9, 55 > 54 at evaluation 12.
    assert found.tables[0].rows[0][1] == "900 (95 %: 900 to 900; 3 seeds)"
    assert found.tables[0].rows[0][2].startswith("1,200 (95 %:")
    assert found.verdicts[0].strength == INCONCLUSIVE


def test_variants_are_compared_with_the_whole_recipe(write_study):
    scores = {"whole": 20.0, "no norm": 5.0, "relu": 20.1}
    runs = [
        ({"removed": removed, "depth": depth, "seed": seed}, flat(score + off), {"depth": depth})
        for removed, score in scores.items()
        for depth in (1, 2)
        for seed, off in enumerate(NOISE)
    ]
    found = answer("recipe", write_study("recipe", runs))
    assert [verdict.strength for verdict in found.verdicts] == [
        "moderate", "moderate", NO_DIFFERENCE, NO_DIFFERENCE,
    ]  # fmt: skip
    first = found.verdicts[0].sentence
    assert first.startswith("At depth 1, no norm: the score changes by -15 (95 %:")
    assert first.endswith("p = 0.032 after correction for 4 claims.")


def failing(study, *names: str):
    """The study with these runs failed."""
    (study.path / "failures").mkdir()
    for name in names:
        (study.path / "failures" / f"{name}.txt").write_text(f"{name} failed\nloss is not finite\n")
    return load_study(study.path)


def recipe_study(write_study):
    """Runs 0 to 4 of the whole recipe, 5 to 9 without a norm, at depth 1; 10 on at depth 2."""
    runs = [
        ({"removed": removed, "depth": depth, "seed": seed}, flat(score + off), {"depth": depth})
        for depth in (1, 2)
        for removed, score in (("whole", 20.0), ("no norm", 5.0))
        for seed, off in enumerate(NOISE)
    ]
    return write_study("recipe", runs)


def test_variant_whose_runs_all_fail_has_a_failure_verdict(write_study):
    study = failing(recipe_study(write_study), *(f"run{number}" for number in range(5, 10)))
    found = answer("recipe", study)
    broken = next(v for v in found.verdicts if "5 of 5 runs failed" in v.sentence)
    assert broken.sentence.startswith(
        "At depth 1, no norm: 5 of 5 runs failed, against 0 of 5 with the whole recipe; the share "
        "is 1 (95 %"
    )
    assert broken.strength == "moderate"  # Fisher: 2 of 252, and two claims
    sentences = [verdict.sentence for verdict in found.verdicts]
    assert (
        "At depth 1, no norm: too few finished runs to compare scores with the whole recipe."
        in sentences
    )
    assert any(s.startswith("At depth 2, no norm: the score changes by -15") for s in sentences)


def test_failed_baseline_affects_only_its_depth(write_study):
    study = failing(recipe_study(write_study), *(f"run{number}" for number in range(5)))
    sentences = [verdict.sentence for verdict in answer("recipe", study).verdicts]
    assert any("5 of 5 with the whole recipe" in sentence for sentence in sentences)
    assert any(s.startswith("At depth 2, no norm: the score changes by -15") for s in sentences)


def test_score_verdict_states_failed_runs(write_study):
    found = answer("recipe", failing(recipe_study(write_study), "run5"))
    score = next(v for v in found.verdicts if v.sentence.startswith("At depth 1, no norm: the sc"))
    assert score.sentence.endswith("; 1 failed run is excluded.")
    assert "4 seeds" in score.sentence
    assert found.tables[1].rows == (("run5", "loss is not finite"),)


def test_smallest_effect_determines_no_difference_verdict(write_study):
    """By default the smallest effect is 5 % of the 200 steps of an episode, that is 10."""
    study = write_study("depth", by_depth({1: 10, 2: 11}))
    assert answer("depth", study).verdicts[0].strength == NO_DIFFERENCE
    exact = dataclasses.replace(study, smallest_effect=0.001)
    assert answer("depth", exact).verdicts[0].strength == "moderate"


def test_intervals_are_cut_to_the_range_of_scores(write_study):
    found = answer("depth", write_study("depth", by_depth({1: 1, 2: 199}, noise=(-1, 0, 1))))
    assert found.tables[0].rows[0][2:4] == ("1 (0 to 3.48)", "0.01 (0 to 0.0348)")
    assert found.tables[0].rows[1][2] == "199 (197 to 200)"
    assert found.plots[0].series[0].high == pytest.approx((3.484, 200), abs=1e-3)


def test_first_verdict_is_over_all_tasks(write_study):
    runs = by_depth({1: 10, 2: 30}, task="point_u_maze") + by_depth(
        {1: 50, 2: 80}, task="point_big_maze"
    )
    found = answer("depth", write_study("depth", runs))
    assert found.verdicts[0].sentence.startswith(
        "Over 2 tasks, the probability that a run of depth 2 beats a run of depth 1 on the same "
        "task is 1 ("
    )
    assert found.verdicts[0].strength == "strong"
    assert [row[:2] for row in found.tables[0].rows] == [("depth 1", "10"), ("depth 2", "10")]


def test_runs_that_differ_from_the_plan_are_refused(write_study):
    study = write_study("depth", by_depth({1: 10, 2: 30}))
    (study.path / "runs" / ".DS_Store").touch()  # by the Finder of macOS
    require_matching_plan(study)
    file = study.path / "study.json"
    plan = json.loads(file.read_text())
    plan["runs"]["run3"]["config"]["network"]["width"] = 64
    file.write_text(json.dumps(plan))
    with pytest.raises(UserError, match=r"study.json does not match the run in .*run3: width is 64 "
                                        "in the plan and 8 in the run, and 0 more"):  # fmt: skip
        require_matching_plan(load_study(study.path))
    del plan["runs"]["run3"]
    file.write_text(json.dumps(plan))
    with pytest.raises(UserError, match="holds run3, which is not part of the plan"):
        require_matching_plan(load_study(study.path))


def test_stitching_study_reports_gap_between_near_and_far_goals(write_study):
    """In synthetic studies success on near goals is twice that on far goals."""
    found = answer("stitching", write_study("stitching", by_depth({1: 10, 2: 30})))
    assert found.verdicts[0].sentence.startswith(
        "From depth 1 to 2 success on far goals changes by 0.2"
    )
    assert found.verdicts[1].sentence.startswith(
        "The gap between near and far goals changes by 0.2"
    )
    # This maze draws training goals in all cells.
    assert "Training goals are far away too" in found.notes[-1]


def test_stitching_note_for_near_training_goals():
    sentence = stitching_note(task_of(TaskChoice(task="ant_u4_maze_stitching")))
    assert sentence.startswith("Training paths have at most 3 cells, and half of the")


def test_actor_and_critic_depth_are_separated(write_study):
    runs = [
        ({"actor": a, "critic": c, "seed": seed}, flat(10 + 16 * (c == 4) + off),
         {"actor_depth": a, "critic_depth": c})
        for a in (1, 2, 4) for c in (1, 2, 4) for seed, off in enumerate(NOISE)
    ]  # fmt: skip
    whole, actor, critic, both = answer("actor-critic-depth", write_study("a", runs)).verdicts
    strengths = (NO_DIFFERENCE, "moderate", NO_DIFFERENCE)
    assert (actor.strength, critic.strength, both.strength) == strengths
    assert whole.sentence.startswith("The gain from depth in both networks is 16 (95 %")


def test_smallest_batch_is_used_in_both_comparisons(write_study):
    ways = (("updates held", 4), ("updates held", 16), ("samples held", 16))
    runs = [
        ({"held": held, "batch": batch, "depth": depth, "seed": seed},
         flat(10 + (batch == 16) * (3 if held == "updates held" else 1) + off),
         {"batch_size": batch, "depth": depth})
        for held, batch in ways for depth in (1, 2) for seed, off in enumerate(NOISE)
    ]  # fmt: skip
    verdicts = [
        v.sentence for v in answer("batch-depth", write_study("batch-depth", runs)).verdicts
    ]
    assert any(
        s.startswith("With updates held: A larger batch alone contributes 3 ") for s in verdicts
    )
    assert any(
        s.startswith("With samples held: A larger batch alone contributes 1 ") for s in verdicts
    )


def test_width_of_equal_parameters():
    assert [width_of_equal_parameters(256, 4, depth) for depth in (4, 16, 64)] == [256, 128, 64]
    assert width_of_equal_parameters(32, 4, 4096) == 8


def test_feedback_study_matches_hand_computation(write_study):
    """log 8 - 1 nat a pair; time at goal 10 and 30 of the point maze's 200 steps."""
    found = answer("feedback", write_study("feedback", by_depth({1: 10, 2: 30})))
    assert found.verdicts[0].sentence.startswith(
        "At depth 1 the contrastive objective supplies this multiple of the bits of a sparse reward"
    )
    bits = 60 * 8 * (np.log(8) - 1) / np.log(2)
    parameters = float(found.tables[0].rows[0][1].replace(",", ""))
    assert found.tables[0].rows[0][2].startswith(f"{bits / parameters:.3g} (95 %")


def test_loss_without_information_bound_is_refused(write_study):
    study = write_study("feedback", by_depth({1: 10, 2: 30}, contrastive_loss="binary"))
    with pytest.raises(UserError, match="only InfoNCE"):
        QUESTIONS["feedback"]().analyse(study)


def test_existing_runs_answer_another_question(write_study, tmp_path):
    source = write_study("depth", by_depth({1: 10, 2: 30})).path
    found = run_study("seeds", source=source, out=tmp_path / "seeds", progress=False)
    assert (found.study.question, len(found.study.finished)) == ("seeds", 10)
    assert found.report == tmp_path / "seeds" / "report.html"
    page = found.report.read_text()
    assert found.study.question_text in page
    assert found.answer.verdicts[0].sentence in page
    assert load_answer(tmp_path / "seeds") == found.answer
    with pytest.raises(UserError, match="holds another study"):
        run_study("cost", source=source, out=tmp_path / "seeds", progress=False)
    with pytest.raises(UserError, match="analyses the runs of"):
        run_study("seeds", out=tmp_path / "seeds", progress=False)


def test_limits_study_of_a_trained_run(write_study, tiny_run):
    study = write_study("limits", by_depth({8: 1}, noise=(0.0,)))
    shutil.rmtree(study.runs[0].path)
    shutil.copytree(tiny_run.path, study.runs[0].path)
    found = answer("limits", study)
    row = found.tables[0].rows[0]
    assert row[:2] == ("8", "1 of 1")
    accuracy = float(row[2].split()[0]) / tiny_run.config.agent.batch_size
    assert accuracy == pytest.approx(tiny_run.curve("critic/accuracy")[1][-1], rel=1e-2)
    assert {verdict.strength for verdict in found.verdicts} == {INCONCLUSIVE}  # of one seed


def test_test_time_study_evaluates_once_and_uses_paired_test(write_study, monkeypatch):
    rated = []

    def evaluate(run, episodes, samples, seed):
        rated.append(samples)
        return {"evaluation goals": {"time_at_goal": 10 * run.config.seed + 0.5 * samples}}

    monkeypatch.setattr("kilolayer.api.evaluate", evaluate)
    study = write_study("test-time", by_depth({1: 1}))
    found = answer("test-time", study)
    # Seeds differ by ten, and every seed gains 0.5 * (64 - 1).
    assert found.verdicts[0].sentence.startswith(
        "At depth 1 the best of 64 samples changes the score by 31.5 (95 %: 31.5 to 31.5; 5 seeds)"
    )
    assert rated == [1, 4, 16, 64] * 5
    assert answer("test-time", study).verdicts == found.verdicts
    assert len(rated) == 20
    costs = found.plots[0].series[0].x
    # One pass of the actor; with several samples one goal encoding and one critic pass per sample.
    assert costs[3] - costs[2] == pytest.approx(4 * (costs[2] - costs[1]))
    assert costs[1] - costs[0] > 4 / 12 * (costs[2] - costs[1])
