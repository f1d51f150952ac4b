"""Choice of the encoders for a run's sentences and pictures; trains our own if it is missing."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kilolayer.language.base import Encoder
from kilolayer.language.board import require_instructions
from kilolayer.language.encoders.minilm import PACKAGE
from kilolayer.language.encoders.open import EncoderPair, open_encoder, split_pair
from kilolayer.language.encoders.own import DIRECTORY
from kilolayer.runtime.hub import hub_name
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.runtime.zoo import zoo_name
from kilolayer.tasks.base import Task


@dataclass(frozen=True)
class EncoderChoice:
    """Encoders: minilm, own, the folder of a CLIP or SigLIP model, or the model's id on the hub.

    text: by default minilm if it is installed. updates: of the encoder `own`, if it is trained.
    """

    text: str | None = None
    image: str = "own"
    allow_download: bool = False
    updates: int = 600


def default_text() -> str:
    """`minilm` if it is installed, else `own`."""
    return "minilm" if find_spec(PACKAGE) and find_spec("tokenizers") else "own"


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
    text, own = choice.text or default_text(), own_directory(run, task)
    display.note(f"encoders: {text} for sentences, {choice.image} for pictures")
    names = [str(own) if name == "own" else name for name in (text, choice.image)]
    # Open the other encoders first, so that errors come before minutes of training.
    opened = {name: open_encoder(name, choice.allow_download) for name in names if name != str(own)}
    if str(own) in names:
        opened[str(own)] = _open_or_train_own(own, task, choice.updates, seed, display)
    texts, images = (opened[name] for name in names)
    encoder = texts if texts is images else EncoderPair(texts, images)
    halves = dict.fromkeys(Path(name).name for name in (text, choice.image))
    return encoder, "+".join(halves)


def unused_path(path: Path) -> Path:
    """This path if it does not exist, else the path with the first free number appended."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}-{count}")
    return candidate


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


def _open_or_train_own(
    path: Path, task: Task, updates: int, seed: int, display: ProgressDisplay
) -> Encoder:
    if DIRECTORY.exists(path):
        display.note(f"the encoder {path} of this task exists already")
        return open_encoder(str(path))
    from kilolayer.language.encoders.train_own import train_own

    display.note(f"training an encoder for this task: {path}")
    return train_own(task, path, updates, seed, display=display)
