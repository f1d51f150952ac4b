"""Host work that training need not wait for: scores, files."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """Does jobs one after the other in a thread of its own, in the order they were given.

    An error in a job is raised by the next call of any method here.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._jobs: list[Future] = []

    def submit(self, job: Callable[..., Any], *arguments: Any) -> Future:
        """Do `job` later; the future tells when it is done."""
        self._raise_errors()
        self._jobs.append(self._executor.submit(job, *arguments))
        return self._jobs[-1]

    def wait(self) -> None:
        """Return when everything is done."""
        for job in self._jobs:
            job.exception()
        self._raise_errors()

    def close(self) -> None:
        """Finish what was begun, also after an error elsewhere."""
        self._executor.shutdown(wait=True)

    def _raise_errors(self) -> None:
        done = [job for job in self._jobs if job.done()]
        self._jobs = [job for job in self._jobs if not job.done()]
        for job in done:
            job.result()
