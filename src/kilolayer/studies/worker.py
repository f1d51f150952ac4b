"""`python -m kilolayer.studies.worker STUDY NAME`: finish one run of a study.

Every executor starts this command, any number of times. The worker leaves a finished run alone and
resumes a killed one. It waits for another worker of the same run, which may have outlived its
study.
"""

import json
import sys
from pathlib import Path

from kilolayer import api
from kilolayer.config import RunConfig
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.lock import file_lock
from kilolayer.types import UserError


def finish_run(study: Path, name: str) -> None:
    """Train the run, or resume it; raises UserError for a config that cannot be run."""
    with file_lock(study / "logs" / f"{name}.lock"):
        _finish(study, name)


def _finish(study: Path, name: str) -> None:
    directory = RunDirectory(study / "runs" / name)
    if directory.finished:
        return
    if (directory.path / "config.json").exists():
        api.resume(directory.path, progress=False)
        return
    cells = json.loads((study / "study.json").read_text(encoding="utf-8"))["runs"]
    config = RunConfig.from_json(json.dumps(cells[name]["config"]), f"the study's run {name}")
    api.train(config, directory.path, progress=False)


if __name__ == "__main__":
    try:
        finish_run(Path(sys.argv[1]), sys.argv[2])
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
