"""Opens an encoder, or a pair of encoders, by its name; the encoders of a run."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kilolayer.errors import UserError
from kilolayer.language.base import Encoder, Features, unsupported_input
from kilolayer.language.board import require_instructions
from kilolayer.language.encoders.minilm import PACKAGE, open_minilm
from kilolayer.language.encoders.own import DIRECTORY, open_own
from kilolayer.runtime.hub import hub_name
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.runtime.zoo import zoo_name
from kilolayer.tasks.base import Task

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


def split_pair(name: str, moved: str | None = None) -> tuple[str, ...]:
    """The two names of a pair `A+B`, or the one name of another encoder.

    The name of a folder may contain a + of its own, so a pair is divided where both halves can be
    encoders. moved: the last part of the path of a folder that need not exist.
    """

    def exists(half: str) -> bool:
        return half == "minilm" or os.path.isdir(os.path.expanduser(half))

    def can_be(half: str) -> bool:
        return exists(half) or bool(HUB_ID.fullmatch(half)) or Path(half).name == moved

    if "+" not in name or exists(name):
        return (name,)
    cuts = [at for at, letter in enumerate(name) if letter == "+"]
    pairs = [(name[:at], name[at + 1 :]) for at in cuts]
    found = next((pair for pair in pairs if all(map(can_be, pair))), None)
    if found is not None:
        return found
    if Path(name).name == moved:
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


@dataclass(frozen=True)
class EncoderChoice:
    """Encoders: minilm, own, the folder of a CLIP or SigLIP model, or the model's id on the hub.

    text: by default minilm if it is installed. updates: of the encoder `own`, if it is trained.
    """

    text: str | None = None
    image: str = "own"
    allow_download: bool = False
    updates: int = 600


def own_directory(run: Path, task: Task) -> Path:
    """Directory of the package's own encoder for a task.

    It lies beside the run and serves all runs of the task; for a policy of the zoo or the hub it
    lies in the current directory.
    """
    owned = zoo_name(run) is None and hub_name(run) is None
    return (run.parent if owned else Path()) / f"encoder-{task.name}"


def choose_encoder(
    run: Path, task: Task, choice: EncoderChoice | None, seed: int, display: ProgressDisplay
) -> tuple[Encoder, str]:
    """The chosen encoder of sentences and pictures, and a directory name for networks trained on
    it.

    The encoder `own` is the one in `own_directory`, which is trained if it does not exist yet.
    Raises UserError if an encoder does not exist or does not take sentences or pictures as needed.
    """
    require_instructions(task)
    choice = choice or EncoderChoice()
    own, text = own_directory(run, task), choice.text
    if text is None:
        text = "minilm" if find_spec(PACKAGE) and find_spec("tokenizers") else "own"
    display.note(f"encoders: {text} for sentences, {choice.image} for pictures")
    names = [str(own) if name == "own" else name for name in (text, choice.image)]
    # Open the other encoders first, so that errors come before minutes of training.
    opened = {name: open_encoder(name, choice.allow_download) for name in names if name != str(own)}
    if str(own) in names:
        if DIRECTORY.exists(own):
            display.note(f"the encoder {own} of this task exists already")
            opened[str(own)] = open_own(own)
        else:
            from kilolayer.language.encoders.train_own import train_own

            display.note(f"training an encoder for this task: {own}")
            opened[str(own)] = train_own(task, own, choice.updates, seed, display=display)
    texts, images = (opened[name] for name in names)
    encoder = texts if texts is images else EncoderPair(texts, images)
    halves = dict.fromkeys(Path(name).name for name in (text, choice.image))
    return encoder, "+".join(halves)


def reopen_encoder(name: str, run: Path, task: Task) -> Encoder:
    """Open the encoder that a card names. The package's own encoder is looked up beside the run,
    even if the run has moved.

    Raises UserError if there is no such encoder.
    """
    own = own_directory(run, task)
    opened = [
        open_encoder(str(own) if Path(half).name == own.name and not Path(half).is_dir() else half)
        for half in split_pair(name, moved=own.name)
    ]
    return opened[0] if len(opened) == 1 else EncoderPair(*opened)
