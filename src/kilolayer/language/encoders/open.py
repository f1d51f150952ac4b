"""Opens an encoder by its name."""

import os
import re
from pathlib import Path

from kilolayer.language.base import Encoder
from kilolayer.language.encoders.minilm import open_minilm
from kilolayer.language.encoders.own import DIRECTORY, open_own
from kilolayer.language.encoders.pair import Pair
from kilolayer.types import UserError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def open_encoder(name: str, allow_download: bool = False) -> Encoder:
    """Open the encoder `name`.

    name: `minilm`; a directory of this package's own encoder; a directory of a CLIP-like or
    SigLIP-like transformers model; the hub id of such a model, for example
    `openai/clip-vit-base-patch32`; or `A+B`, which takes sentences with A and pictures with B.
    allow_download: whether to download a hub model that is not in the local cache.

    Raises UserError if the encoder does not exist or is damaged, or if a package is missing.
    """
    folder = os.path.expanduser(name)
    is_folder = os.path.isdir(folder)
    if name == "minilm":
        return open_minilm()
    if is_folder and DIRECTORY.exists(folder):
        return open_own(Path(folder))
    if not is_folder and "+" in name:
        halves = name.split("+")
        if len(halves) != 2 or not all(halves):
            raise UserError(
                f"the encoder {name!r} is not allowed: A+B takes sentences from A and pictures "
                "from B, two names and no more."
            )
        return Pair(*(open_encoder(half, allow_download) for half in halves))
    if not is_folder and not HUB_ID.fullmatch(name):
        raise UserError(
            f"there is no encoder {name!r}: minilm, a directory, a hub id such as "
            "openai/clip-vit-base-patch32, or A+B of two of these is needed."
        )
    # Imported late because importing torch takes seconds and not every program needs it.
    from kilolayer.language.encoders.transformers import open_transformers

    return open_transformers(name, allow_download)
