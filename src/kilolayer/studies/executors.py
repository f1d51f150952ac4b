"""Executors for the runs of a study: local processes, Ray, or Slurm through submitit.

Every executor starts the same command and returns its exit code. `execute` schedules the commands.
"""

import contextlib
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from kilolayer.errors import UserError, bad_field

SLURM_JOBS = 100  # in the queue, by default
SLURM_MINUTES = 24 * 60  # per job; SBATCH_TIMELIMIT overrides it
SLURM_CORES = 4  # per job; SBATCH_CPUS_PER_TASK overrides it
STOP_SECONDS = 10.0


class Job(Protocol):
    """A command that was started."""

    def poll(self) -> int | None:
        """The exit code, or None while the job waits or runs."""
        ...

    def stop(self) -> None:
        """Stop the job if it has not ended."""
        ...


class Executor(Protocol):
    """jobs: number of commands that run at the same time."""

    jobs: int

    def start(self, command: list[str], log: Path) -> Job:
        """Start a command whose output is appended to `log`."""
        ...

    def close(self) -> None: ...


@dataclass
class LocalJob:
    """A process on this machine."""

    process: subprocess.Popen

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class LocalExecutor:
    """Processes on this machine; each is pinned to its share of the cores if the system supports
    it.

    gpus: CUDA's names of the GPUs to use. Each job uses one GPU; several jobs on one GPU share its
    memory.
    """

    def __init__(self, jobs: int, gpus: Sequence[str] = ()):
        self.jobs, self.gpus = jobs, tuple(gpus)
        self._slots: list[LocalJob | None] = [None] * jobs

    def start(self, command: list[str], log: Path) -> LocalJob:
        free = [job is None or job.poll() is not None for job in self._slots]
        slot = free.index(True)
        # Runs of equal shapes share one program, which the first run on this host compiles.
        cache = log.parent / f"compiled-{platform.node()}"
        environment = {"JAX_COMPILATION_CACHE_DIR": str(cache), **os.environ}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
            jobs_per_gpu = -(-self.jobs // len(self.gpus))
            if jobs_per_gpu > 1:
                fraction = f"{0.9 / jobs_per_gpu:.2f}"
                environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", fraction)
        with log.open("ab") as output:
            # A new process group: only the study receives Ctrl-C, and it stops its runs.
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        if hasattr(os, "sched_setaffinity"):
            cores = available_cores()
            share = min(self.jobs, len(cores))  # more jobs than cores share them
            with contextlib.suppress(ProcessLookupError):  # the process has already ended
                os.sched_setaffinity(process.pid, cores[slot % share :: share])
        job = self._slots[slot] = LocalJob(process)
        return job

    def close(self) -> None: ...


def available_gpus(count: int | None = None) -> tuple[str, ...]:
    """CUDA's names of the GPUs that this process may use, from CUDA_VISIBLE_DEVICES if it is set.

    count: number of GPUs that JAX finds. By default a separate process counts them, so that this
    process uses no GPU.
    """
    if count is None:
        script = "import jax; print(sum(d.platform == 'gpu' for d in jax.local_devices()))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        count = int(done.stdout) if done.returncode == 0 else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return tuple(names[:count])


def available_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass
class FutureJob:
    """A job of a library that returns a future."""

    future: Any
    cancel: Callable[[], object]

    def poll(self) -> int | None:
        if not self.future.done():
            return None
        try:
            return self.future.result()
        except Exception:  # the worker failed: the run is resumed in another job
            return 1

    def stop(self) -> None:
        self.cancel()


def run_remote_command(command: list[str], log: str, environment: dict[str, str]) -> int:
    """Run a command on a remote worker; the study's folder must be on a shared disk."""
    with open(log, "ab") as output:
        return subprocess.run(
            command, stdout=output, stderr=output, env={**os.environ, **environment}, check=False
        ).returncode


# Environment variables that a remote worker gets from this process.
FORWARDED_VARIABLES = ("PYTHONPATH", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS", "JAX_PLATFORMS")


def _forwarded_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in FORWARDED_VARIABLES if name in os.environ}


class RayExecutor:
    """An existing Ray cluster (RAY_ADDRESS, or one started on this machine), or else a local
    one."""

    def __init__(self, jobs: int | None, memory: int):
        ray = _import_package("ray", "ray")
        self._ray, self._started_ray = ray, not ray.is_initialized()
        if self._started_ray:
            try:
                ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
            except Exception as error:
                raise UserError(
                    f"no Ray cluster answers ({str(error).splitlines()[0]}): check RAY_ADDRESS, or "
                    "unset it to start a local cluster."
                ) from error
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        suitable = [node for node in nodes if node.get("GPU", 0) >= min(1, gpus)]
        largest = max((node.get("memory", 0) for node in suitable), default=0)
        if memory > largest:
            self.close()
            raise UserError(
                f"a run needs {memory / 2**30:.1f} GiB, and the largest suitable machine of the "
                f"Ray cluster has {largest / 2**30:.1f} GiB: add a larger machine, or reduce "
                "replay_steps_per_env."
            )
        remote = ray.remote(num_cpus=1, num_gpus=min(1, gpus), memory=memory, max_retries=0)
        self._run = remote(run_remote_command)
        self.jobs = jobs or gpus or max(1, int(resources.get("CPU", 1)))

    def start(self, command: list[str], log: Path) -> FutureJob:
        reference = self._run.remote(command, str(log), _forwarded_environment())
        return FutureJob(reference.future(), lambda: self._ray.cancel(reference))

    def close(self) -> None:
        if self._started_ray:
            self._ray.shutdown()


class SlurmExecutor:
    """One Slurm job per run. Partition, account and other options come from SBATCH_ variables.

    cluster: submitit's name of the cluster; `local` runs the jobs as local processes, for tests.
    """

    def __init__(self, jobs: int | None, memory: int, folder: Path, cluster: str = "slurm"):
        submitit = _import_package("slurm", "submitit")
        if cluster == "slurm" and submitit.SlurmExecutor.affinity() < 0:
            raise UserError(
                "executor = 'slurm' needs the program sbatch, and this machine has none: use a "
                "login node of the cluster, or omit --executor."
            )
        self.jobs = jobs or SLURM_JOBS
        self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        self._executor.update_parameters(
            name="kilolayer",
            mem_gb=max(1, -(-memory // 2**30)),
            timeout_min=SLURM_MINUTES,
            cpus_per_task=_slurm_cores(),
        )

    def start(self, command: list[str], log: Path) -> FutureJob:
        try:
            job = self._executor.submit(
                run_remote_command, command, str(log), _forwarded_environment()
            )
        except Exception as error:
            raise UserError(
                f"Slurm accepts no job ({str(error).splitlines()[0]}): check the SBATCH_ "
                "variables and repeat the command, which repeats no finished run."
            ) from error
        return FutureJob(job, job.cancel)

    def close(self) -> None: ...


def _slurm_cores() -> int:
    cores = os.environ.get("SBATCH_CPUS_PER_TASK", str(SLURM_CORES))
    if not (cores.isdigit() and int(cores) > 0):
        raise bad_field("SBATCH_CPUS_PER_TASK", cores, "a number of cores", SLURM_CORES)
    return int(cores)


def _import_package(extra: str, package: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        raise UserError(
            f"executor = {extra!r} needs the package {package}: `pip install 'kilolayer[{extra}]'`."
        ) from None
