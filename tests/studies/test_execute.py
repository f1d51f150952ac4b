"""Runs are brought to their end: retries, failures, what is never repeated, and where they go."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from kilolayer.analysis.study import load_study
from kilolayer.runtime.lock import file_lock
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.studies import execute as execution
from kilolayer.studies import run as studies
from kilolayer.studies.execute import execute
from kilolayer.studies.executors import (
    SLURM_CORES,
    Local,
    Ray,
    Slurm,
    cores_here,
    gpus_here,
    run_command,
)
from kilolayer.types import UserError
from probes import slow

EXIT_3 = [sys.executable, "-c", "print('broken'); raise SystemExit(3)"]


class Done:
    def __init__(self, code: int | None):
        self.code, self.stopped = code, False

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.stopped = True


class Pretend:
    """Runs nothing: `codes` are the exit codes of each run's attempts, None if it goes on."""

    jobs = 2

    def __init__(self, runs: Path, codes: dict[str, list[int | None]]):
        self.runs, self.codes = runs, codes
        self.started: list[str] = []
        self.live: list[Done] = []

    def start(self, command: list[str], log: Path) -> Done:
        name = command[-1]
        self.started.append(name)
        code = self.codes.get(name, [0]).pop(0)
        log.write_text(f"output of {name}, attempt {self.started.count(name)}\n")
        if code == 0:
            (self.runs / name / "DONE").touch()
        self.live.append(Done(code))
        return self.live[-1]

    def close(self) -> None: ...


@pytest.fixture
def study(write_study, monkeypatch):
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.0)
    study = write_study("depth", [({"depth": depth, "seed": 0}, [1.0], {}) for depth in (1, 2, 3)])
    for name in ("run1", "run2"):
        (study.path / "runs" / name / "DONE").unlink()
    return study


def test_a_finished_run_is_not_repeated_and_a_crash_is_retried_once(study):
    executor = Pretend(study.path / "runs", {"run1": [137, 0], "run2": [1, 2]})
    execute(study.path, executor, SilentDisplay())
    assert sorted(executor.started) == ["run1", "run1", "run2", "run2"]
    found = load_study(study.path)
    assert [run.state for run in found.runs] == ["finished", "finished", "failed"]
    failure = found.runs[2].failure or ""
    assert "run2 failed 2 times without progress, the last time with exit code 2" in failure
    assert "output of run2, attempt 2" in failure
    again = Pretend(study.path / "runs", {})
    execute(study.path, again, SilentDisplay())
    assert again.started == ["run2"]  # a failed run has another chance in the next pass
    assert load_study(study.path).runs[2].state == "finished"
    execute(study.path, again, SilentDisplay())
    assert again.started == ["run2"]


# A worker that is killed after each checkpoint, as by a time limit, until the fourth is the last.
IN_FOUR_PIECES = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1]) / "runs" / sys.argv[2]
done = (folder / "metrics.jsonl").read_text().count('"checkpoint"') + 1
with (folder / "metrics.jsonl").open("a") as file:
    counts = dict.fromkeys(("round", "env_steps", "updates"), done)
    event = {"event": "checkpoint", **counts, "metrics": {}}
    file.write(json.dumps(event) + "\\n")
(folder / "DONE").touch() if done == 4 else sys.exit(1)
"""


def in_four_pieces(study: Path, name: str) -> list[str]:
    return [sys.executable, "-c", IN_FOUR_PIECES, str(study), name]


def test_a_run_goes_on_as_long_as_every_attempt_leaves_a_checkpoint(study, monkeypatch):
    monkeypatch.setattr(execution, "worker_command", in_four_pieces)
    execute(study.path, Local(1), SilentDisplay())
    assert [run.state for run in load_study(study.path).runs] == ["finished"] * 3


def test_an_interrupt_stops_what_runs(study, monkeypatch):
    executor = Pretend(study.path / "runs", {"run1": [None], "run2": [None]})

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        execute(study.path, executor, SilentDisplay())
    assert [job.stopped for job in executor.live] == [True, True]
    assert [run.state for run in load_study(study.path).runs] == [
        "finished", "unfinished", "unfinished",
    ]  # fmt: skip


def test_the_share_that_is_done_is_that_of_its_steps(write_study):
    study = write_study("depth", [({"seed": 0}, [1.0, 2.0, 3.0], {"total_steps": 800})])
    assert execution.share_done(study.runs[0]) == pytest.approx(200 / 800)


def wait(job) -> int:
    for _ in range(3000):
        code = job.poll()
        if code is not None:
            return code
        time.sleep(0.02)
    raise AssertionError("the job does not end")


def test_local_processes_keep_to_their_cores_and_tell_their_code(tmp_path):
    executor, log = Local(1), tmp_path / "log.txt"
    assert wait(executor.start(EXIT_3, log)) == 3
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    assert wait(executor.start([sys.executable, "-c", show], log)) == 0
    lines = log.read_text().splitlines()
    assert lines[0] == "broken"
    if hasattr(os, "sched_getaffinity"):
        assert set(json.loads(lines[1])) <= set(cores_here())


def test_a_local_process_can_be_stopped(tmp_path):
    executor = Local(1)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    job, began = executor.start(sleep, tmp_path / "log.txt"), time.perf_counter()
    assert job.poll() is None
    job.stop()
    assert job.poll() != 0
    assert time.perf_counter() - began < 10
    assert executor._free == [0]


def test_slurm_jobs_through_submitits_local_executor(tmp_path):
    executor = Slurm(None, 2**30, tmp_path / "slurm", cluster="local")
    log = tmp_path / "log.txt"
    assert wait(executor.start(EXIT_3, log)) == 3
    assert log.read_text() == "broken\n"
    assert executor.jobs > 1


def test_a_run_goes_on_through_the_time_limits_of_slurm(study, monkeypatch, tmp_path):
    """On submitit's local engine, which starts a job of its own for every piece."""
    monkeypatch.setattr(execution, "worker_command", in_four_pieces)
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.1)
    execute(study.path, Slurm(2, 2**30, tmp_path / "slurm", cluster="local"), SilentDisplay())
    assert [run.state for run in load_study(study.path).runs] == ["finished"] * 3


def test_slurm_jobs_ask_for_cores(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("submitit.AutoExecutor.update_parameters", lambda _, **k: asked.update(k))
    Slurm(None, 2**30, tmp_path, cluster="local")
    assert asked["cpus_per_task"] == SLURM_CORES
    monkeypatch.setenv("SBATCH_CPUS_PER_TASK", "16")
    Slurm(None, 2**30, tmp_path, cluster="local")
    assert asked["cpus_per_task"] == 16
    monkeypatch.setenv("SBATCH_CPUS_PER_TASK", "many")
    with pytest.raises(UserError, match="SBATCH_CPUS_PER_TASK = 'many' is not allowed"):
        Slurm(None, 2**30, tmp_path, cluster="local")


def test_the_gpus_that_the_user_allows_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    executor, log = Local(3, gpus_here(2)), tmp_path / "log.txt"
    names = ("CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    show = [sys.executable, "-c", f"import os; print([os.environ.get(n) for n in {names}])"]
    jobs = [executor.start(show, log) for _ in range(3)]
    assert [wait(job) for job in jobs] == [0, 0, 0]
    told = sorted(log.read_text().splitlines())
    assert told == ["['3', '0.45']", "['3', '0.45']", "['GPU-5a', '0.45']"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus_here(3) == ("0", "1", "2")


def test_a_number_of_jobs_keeps_the_gpus(study, monkeypatch):
    monkeypatch.setattr(studies, "gpus_here", lambda count=None: ("0", "1"))
    assert studies._executor("local", 4, study.path).gpus == ("0", "1")


def test_a_remote_worker_has_the_environment_of_the_study(tmp_path):
    show = [sys.executable, "-c", "import os; print(os.environ['COLOUR'])"]
    assert run_command(show, str(tmp_path / "log.txt"), {"COLOUR": "green"}) == 0
    assert (tmp_path / "log.txt").read_text() == "green\n"


@slow  # a Ray cluster takes ten seconds to start
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_study_on_a_local_ray(tiny_config, tmp_path, monkeypatch):
    """Two real runs on a real local cluster."""
    from kilolayer.studies.question import Setup
    from kilolayer.studies.questions import depth

    question = depth.question()
    setups = {"quick": Setup(tiny_config, (1,), 2)}
    monkeypatch.setitem(
        studies.QUESTIONS, "depth", lambda: type(question)(**{**vars(question), "setups": setups})
    )
    found = studies.study("depth", out=tmp_path / "study", executor="ray", progress=False)
    assert [run.state for run in found.study.runs] == ["finished", "finished"]


@slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_refuses_what_no_machine_can_take_and_goes_on_with_what_makes_progress(
    study, monkeypatch
):
    with pytest.raises(UserError, match=r"needs 1048576\.0 GiB, and the largest machine .* has"):
        Ray(1, 2**50)
    monkeypatch.setattr(execution, "worker_command", in_four_pieces)
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.1)
    executor = Ray(2, 2**20)
    try:
        execute(study.path, executor, SilentDisplay())
    finally:
        executor.close()
    assert [run.state for run in load_study(study.path).runs] == ["finished"] * 3


def test_what_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"needs a machine that submits to Slurm, .* no sbatch"):
        Slurm(None, 1, tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"needs the package submitit: `pip install 'kilolayer\[sl"):
        Slurm(None, 1, tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs the package ray: `pip install 'kilolayer\[ray\]'`"):
        Ray(None, 1)


def test_a_lock_is_held_by_one(tmp_path):
    with (
        file_lock(tmp_path / "a.lock"),
        pytest.raises(UserError, match="taken"),
        file_lock(tmp_path / "a.lock", "taken"),
    ):
        pass
    with file_lock(tmp_path / "a.lock", "taken"):
        pass
