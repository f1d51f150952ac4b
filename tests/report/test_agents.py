"""Complete runs of agents other than contrastive RL: training, metrics and report."""

import json

import pytest

from kilolayer.analysis.load import load
from kilolayer.api import forecast, train
from kilolayer.config import run_config
from kilolayer.report.run_report import SECTIONS, write_report
from kilolayer.report.run_sections import learning_curves
from probes import exhaustive

CONFIG = run_config(
    total_steps=800,
    num_envs=8,
    unroll_length=10,
    depth=4,
    width=16,
    batch_size=16,
    min_replay_steps_per_env=20,
    replay_steps_per_env=100,
    num_evaluations=2,
    eval_envs=6,
    tensorboard=False,
)


@exhaustive
@pytest.mark.parametrize("agent", ["sac", "sac-her", "td3-her", "ppo"])
def test_report_of_every_agent_is_complete(agent, tmp_path):
    config = run_config(**{**vars(CONFIG), "agent": agent})
    run = train(config, tmp_path / agent, progress=False)
    series: dict[str, list[float]] = {}
    for event in run.events:
        if event["event"] == "train":
            for name, value in event["metrics"].items():
                series.setdefault(name, []).append(value)
    assert [name for name, values in series.items() if len(set(values)) < 2] == []
    text = write_report(run).read_text()
    assert "Not shown" not in text
    assert text.count("<svg") == len(SECTIONS) - 3  # all but the film and two tables
    assert run.policy([1, 1, 0, 0], [3, 1]).shape == (2,)
    found = forecast(config, calibration=False, progress=False)
    assert found.updates == run.events[-1]["updates"]


def test_curves_show_the_metrics_of_the_agent(run_copy):
    """An agent with a value metric and without accuracy."""
    events = []
    for event in run_copy.events:
        metrics = event.get("metrics", {})
        if "critic/accuracy" in metrics:
            metrics["critic/value"] = metrics.pop("critic/accuracy")
        events.append(json.dumps(event) + "\n")
    (run_copy.path / "metrics.jsonl").write_text("".join(events))
    drawn = learning_curves(load(run_copy.path))
    assert "Critic value" in drawn
    assert "Critic accuracy" not in drawn
    assert "nothing yet" not in drawn
