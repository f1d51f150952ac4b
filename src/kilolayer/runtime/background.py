"""A background thread for host work beside training: scores and files."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class Background:
    """Runs jobs in one thread, in the order of their submission.

    An exception in a job is raised by the next call of `submit` or `wait`.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._jobs: list[Future] = []

    def submit(self, job: Callable[..., Any], *arguments: Any) -> Future:
        """Submit a job and return its future."""
        self._raise_errors()
        self._jobs.append(self._executor.submit(job, *arguments))
        return self._jobs[-1]

    def wait(self) -> None:
        """Wait until all jobs have ended."""
        wait(self._jobs)
        self._raise_errors()

    def close(self) -> None:
        """Run the remaining jobs and end the thread."""
        self._executor.shutdown(wait=True)

    def _raise_errors(self) -> None:
        done = [job for job in self._jobs if job.done()]
        self._jobs = [job for job in self._jobs if not job.done()]
        for job in done:
            job.result()
