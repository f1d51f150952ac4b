"""`python -m kilolayer.studies.worker STUDY NAME`: finish one run of a study.

Every executor starts this command, any number of times. The worker does nothing for a finished run
and resumes an interrupted run. It waits if another worker of the same run still works.
"""

import sys
from pathlib import Path

from kilolayer import api
from kilolayer.analysis.study import load_study
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.files import file_lock


def finish_run(study: Path, name: str) -> None:
    """Train the run, or resume it; raises UserError for a config that cannot be run."""
    with file_lock(study / "logs" / f"{name}.lock"):
        directory = RunDirectory(study / "runs" / name)
        if directory.finished:
            return
        if (directory.path / "config.json").exists():
            api.resume(directory.path, progress=False, report=False)
        else:
            run = next(run for run in load_study(study).runs if run.name == name)
            api.train(run.planned_config, directory.path, progress=False, report=False)


if __name__ == "__main__":
    try:
        finish_run(Path(sys.argv[1]), sys.argv[2])
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
