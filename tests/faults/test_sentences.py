"""A sentence where a traceback was: exit code 2, one line, nothing left behind."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from faults.conftest import TINY, refused
from kilolayer import boundary
from kilolayer.boundary import answered, explained
from kilolayer.cli import main
from kilolayer.errors import OutsideError, UserError
from kilolayer.runtime.progress import LiveDisplay
from kilolayer.runtime.stopping import Terminated

INSPECT = ["inspect", "--goal-site=tip"]
GYM = ["train", *TINY, "--out=run"]
CLONE = ["train", *TINY, "--agent=gcbc", "--out=run"]


CASES = {
    "memory of the model": (
        [*INSPECT, "--mjcf=small_memory.xml"],
        r'MuJoCo cannot step .*memory.*<size memory="100M"/>',
    ),
    "sleep flag": ([*INSPECT, "--mjcf=sleep.xml"], r'cannot step .*remove sleep="enable"'),
    "sleep flag in training": (
        ["train", *TINY, "--mjcf=sleep.xml", "--goal-site=tip", "--out=run"],
        r'remove sleep="enable"',
    ),
    **{
        f"no model {name!r}": (["train", *TINY, f"--mjcf={name}"], r"mjcf = .* is not allowed: ")
        for name in ("0x10", "\\", "empty.npz", "my_own", "nowhere.xml", "..")
    },
    "tiny time step": (
        [*INSPECT, "--mjcf=tiny_step.xml"],
        r"takes 50,000 steps of the model's 1e-06 s.*nearest valid choice is 0.005",
    ),
    "urdf": (["inspect", "--mjcf=r.urdf", "--goal-body=arm"], r"URDF cannot hold.*to_xml"),
    "no steps": ([*CLONE, "--dataset=empty.npz"], r"it holds no steps"),
    "actions above 1": ([*CLONE, "--dataset=act_over.npz"], r"reach 1\.00\d+ .*divide them"),
    "git lfs": ([*CLONE, "--dataset=lfs.npz"], r"git lfs pull"),
    "scalar observation": (
        [*GYM, "--gym=my_envs:Reach-wrong_shape-v0"],
        r"'observation', which it declares with the shape \(4,\)",
    ),
    "column of goals": (
        [*GYM, "--gym=my_envs:Reach-col_shape-v0"],
        r"the shape \(2, 1\) in its 'achieved_goal'",
    ),
    "tuple": ([*GYM, "--gym=my_envs:Reach-tuple_obs-v0"], r"of type tuple where.*a dictionary"),
    "old reset": ([*GYM, "--gym=my_envs:Reach-old_reset-v0"], r"its reset must return"),
    "old step": ([*GYM, "--gym=my_envs:Reach-old_step-v0"], r"its step must return five values"),
    **{
        f"environment {kind}": ([*GYM, f"--gym=my_envs:Reach-{kind}-v0"], sentence)
        for kind, sentence in {
            "short": r"episodes end after 1 step.*max_episode_steps of 2 or more",
            "nolimit": r"states no max_episode_steps: register it with one",
            "needs_info": r"compute_reward fails \(KeyError: 'd'\): give the radius",
            "nested": r"its observation is Dict.* not a vector",
            "image": r"its achieved_goal is Box.* not a vector",
            "int_goal": r"its achieved_goal is Box.*int64\) and not a vector of real numbers",
            "empty_obs": r"its observation is Box.*\(0,\)",
            "discrete": r"its actions are Discrete\(4\)",
            "inf": r"have no finite bounds: wrap it",
            "words": r"has no real numbers \(<U1\) in its 'observation'",
            "nothing": r"has no real numbers \(object\) in its 'observation'",
            "complex": r"has no real numbers \(complex128\) in its 'observation'",
            "ragged": r"has no array in its 'observation'",
            "no_flag": r"its step returns None as 'terminated': return a bool",
            "exits": r"its step fails \(SystemExit: 0\): correct the environment",
            "reset_exits": r"its reset fails \(SystemExit: no display\)",
            "reward_exits": r"its compute_reward fails \(SystemExit: no licence\)",
            "no_actions": r"action_space fails \(AttributeError.*'action_space'",
            "inf_reset": r"its reset returns nan or infinity in 'achieved_goal'",
            "step_asserts": r"its step fails \(AssertionError\): correct the environment",
            "plane": r"no environment of this name.*choice is my_envs:Reach-plain-v0",
        }.items()
    },
    "raises": (
        [*GYM, "--gym=my_envs:Reach-raises-v0"],
        r"its step fails \(RuntimeError: the simulator lost its connection\)",
    ),
    "robotics": ([*GYM, "--gym=FetchReach-v4"], r"FetchReach-v4.*MuJoCo.*PointMaze_UMaze-v3"),
    "module that breaks": (
        [*GYM, "--gym=broken_module:X-v0"],
        r"package broken_module cannot be imported \(RuntimeError: this module breaks",
    ),
    "module of bad syntax": ([*GYM, "--gym=no_python:X-v0"], r"SyntaxError.*correct the package"),
    "module that needs more": (
        [*GYM, "--gym=needs_more:X-v0"],
        r"a_package_that_is_not_installed.*install what it asks for",
    ),
    "module that leaves": (
        [*GYM, "--gym=a_script:X-v0"],
        r"a_script cannot be imported \(SystemExit: usage: a_script.py FILE\)",
    ),
    "environment without goals": ([*GYM, "--gym=CartPole-v9"], r"choice is (?!CartPole)\w+"),
    "module without environments": ([*GYM, "--gym=os:X-v0"], r"imports a package first\)\.$"),
    "module as a file": (
        [*GYM, "--gym=./my_envs.py:Reach-plain-v0"],
        r"write package:name, .*nearest valid choice is my_envs:Reach-plain-v0",
    ),
    "no module": ([*GYM, "--gym=no_such_module:X-v0"], r"no_such_module.*install the package"),
    "seeds": (["train", *TINY, "--seed=4294967295", "--seeds=2"], r"seeds = 2.*choice is 1"),
    "seed": (
        ["evaluate", "run", "--seed=12345678901234567890"],
        r"seed = .*\[0, 4294967296\); the nearest valid choice is 4294967295",
    ),
    "seed with an exponent": (["evaluate", "run", "--seed", "1e10"], r"seed = '1e10'.*4294967295"),
    "seed below zero": (["play", "run", "--seed", "-1"], r"seed = '-1'.*; .* choice is 0\."),
    "folder": (["play", "run", "--out", "/proc/nodir/x.mp4"], r"is not a run directory"),
    "jobs in a rehearsal": (["study", "depth", "--dry-run", "--jobs=-1"], r"jobs = -1 .* is 1\."),
    "effect in a rehearsal": (
        ["study", "depth", "--dry-run", "--smallest-effect=nan"],
        r"smallest_effect = nan .* is 0\.05",
    ),
    "students beyond the last seed": (
        ["distil", "trained", "--seed=4294967295", "--seeds=2"],
        r"seeds = 2.*4294967296.*choice is 1",
    ),
    "no students": (["distil", "trained", "--seeds=0"], r"seeds = 0 .* choice is 1"),
    "seeds of a study": (
        ["study", "depth", "--dry-run", "--seeds=5000000000"],
        r"seeds = 5000000000 .* at most 10,000.* choice is \d+",
    ),
    "a control step of ages": (
        [*INSPECT, "--mjcf=arm.xml", "--control-step=1e300"],
        r"takes 5e\+302 steps",
    ),
    "memory": (
        ["train", "--num-envs=1000000000", "--out=run"],
        r"num_envs = 1000000000 .*GiB at least.*nearest valid choice is \d+",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), CASES.values(), ids=CASES)
def test_a_bad_input_gets_one_sentence(folder, capsys, arguments, sentence):
    assert re.search(sentence, refused(capsys, *arguments))


# Sizes and numbers of commands that read a run.
OF_A_RUN = {
    "evaluate --episodes=1000000000000": r"episodes = 1000000000000 .* choice is [1-9]\d+",
    "evaluate --samples=1000000000000": r"samples = 1000000000000 .* choice is [1-9]\d+",
    "evaluate --steps=1000000000000": r"steps = 1000000000000 .* choice is [1-9]\d+",
    "evaluate --goal=1e30,1": r"takes 2 numbers .* each at most 1e\+10",
    "play --goal=1,-1e30": r"takes 2 numbers .* each at most 1e\+10",
    "collect --out=a.npz --steps=10 --noise=1e300": r"noise = 1e\+300 .*\[0, 100\].* is 100",
    "collect --out=a.npz --steps=10 --noise=-1": r"noise = -1.0 .*\[0, 100\].* is 0",
    "control --seconds=1e300 --rate=1e9": r"seconds = 1e\+300 .* a time that ends",
    "control --seconds=1 --out=arm.xml/log": r"arm.xml/log' .* make it first",
}


@pytest.mark.parametrize("command", OF_A_RUN)
def test_a_number_that_a_run_cannot_take_is_told(folder, capsys, tiny_run, command):
    shutil.copytree(tiny_run.path, "trained")
    name, *options = command.split()
    assert re.search(OF_A_RUN[command], refused(capsys, name, "trained", *options))


def test_an_environment_that_tells_nan_is_named_and_not_its_time_step(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*GYM, "--gym=my_envs:Reach-nan-v0"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2
    assert "Correct the environment: what it observes must be finite and below 1e+10." in told
    assert "time step" not in told
    # What shows the fault is kept.
    assert b'"diverged"' in Path("run/metrics.jsonl").read_bytes()


def test_names_with_brackets_are_printed_as_they_are(folder, capsys):
    main(["inspect", "--mjcf=markup.xml", "--goal-site=grip[left]", "--out=picture.png"])
    told = capsys.readouterr().out
    for name in ("m[bold]", "grip[/l]", "grip[left]"):
        assert name in told


OWN = {
    "my_own:raises": r"fails \(ZeroDivisionError: in the user's own code\)",
    "my_own:wants": r"fails \(TypeError: .*positional argument.*called without arguments",
    "my_own:asserts": r"fails \(AssertionError\)",
    "my_own:nothing": r"returns None where a kilolayer\S+ is needed",
    "my_own:other": r"returns a value of type dict where",
    "my_own:NoTask": r"returns a value of type NoTask where",
    "my_own:NUMBER": r"it is a value of type int, which cannot be called",
    "my_own:goood": r"has no 'goood'; the nearest valid choice is my_own:good",
    "my_own:": r"the module my_own \(\S+my_own\.py\) has no ''",
    ":good": r"write module:function, the module's name",
    "no_such_module:f": r"No module named 'no_such_module'\): write module:function",
    "no_such.module:f": r"No module named 'no_such'",
    "broken_module:f": r"cannot be imported \(RuntimeError: this module breaks on import\)",
    "no_python:f": r"SyntaxError",
    "needs_more:f": r"a_package_that_is_not_installed'\): correct the module",
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("command", ["inspect --task", "study --dry-run --name"])
def test_a_users_own_function_is_told_by_its_fault(folder, capsys, command, name):
    told = refused(capsys, *command.split(), name)
    assert re.search(OWN[name], told)
    log = re.search(r"Details: (\S+)", told)
    if "Error" in told:
        assert log is not None
        assert "Traceback" in Path(log[1]).read_text()


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("my_own:NoTask",)])
def test_an_agent_of_a_users_own_is_told_by_its_fault(folder, capsys, name):
    told = refused(capsys, "train", *TINY, f"--agent={name}")
    assert "agent = " in told


# Commands whose work would be lost if the place of its result could not be written.
LONG_WORK = {
    "play": ["play", "trained", "--out", "{}.mp4"],
    "collect": ["collect", "trained", "--steps=10", "--out", "{}.npz"],
    "distil": ["distil", "trained", "--out", "{}"],
    "prune": ["prune", "trained", "--out", "{}"],
    "export": ["export", "trained", "--out", "{}"],
    "latency": ["latency", "trained", "--out", "{}.html"],
    "hierarchy": ["hierarchy", "trained", "--out", "{}.json"],
    "ground": ["ground", "trained", "--out", "{}"],
    "train-vla": ["train-vla", "trained", "--out", "{}"],
    "train": ["train", *TINY, "--out", "{}"],
    "inspect": ["inspect", "--out", "{}.png"],
}


@pytest.mark.parametrize("place", ["arm.xml/x", "/proc/nodir/x"])
@pytest.mark.parametrize("arguments", LONG_WORK.values(), ids=LONG_WORK)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    folder, capsys, tiny_run, arguments, place, monkeypatch
):
    def work(display: object, name: str) -> None:
        assert name == "policy", f"{name} began"

    monkeypatch.setattr(LiveDisplay, "phase", work)
    shutil.copytree(tiny_run.path, "trained")
    told = refused(capsys, *(each.format(place) for each in arguments))
    assert place in told
    assert re.search(r"A part of that path is a file|[Mm]ake (its folder|it) first", told)


def raised_in(error: BaseException) -> SystemExit:
    with pytest.raises(SystemExit) as stop, answered(["evaluate", "a b"]):
        raise error
    return stop.value


ENDS = {
    "user": (UserError("do that instead."), 2, r"^error: do that instead\.\n$"),
    "outside": (OutsideError("its code failed."), 2, r"its code failed\. Details: \S+\.log\n$"),
    "interrupt": (KeyboardInterrupt(), 130, r"^stopped\n$"),
    "terminated": (Terminated(), 143, r"^stopped\n$"),
    "parser": (SystemExit(5), 5, r"^$"),
    "memory": (MemoryError("for an array"), 2, r"the memory is used up .*--num-envs"),
    "xla memory": (RuntimeError("RESOURCE_EXHAUSTED: of 3 GB"), 2, r"the memory is used up"),
    "file": (PermissionError(13, "Permission denied", "/x/y"), 2, r"cannot use /x/y: Permission"),
    "quoted": (
        RuntimeError("INTERNAL: Traceback\n  File x\nkilolayer.errors.OutsideError: say this\n---"),
        2,
        r"^error: say this Details",
    ),
    "ours": (
        ZeroDivisionError("oh"),
        1,
        r"Traceback.*fault of Kilolayer.*`kilolayer evaluate 'a b'`",
    ),
}


@pytest.mark.parametrize(("error", "code", "told"), ENDS.values(), ids=ENDS)
def test_every_error_ends_with_its_exit_code_and_a_sentence(
    folder, capsys, error, code, told, monkeypatch
):
    # This file counts as a library, lest it is taken for a user's.
    monkeypatch.setattr(boundary, "LIBRARIES", (*boundary.LIBRARIES, str(Path(__file__).parent)))
    assert raised_in(error).code == code
    assert re.search(told, capsys.readouterr().err, re.DOTALL)


def test_an_error_of_a_users_own_code_names_its_line(folder):
    code = compile("def f():\n    raise KeyError('a')\nf()", str(folder / "own.py"), "exec")
    with pytest.raises(KeyError) as error:
        exec(code, {})
    told = explained(error.value.with_traceback(error.value.__traceback__.tb_next))
    assert told is not None
    assert f"your code failed at {folder / 'own.py'}:2" in told


def test_code_of_a_users_own_that_ends_the_program_is_told(folder, capsys):
    assert raised_in(SystemExit(0)).code == 2  # this file stands for the user's
    told = capsys.readouterr().err
    assert re.search(r"error: your code ended the program at \S+test_sentences.py:\d+", told)


def test_logs_are_bounded_and_never_in_the_way(folder, monkeypatch):
    for index in range(boundary.LOGS_KEPT + 5):
        monkeypatch.setattr("os.getpid", lambda index=index: index)
        kept = boundary.write_log(ValueError("x"))
    assert kept is not None
    assert len(list(kept.parent.iterdir())) == boundary.LOGS_KEPT
    monkeypatch.setattr("kilolayer.boundary.user_log_path", lambda *_, **__: Path("/proc/no"))
    assert boundary.write_log(ValueError("x")) is None


def test_a_tilde_is_the_home_folder(folder, monkeypatch, capsys):
    home = folder.parent / "home"  # where libraries may keep settings of their own
    monkeypatch.setenv("HOME", str(home))
    for arguments in (
        ["report", "~/run"],
        ["train", "--resume=~/run"],
        ["train", "--resume", "~/run"],
    ):
        told = refused(capsys, *arguments)
        assert f"{home / 'run'} is not a run directory" in told
    for out in ("--out=~no-such-user/run", "~no-such-user/run"):
        told = refused(capsys, "train", *TINY, out)
        assert "this machine has no user no-such-user: write ./~no-such-user/run" in told


def test_a_module_of_the_current_directory_serves_gym(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(folder))])
    text = (folder / "my_envs.py").read_text()
    (folder / "other_envs.py").write_text(text.replace("Reach-", "Other-"))
    told = refused(capsys, *GYM, "--gym=other_envs:Other-discrete-v0")
    assert "its actions are Discrete(4)" in told
