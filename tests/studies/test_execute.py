"""Execution of studies: retries, failures, finished runs, executors."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from kilolayer.analysis.study import load_study
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.files import file_lock
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.studies import execute as execution
from kilolayer.studies import run as studies
from kilolayer.studies.execute import execute
from kilolayer.studies.executors import (
    SLURM_CORES,
    LocalExecutor,
    RayExecutor,
    SlurmExecutor,
    available_cores,
    available_gpus,
    run_remote_command,
)
from probes import exhaustive

EXIT_3 = [sys.executable, "-c", "print('broken'); raise SystemExit(3)"]


class Done:
    def __init__(self, code: int | None):
        self.code, self.stopped = code, False

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.stopped = True


class Pretend:
    """A fake executor. codes: exit codes of each run's attempts, None while it runs."""

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


def test_finished_run_is_not_repeated_and_crash_is_retried_once(study):
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


# A worker that is killed after each of four checkpoints, as by a time limit.
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


def test_job_that_ends_before_it_writes_a_log_is_a_failed_run(study):
    class WithoutLogs(Pretend):
        def start(self, command, log):
            job = super().start(command, log)
            if job.code:
                log.unlink()
            return job

    execute(study.path, WithoutLogs(study.path / "runs", {"run1": [1, 1]}), SilentDisplay())
    found = load_study(study.path)
    assert [run.state for run in found.runs] == ["finished", "failed", "finished"]
    assert (found.runs[1].failure or "").splitlines()[-1].startswith("none: the job ended before")


def in_four_pieces(study: Path, name: str) -> list[str]:
    return [sys.executable, "-c", IN_FOUR_PIECES, str(study), name]


def test_run_is_resumed_while_it_makes_progress(study, monkeypatch):
    monkeypatch.setattr(execution, "worker_command", in_four_pieces)
    execute(study.path, LocalExecutor(1), SilentDisplay())
    assert [run.state for run in load_study(study.path).runs] == ["finished"] * 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"runs": {"../elsewhere": {"factors": {}, "config": {}}}}, "no name of a folder"),
        ({"runs": {"run1": {"factors": {"seed": 0}}}}, "KeyError: 'config'"),
        ({"runs": []}, "AttributeError"),
        ({"smallest_effect": 5}, "smallest_effect lies between 0 and 1"),
        ({"smallest_effect": "0.1"}, "TypeError"),
    ],
)
def test_damaged_plan_is_refused(study, changes, sentence):
    file = study.path / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(UserError, match=f"study.json is damaged .*{sentence}.*: put it back from"):
        load_study(study.path)


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe"])
def test_plan_that_is_no_json_object_is_refused(study, content):
    (study.path / "study.json").write_bytes(content)
    with pytest.raises(UserError, match=r"study.json is damaged \(.*\): put it back from a copy"):
        load_study(study.path)


def test_interrupt_stops_running_jobs(study, monkeypatch):
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


def test_progress_share_is_the_share_of_environment_steps(write_study):
    study = write_study("depth", [({"seed": 0}, [1.0, 2.0, 3.0], {"total_steps": 800})])
    assert execution.progress_share(study.runs[0]) == pytest.approx(200 / 800)
    RunDirectory(study.runs[0].path).append_event({"event": "resume", "round": 2})
    assert execution.progress_share(study.runs[0]) == pytest.approx(200 / 800)


def wait(job) -> int:
    for _ in range(3000):
        code = job.poll()
        if code is not None:
            return code
        time.sleep(0.02)
    raise AssertionError("the job does not end")


def test_local_process_is_pinned_and_returns_exit_code(tmp_path):
    executor, log = LocalExecutor(1), tmp_path / "log.txt"
    assert wait(executor.start(EXIT_3, log)) == 3
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    assert wait(executor.start([sys.executable, "-c", show], log)) == 0
    lines = log.read_text().splitlines()
    assert lines[0] == "broken"
    if hasattr(os, "sched_getaffinity"):
        assert set(json.loads(lines[1])) <= set(available_cores())


def test_local_process_can_be_stopped(tmp_path):
    executor = LocalExecutor(1)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    job, began = executor.start(sleep, tmp_path / "log.txt"), time.perf_counter()
    assert job.poll() is None
    job.stop()
    assert job.poll() != 0
    assert time.perf_counter() - began < 10
    assert wait(executor.start(EXIT_3, tmp_path / "log.txt")) == 3  # the slot is free again


def test_slurm_jobs_with_submitits_local_executor(tmp_path):
    executor = SlurmExecutor(None, 2**30, tmp_path / "slurm", cluster="local")
    log = tmp_path / "log.txt"
    assert wait(executor.start(EXIT_3, log)) == 3
    assert log.read_text() == "broken\n"
    assert executor.jobs > 1


def test_run_continues_after_slurm_time_limits(study, monkeypatch, tmp_path):
    """With submitit's local executor, which starts one job per attempt."""
    monkeypatch.setattr(execution, "worker_command", in_four_pieces)
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.1)
    execute(
        study.path, SlurmExecutor(2, 2**30, tmp_path / "slurm", cluster="local"), SilentDisplay()
    )
    assert [run.state for run in load_study(study.path).runs] == ["finished"] * 3


def test_slurm_jobs_request_cores(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("submitit.AutoExecutor.update_parameters", lambda _, **k: asked.update(k))
    SlurmExecutor(None, 2**30, tmp_path, cluster="local")
    assert asked["cpus_per_task"] == SLURM_CORES
    monkeypatch.setenv("SBATCH_CPUS_PER_TASK", "16")
    SlurmExecutor(None, 2**30, tmp_path, cluster="local")
    assert asked["cpus_per_task"] == 16
    monkeypatch.setenv("SBATCH_CPUS_PER_TASK", "many")
    with pytest.raises(UserError, match="SBATCH_CPUS_PER_TASK = 'many' is not allowed"):
        SlurmExecutor(None, 2**30, tmp_path, cluster="local")


def test_visible_gpus_are_assigned_to_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    executor, log = LocalExecutor(3, available_gpus(2)), tmp_path / "log.txt"
    names = ("CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    show = [sys.executable, "-c", f"import os; print([os.environ.get(n) for n in {names}])"]
    jobs = [executor.start(show, log) for _ in range(3)]
    assert [wait(job) for job in jobs] == [0, 0, 0]
    told = sorted(log.read_text().splitlines())
    assert told == ["['3', '0.45']", "['3', '0.45']", "['GPU-5a', '0.45']"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert available_gpus(3) == ("0", "1", "2")


def test_number_of_jobs_does_not_change_gpus(study, monkeypatch):
    monkeypatch.setattr(studies, "available_gpus", lambda count=None: ("0", "1"))
    assert studies._make_executor("local", 4, study.path).gpus == ("0", "1")


def test_remote_command_gets_environment(tmp_path):
    show = [sys.executable, "-c", "import os; print(os.environ['COLOUR'])"]
    assert run_remote_command(show, str(tmp_path / "log.txt"), {"COLOUR": "green"}) == 0
    assert (tmp_path / "log.txt").read_text() == "green\n"


@exhaustive  # a Ray cluster takes ten seconds to start
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_study_on_local_ray(tiny_config, tmp_path, monkeypatch):
    """Two real runs on a real local cluster."""
    from kilolayer.studies.question import Setup

    question = studies.QUESTIONS["depth"]()
    setups = {"quick": Setup(tiny_config, (1,), 2)}
    monkeypatch.setitem(
        studies.QUESTIONS, "depth", lambda: type(question)(**{**vars(question), "setups": setups})
    )
    found = studies.study("depth", out=tmp_path / "study", executor="ray", progress=False)
    assert [run.state for run in found.study.runs] == ["finished", "finished"]


@exhaustive
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_refuses_too_much_memory_and_resumes_runs_with_progress(study, monkeypatch):
    with pytest.raises(UserError, match=r"needs 1048576\.0 GiB, and the largest suitable .* has"):
        RayExecutor(1, 2**50)
    monkeypatch.setattr(execution, "worker_command", in_four_pieces)
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.1)
    executor = RayExecutor(2, 2**20)
    try:
        execute(study.path, executor, SilentDisplay())
    finally:
        executor.close()
    assert [run.state for run in load_study(study.path).runs] == ["finished"] * 3


def test_missing_executors_are_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"needs the program sbatch, and this machine has none"):
        SlurmExecutor(None, 1, tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"needs the package submitit: `pip install 'kilolayer\[sl"):
        SlurmExecutor(None, 1, tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs the package ray: `pip install 'kilolayer\[ray\]'`"):
        RayExecutor(None, 1)


def test_lock_is_exclusive(tmp_path):
    with (
        file_lock(tmp_path / "a.lock"),
        pytest.raises(UserError, match="taken"),
        file_lock(tmp_path / "a.lock", "taken"),
    ):
        pass
    with file_lock(tmp_path / "a.lock", "taken"):
        pass
