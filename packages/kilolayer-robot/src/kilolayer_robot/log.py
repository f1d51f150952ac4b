"""The log of a control loop: a line for every step and plan, streamed to the disk.

Memory is fixed: counts, histograms, the newest records, and a queue of limited length between the
loop and the writing thread.
"""

import contextlib
import dataclasses
import json
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from kilolayer_robot.errors import UserError
from kilolayer_robot.records import PlanRecord, StepRecord, Summary, Tally

# Seconds between two writes, and between two reports of progress.
WRITE_INTERVAL = 0.5
# Newest records kept in memory, and records that may wait for the disk.
MAX_NEWEST, MAX_WAITING = 1024, 16384
# Seconds to wait at the end for records that are being written.
CLOSE_TIMEOUT = 5.0
# Number of different tracebacks written, so that a loop that keeps failing in new ways does not
# fill the disk.
MAX_ERRORS = 100
# Bytes after which the log is renamed to FILE.1, replacing an older FILE.1, and started again.
MAX_FILE_BYTES = 256 * 2**20

# (ticks, misses, safe actions)
Progress = Callable[[int, int, int], None]


class ControlLog:
    """Keeps records and writes them as JSON lines from its own thread, so that adding a record
    never waits for the disk. A step is `{"event": "step", ...}`, a plan `{"event": "plan", ...}`.

    path: the file; None writes none. progress: called twice a second. Raises UserError if the file
    cannot be made.
    """

    def __init__(
        self,
        path: Path | None = None,
        progress: Progress | None = None,
        largest_file: int = MAX_FILE_BYTES,
    ):
        self.tally = Tally()
        self.steps: deque[StepRecord] = deque(maxlen=MAX_NEWEST)
        self.plans: deque[PlanRecord] = deque(maxlen=MAX_NEWEST)
        self.first_error: str | None = None
        self.notes: list[str] = []
        self.lost = 0
        self._path, self._progress, self._largest = path, progress, largest_file
        self._errors: set[int] = set()
        self._lines: deque[tuple[str, Any]] = deque()
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write, name="control log", daemon=True)
        self._file: IO[str] | None = None
        try:
            if path is not None:
                path.open("w", encoding="utf-8").close()
        except OSError as error:
            raise UserError(f"cannot write the log {path}: {error.strerror}.") from error

    def step(self, record: StepRecord) -> None:
        self.tally.step(record)
        self.steps.append(record)
        self._put("step", record)

    def plan(self, record: PlanRecord) -> None:
        self.tally.plan(record)
        self.plans.append(record)
        self._put("plan", record)

    def error(self, text: str) -> None:
        """Record the traceback of a caught exception. Each different one is written once; the first
        is in the summary."""
        self.first_error = self.first_error or text.strip().splitlines()[-1]
        if hash(text) not in self._errors and len(self._errors) < MAX_ERRORS:
            self._errors.add(hash(text))
            self._put("error", {"error": text})

    def note(self, *texts: str) -> None:
        """Record settings that the system did not permit, or other restrictions, each once."""
        for text in texts:
            if text not in self.notes:
                self.notes.append(text)
                self._put("note", {"note": text})

    def open(self) -> None:
        """Start writing. Raises UserError for a log that was opened before."""
        if self._writer.ident is not None:
            raise UserError(
                "this control loop or its log has run before: make a new ControlLoop with a new "
                "ControlLog."
            )
        self._file = None if self._path is None else self._path.open("a", encoding="utf-8")
        self._writer.start()

    def summary(self, **others: Any) -> Summary:
        """others: the other fields of `Summary`."""
        return self.tally.summary(
            records_lost=self.lost, first_error=self.first_error, notes=tuple(self.notes), **others
        )

    def close(self, summary: Summary) -> Summary:
        """Write the remaining records, and the summary as the last line,
        `{"event": "summary", ...}`.

        Returns the summary, whose notes also say what the file lacks: the disk may fill up only
        now.
        """
        self._lines.append(("summary", dataclasses.asdict(summary)))
        self._stop.set()
        # Not forever, because nobody may read from the file, such as a pipe.
        self._writer.join(CLOSE_TIMEOUT)
        if self._path is not None and self._writer.is_alive():
            self.note(f"the log {self._path} is not complete: writing it took too long")
        if self._path is not None and self.lost:
            self.note(f"the log {self._path} lacks {self.lost:,} records: the disk was too slow")
        return dataclasses.replace(summary, notes=tuple(self.notes))

    def _put(self, event: str, record: Any) -> None:
        # Appending to a deque is atomic. The other thread's record may exceed the length.
        if len(self._lines) < MAX_WAITING:
            self._lines.append((event, record))
        else:
            self.lost += 1

    def _write(self) -> None:
        while not self._stop.wait(WRITE_INTERVAL):
            self._drain()
            if self._progress is not None:
                counts = self.tally
                ticks = counts.steps + counts.skipped
                # A closed terminal must not end the writing thread.
                with contextlib.suppress(Exception):
                    self._progress(ticks, counts.misses, sum(list(counts.safe.values())))
        self._drain()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _drain(self) -> None:
        try:
            while self._lines:
                event, record = self._lines.popleft()
                if self._file is not None:
                    self._file.write(_line(event, record))
            if self._file is not None:
                self._file.flush()
                self._rotate()
        except OSError as error:
            # A full disk must not stop the robot.
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
            self.note(f"the log {self._path} ends early: {error.strerror}")

    def _rotate(self) -> None:
        assert self._file is not None
        assert self._path is not None
        # A pipe has no position, and nothing to replace.
        if self._file.seekable() and self._file.tell() >= self._largest:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("w", encoding="utf-8")


def _line(event: str, record: Any) -> str:
    fields = record if isinstance(record, dict) else record._asdict()
    rounded = {  # to microseconds
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in fields.items()
    }
    return json.dumps({"event": event, **rounded}) + "\n"
