"""What the display of a training run shows: speed, score and the next evaluation."""

from kilolayer.config import run_config
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.tracking import CompositeTracker
from kilolayer.schedule import TrainSchedule
from kilolayer.training.seeds import Member, display_figures

CONFIG = run_config(
    total_steps=1200,
    num_envs=10,
    unroll_length=10,
    update_to_data=0.1,
    min_replay_steps_per_env=20,
    replay_steps_per_env=100,
    batch_size=16,
    num_evaluations=2,
)


def members(tmp_path, *success: float) -> list[Member]:
    return [
        Member(RunDirectory(tmp_path), CompositeTracker([]), {"success": score})
        for score in success
    ]


def test_display_figures_of_a_round(tmp_path):
    schedule = TrainSchedule.derive(CONFIG, 100)
    assert (schedule.prefill_unrolls, schedule.evaluate_after) == (2, (5, 10))
    figures = display_figures(schedule, members(tmp_path, 0.5), 4, 2.0)
    # 100 environment steps and 10 updates in 2 seconds; the evaluation is due after round 7.
    assert figures == {"steps/s": 50.0, "updates/s": 5.0, "success": 0.5, "evaluation": "in 6 s"}
    assert display_figures(schedule, members(tmp_path, 0.5), 7, 2.0)["evaluation"] == "now"
    assert display_figures(schedule, members(tmp_path, 0.5), 8, 2.0)["evaluation"] == "in 8 s"


def test_display_of_several_seeds_shows_mean_score_and_total_speed(tmp_path):
    figures = display_figures(
        TrainSchedule.derive(CONFIG, 100), members(tmp_path, 0.25, 0.75), 4, 2.0
    )
    assert (figures["success"], figures["steps/s"]) == (0.5, 100.0)


def test_display_shows_only_the_score_before_training(tmp_path):
    assert display_figures(TrainSchedule.derive(CONFIG, 100), members(tmp_path, 0.0), 1, None) == {
        "success": 0.0
    }
