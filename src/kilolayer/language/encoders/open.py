"""Opens an encoder, or a pair of encoders, by its name."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilolayer.language.base import Encoder, Features
from kilolayer.language.encoders.checks import unsupported_input
from kilolayer.language.encoders.minilm import open_minilm
from kilolayer.language.encoders.own import DIRECTORY, open_own
from kilolayer.types import UserError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class EncoderPair:
    """An Encoder that takes sentences with `texts` and pictures with `images`.

    Raises UserError if `texts` takes no sentences or `images` takes no pictures.
    """

    texts: Encoder
    images: Encoder
    encodes_text = encodes_images = True

    def __post_init__(self) -> None:
        if not self.texts.encodes_text:
            raise unsupported_input(self.texts.name, "sentences")
        if not self.images.encodes_images:
            raise unsupported_input(self.images.name, "pictures")

    @property
    def name(self) -> str:
        return f"{self.texts.name}+{self.images.name}"

    def fingerprint(self) -> str:
        both = f"{self.texts.fingerprint()}+{self.images.fingerprint()}"
        return hashlib.sha256(both.encode()).hexdigest()

    def text(self, sentences: Sequence[str]) -> Features:
        return self.texts.text(sentences)

    def image(self, pictures: np.ndarray) -> Features:
        return self.images.image(pictures)


def split_pair(name: str, moved: str = "") -> tuple[str, ...]:
    """The two names of a pair `A+B`, or the one name of another encoder.

    The name of a folder may contain a + of its own, so a pair is divided where both halves can be
    encoders. moved: the last part of the path of a folder that need not exist.
    """

    def exists(half: str) -> bool:
        return half == "minilm" or os.path.isdir(os.path.expanduser(half))

    def is_moved(half: str) -> bool:
        return bool(moved) and Path(half).name == moved

    def can_be(half: str) -> bool:
        return exists(half) or bool(HUB_ID.fullmatch(half)) or is_moved(half)

    if "+" not in name or exists(name):
        return (name,)
    cuts = [at for at, letter in enumerate(name) if letter == "+"]
    pairs = [(name[:at], name[at + 1 :]) for at in cuts]
    found = next((pair for pair in pairs if all(map(can_be, pair))), None)
    if found is not None:
        return found
    if is_moved(name):
        return (name,)
    if len(pairs) > 1 or not all(pairs[0]):
        raise UserError(
            f"the encoder {name!r} is not allowed: A+B encodes sentences with A and pictures "
            "with B, so exactly two names are needed."
        )
    return pairs[0]


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
    halves = split_pair(name)
    if len(halves) == 2:
        return EncoderPair(*(open_encoder(half, allow_download) for half in halves))
    if not is_folder and not HUB_ID.fullmatch(name):
        raise UserError(
            f"there is no encoder {name!r}: it is minilm, a directory, a hub id such as "
            "openai/clip-vit-base-patch32, or A+B of two of these."
        )
    # Imported late because importing torch takes seconds and not every program needs it.
    from kilolayer.language.encoders.transformers import open_transformers

    return open_transformers(name, allow_download)
