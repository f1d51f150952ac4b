"""The command line: one clear sentence and exit code 2 for every bad input."""

import contextlib
import json
import os
import re
from pathlib import Path

import pytest

from kilolayer.agents.registry import AGENTS
from kilolayer.arguments import TrainArguments, with_config
from kilolayer.cli import main
from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.recipes import RECIPES
from kilolayer.recommendations import recommended
from kilolayer.settings import settings_of
from kilolayer.terminal import console


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            "--task ant_umaze",
            "task = 'ant_umaze' is not allowed.*nearest valid choice is ant_u_maze",
        ),
        ("--depth 10", r"depth = 10 is not allowed: a multiple of layers_per_block = 4.*is 8"),
        ("--actor-depth 6", "actor_depth = 6 is not allowed.*nearest valid choice is 8"),
        ("--batch-size 100000000", "batch_size = 100000000 is not allowed.*buffer holds"),
        ("--num-envs 0", "num_envs = 0 is not allowed: it must be at least 1"),
        ("--total-steps=-5", "total_steps = -5 is not allowed: it must be at least 1"),
        ("--discount 1.5", r"discount = 1.5 is not allowed: it must lie in \(0, 1\]"),
        ("--recipe", "--recipe needs a value"),
        ("--task", "--task needs a value"),
        ("--recipe wang", "recipe = 'wang' is not allowed: one of wang2025, simba, .*is wang2025"),
        ("--config no-such.json", "cannot read the config file no-such.json"),
        ("--resume no-such-run", "no-such-run is not a run directory"),
        ("--dataset no-such.npz", "dataset = 'no-such.npz' .*there is no such file; .*collect"),
        ("--config --depth 8", "--config needs a value"),
        ("--agent=", "agent = '' is not allowed: one of crl"),
        ("--agent ppo --min-replay-steps-per-env 9", "min-replay.*agent ppo has no replay buffer"),
        ("--agent gcsl --critic-depth 8", "--critic-depth: the agent gcsl has no critic"),
        ("--gym-processes 3", "gym_processes = 3 is not allowed: it needs --gym"),
        ("--mjx-impl warp", "mjx_impl = 'warp' is not allowed: it needs --physics mjx"),
        ("--agent gcbc", "agent = 'gcbc' is not allowed: it learns from a dataset"),
        ("--agent ppo --dataset d.npz", "agent = 'ppo' .*cannot learn from a dataset"),
    ],
)
def test_invalid_train_options_are_refused(
    options, sentence, capsys, tmp_path, monkeypatch
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["train", *options.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(sentence, error)
    assert list(tmp_path.iterdir()) == []


def test_config_file_with_an_unknown_key_is_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"dpeth": 8}))
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", str(tmp_path / "config.json")])
    assert stop.value.code == 2
    assert "unknown key 'dpeth'; the nearest is 'depth'" in capsys.readouterr().err


def test_help_explains_every_field(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in recommended().flat():
        assert f"--{name.replace('_', '-')}" in text
    assert "--recipe" in text


@pytest.mark.parametrize("agent", AGENTS)
def test_help_shows_only_the_agents_options(agent, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--agent", agent, "--help"])
    shown = set(re.findall(r"--([a-z][a-z-]+)", capsys.readouterr().out))
    own = settings_of(AGENTS[agent])
    others = {name for kind in AGENTS.values() for name in settings_of(kind)} - set(own)
    assert {name.replace("_", "-") for name in own} <= shown
    assert not {name.replace("_", "-") for name in others} & shown


@pytest.mark.parametrize("option", ["--energy dot", "--energy=dot", "--no-absorbing-termination"])
def test_an_option_of_another_agent_is_refused_by_name(option, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--agent", "ppo", *option.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert re.search(r"is an option of the agents crl.* agent is ppo", error)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train --task ant --mjcf r.xml --goal-site tip", "task = 'ant' .*mjcf = 'r.xml' is the"),
        ("train --gym Maze-v3 --task=ant", "task = 'ant' .*gym = 'Maze-v3' is the task already"),
        ("inspect ant --mjcf r.xml --goal-site tip", "task = 'ant' .*mjcf = 'r.xml' is the task"),
    ],
)
def test_task_beside_a_robot_or_an_environment_is_refused(arguments, sentence, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_config_of_a_robot_does_not_hide_the_task_of_an_option(tmp_path) -> None:
    file = tmp_path / "config.json"
    file.write_text(recommended(mjcf="r.xml", goal_site="tip").to_json())
    with pytest.raises(UserError, match=r"task = 'ant' .*mjcf = 'r.xml' is the task already"):
        with_config(TrainArguments, "train", ["--config", str(file), "--task", "ant"])


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ("--depth 64", "depth"),
        ("--task point_big_maze", "task"),
        ("--out elsewhere", "out"),
        ("--seeds 3", "seeds"),
        ("--agent sac", "agent"),
    ],
)
def test_options_that_contradict_a_resumed_run_are_refused(options, setting, tiny_run, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", str(tiny_run.path), *options.split()])
    assert stop.value.code == 2
    assert f"and --{setting} differs: omit all other options" in capsys.readouterr().err


def test_a_run_is_resumed_with_the_options_that_it_began_with(tiny_run, monkeypatch):
    monkeypatch.chdir(tiny_run.path.parent)
    config = str(tiny_run.path / "config.json")
    for options in ([], ["--devices", "1"], ["--config", config, "--seeds", "1"]):
        with_config(TrainArguments, "train", ["--resume", str(tiny_run.path), *options])


def test_an_older_run_with_a_setting_without_effect_can_be_used(run_copy, capsys):
    config = run_copy.config.having(gym_processes=4, mjx_impl="warp")
    (run_copy.path / "config.json").write_text(config.to_json())
    main(["evaluate", str(run_copy.path), "--episodes", "2"])
    assert "time_at_goal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("plan --gym-processes 3", "gym_processes = 3 is not allowed: it needs --gym"),
        ("plan --json {run}", "json = .* is not allowed: it is a directory"),
        ("plan --json nowhere/x.json", "json = .* is not allowed: there is no such directory"),
        ("control {run} --goal 1", "goal = '1' is not allowed"),
    ],
)
def test_refusals_come_before_the_work(command, sentence, tiny_run, monkeypatch, capsys):
    def work(*_, **__):
        raise AssertionError

    monkeypatch.setattr("kilolayer.forecasting.forecast.device_memory", work)
    monkeypatch.setattr("kilolayer.api.deployment.build_planner", work)
    with pytest.raises(SystemExit) as stop:
        main(command.format(run=tiny_run.path).split())
    assert stop.value.code == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_whole_numbers_may_have_an_exponent(monkeypatch, capsys) -> None:
    assert take_config(monkeypatch, "--total-steps", "1e6").collection.total_steps == 1_000_000
    for number in ("1.5", "1e400", "many"):
        with pytest.raises(SystemExit) as stop:
            with_config(TrainArguments, "train", ["--total-steps", number])
        assert stop.value.code == 2
        assert "--total-steps" in capsys.readouterr().err


def test_old_energy_name_is_read_with_a_warning(monkeypatch) -> None:
    with pytest.warns(FutureWarning, match="energy l2 is called euclidean now"):
        config = take_config(monkeypatch, "--energy", "l2")
    assert config == recommended(energy="euclidean")


def test_old_energy_name_is_kept_where_it_names_something_else() -> None:
    with pytest.raises(UserError, match=r"l2 is not a run directory"):
        with_config(TrainArguments, "train", ["--resume", "l2"])


def test_closed_pipe_is_no_fault() -> None:
    """As of `| head`: the boundary ends the command in silence with exit code 0."""
    reader, writer = os.pipe()
    os.close(reader)
    output = console()
    output.file = os.fdopen(writer, "w")
    with pytest.raises(BrokenPipeError):
        output.print("a line")
    with contextlib.suppress(BrokenPipeError):
        output.file.close()


def take_config(monkeypatch, *options: str) -> RunConfig:
    """The config that `kilolayer train` would train."""
    configs: list[RunConfig] = []

    def take(config: RunConfig, out: object, **together: object) -> None:
        configs.append(config)
        raise UserError("enough")

    monkeypatch.setattr("kilolayer.api.train", take)
    with pytest.raises(SystemExit):
        main(["train", *options])
    return configs[0]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {}),
        (["--task", "ant"], {"task": "ant"}),
        (["--seed", "3", "--task=arm_push_easy"], {"task": "arm_push_easy", "seed": 3}),
        (["--mjcf", "r.xml", "--goal-site", "tip"], {"mjcf": "r.xml", "goal_site": "tip"}),
        (["--task", "ant", "--depth", "8"], {"task": "ant", "depth": 8}),
    ],
)
def test_the_command_line_starts_from_the_settings_of_the_task(options, fields, monkeypatch):
    assert take_config(monkeypatch, *options) == recommended(**fields)


def test_a_config_file_keeps_its_settings_for_another_task(monkeypatch, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(recommended("arm_reach", depth=8).to_json())
    config = take_config(monkeypatch, "--config", str(file), "--task", "ant")
    assert config == recommended("arm_reach", depth=8).having(task="ant")


def test_help_shows_the_settings_of_the_task(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--task", "ant", "--help"])
    text = capsys.readouterr().out
    assert "those of ant" in " ".join(text.split())
    assert f"default: {recommended('ant').collection.total_steps})" in text


def test_a_recipe_comes_after_the_task_and_before_the_options(monkeypatch) -> None:
    config = take_config(monkeypatch, "--recipe=wang2025", "--task", "ant", "--energy", "dot")
    assert config == recommended("ant", **(RECIPES["wang2025"] | {"energy": "dot"}))


@pytest.mark.parametrize("command", ["evaluate", "play", "report"])
def test_commands_refuse_a_directory_without_a_run(command, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, str(tmp_path)])
    assert stop.value.code == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_goal_of_the_wrong_dimension_is_refused(tiny_run, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(tiny_run.path), "--goal", "1,2,3"])
    assert stop.value.code == 2
    assert "takes 2 numbers separated by commas, x (cell), y (cell)" in capsys.readouterr().err


def test_evaluate_prints_scores_for_a_given_goal(tiny_run, capsys) -> None:
    main(["evaluate", str(tiny_run.path), "--goal", "1,1", "--episodes", "3"])
    assert "smallest_distance" in capsys.readouterr().out


def test_play_writes_a_picture_of_given_goals(tiny_run, tmp_path, capsys) -> None:
    target = tmp_path / "play.gif"
    main(["play", str(tiny_run.path), "--goal", "1,2", "--goal", "3,3", "--out", str(target)])
    assert target.read_bytes()[:4] == b"GIF8"
