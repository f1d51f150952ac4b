"""Which encoders a run's sentences and pictures go through, trained first where there is none."""

from importlib.util import find_spec
from pathlib import Path

from kilolayer.language.base import Encoder
from kilolayer.language.board import require_words
from kilolayer.language.encoders.minilm import PACKAGE
from kilolayer.language.encoders.open import open_encoder
from kilolayer.language.encoders.own import DIRECTORY
from kilolayer.language.encoders.pair import Pair
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.runtime.zoo import zoo_name
from kilolayer.tasks.base import Task


def default_text() -> str:
    """`minilm` where it is installed, else `own`."""
    return "minilm" if find_spec(PACKAGE) and find_spec("tokenizers") else "own"


def own_directory(run: Path, task: Task) -> Path:
    """Where the encoder of our own for a task lies: beside the run, for all runs of the task; in
    the current directory for a policy of the zoo."""
    place = run.parent if zoo_name(run) is None else Path()
    return place / f"encoder-{task.name}"


def choose_encoder(
    run: Path,
    task: Task,
    text: str | None,
    image: str,
    allow_download: bool,
    updates: int,
    seed: int,
    display: ProgressDisplay,
) -> tuple[Encoder, str]:
    """The encoder that takes sentences as `text` does and pictures as `image` does, and a name for
    directories of what is trained on it.

    text, image: what `open_encoder` takes, or `own` for the encoder of `own_directory`, which is
    trained with so many `updates` if there is none yet. text: None for `default_text`. Raises
    UserError if there is no such encoder or it lacks the half that it is wanted for.
    """
    require_words(task)
    text, own = text or default_text(), own_directory(run, task)
    display.note(f"sentences through {text}, pictures through {image}")
    names = [str(own) if name == "own" else name for name in (text, image)]
    # What can be refused at once is, before minutes of training.
    opened = {name: open_encoder(name, allow_download) for name in names if name != str(own)}
    if str(own) in names:
        opened[str(own)] = _own(own, task, updates, seed, display)
    texts, images = (opened[name] for name in names)
    encoder = texts if texts is images else Pair(texts, images)
    halves = dict.fromkeys(Path(name).name for name in (text, image))
    return encoder, "+".join(halves)


def fresh_directory(path: Path) -> Path:
    """This path, or with the first number behind it that makes it one where nothing is."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}-{count}")
    return candidate


def open_again(name: str, run: Path, task: Task) -> Encoder:
    """The encoder that a card names, wherever the run lies now: our own is beside it.

    Raises UserError if there is none of that name.
    """
    own = own_directory(run, task)
    halves = [
        str(own) if Path(half).name == own.name and not Path(half).is_dir() else half
        for half in name.split("+")
    ]
    return open_encoder("+".join(halves))


def _own(path: Path, task: Task, updates: int, seed: int, display: ProgressDisplay) -> Encoder:
    if DIRECTORY.is_one(path):
        display.note(f"pictures and words of this task: the encoder {path}, trained before")
        return open_encoder(str(path))
    from kilolayer.language.encoders.train_own import train_own

    display.note(f"training an encoder of this task's pictures and words: {path}")
    return train_own(task, path, updates, seed, display=display)
