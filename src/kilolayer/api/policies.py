"""Prepare policies for deployment: smaller networks, files for other runtimes, and the hub."""

import tempfile
from contextlib import closing, suppress
from pathlib import Path

from kilolayer.api.playing import play
from kilolayer.deploy.export.folder import export_robot as export_robot
from kilolayer.deploy.export.write import export as export
from kilolayer.deploy.hub import (
    PICTURE,
    portable,
    require_repository,
    send,
    write_card,
    write_folder,
)
from kilolayer.deploy.policy import open_policy
from kilolayer.deploy.smaller.distil import distil as distil
from kilolayer.deploy.smaller.prune import prune as prune
from kilolayer.errors import UserError, require_at_least
from kilolayer.runtime.progress import make_display


def push(
    policy: str | Path,
    repository: str,
    private: bool = False,
    update: bool = False,
    licence: str = "Apache-2.0",
    episodes: int = 128,
    progress: bool = True,
) -> str:
    """Upload a policy to the Hugging Face Hub with a generated model card; returns its address.

    policy: a run directory, a policy directory or zoo:NAME, of one of this package's tasks.
    repository: OWNER/NAME. update: replace the files of a repository that exists. episodes: number
    of episodes for the score; a policy of the zoo keeps the score of its card. Raises UserError for
    a policy or a name that cannot be pushed, without a token, and if the hub cannot be reached.
    """
    require_at_least(1, episodes=episodes)
    repository = repository.removeprefix("hf:")  # as it is written to open one
    require_repository(repository)
    opened = open_policy(policy)
    portable(opened.config)
    with tempfile.TemporaryDirectory() as place, closing(make_display(progress)) as display:
        folder = Path(place) / "policy"
        display.phase("score")
        score = write_folder(opened, folder, episodes)
        display.phase("picture")
        # A machine that cannot draw pushes a card without a picture.
        with suppress(UserError):
            play(opened, out=folder / PICTURE)
        write_card(opened, score, repository, licence, folder)
        display.phase("upload")
        return send(folder, repository, private, update)
