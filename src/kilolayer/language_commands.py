"""Commands and options that let a sentence set the goal of a run. Like `cli.py`, no logic."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.table import Table

from kilolayer.errors import bad_field
from kilolayer.runtime.files import shell_quoted
from kilolayer.terminal import OUTPUT, console

if TYPE_CHECKING:
    from kilolayer.api.sentences import TrainedLanguage
    from kilolayer.deploy.interpreter import Interpretation
    from kilolayer.tasks.base import Task

RunPath = tyro.conf.Positional[Path]


def ground(
    run: RunPath,
    text: str | None = None,
    image: str = "own",
    allow_download: bool = False,
    examples: int = 4096,
    updates: int = 1500,
    depth: int = 8,
    width: int = 128,
    encoder_updates: int = 600,
    episodes: int = 64,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Train a model that turns a sentence and a picture into a goal for the run's policy.

    Two frozen encoders encode the sentence and the picture; the trained network lies on top of
    them. Without options the pictures go through a small encoder of our own. It is trained in
    minutes on rendered scenes and kept beside the run for all runs of the task. The sentences go
    through minilm if it is installed (`pip install 'kilolayer[language]'`), else through our own
    encoder too. Nothing is downloaded without --allow-download.

    Look for: the success of each split beside that of the same policy with the true goal. `seen`
    must be near it; the others show how far language generalises. With the instruction of another
    example, success must fall to chance. The report shows wrongly predicted goals.

    Args:
        run: The run directory, or a policy directory.
        text: Text encoder: minilm, own, the folder of a CLIP or SigLIP model, or its id on the hub.
            Default: minilm if it is installed, else own.
        image: Image encoder: own, such a folder or such an id.
        allow_download: Allow downloading a model from the hub.
        examples: Training examples: instructions with pictures.
        updates: Gradient updates of the trained network.
        depth: Layers of the trained network.
        width: Units per layer of the trained network.
        encoder_updates: Gradient updates of our own encoder, if it is trained.
        episodes: Test episodes per split.
        seed: Seed of the examples, the networks and the episodes.
        out: The directory to write. Default: a new one in the run's groundings/.
    """
    from kilolayer.api import sentences
    from kilolayer.language.goal_head import HeadSize
    from kilolayer.language.train_grounding import Recipe

    encoder = sentences.EncoderChoice(text, image, allow_download, encoder_updates)
    recipe, size = Recipe(examples, updates), HeadSize(depth, width)
    result = sentences.ground(run, encoder, recipe, size, episodes, seed, out)
    _print_scores(result)
    print_next_steps(
        f"kilolayer play {shell_quoted(run)} --say {shlex.quote(result.sentence)} --seed {seed}",
        f"kilolayer serve {shell_quoted(run)} --grounding {shell_quoted(result.path)}",
        f"kilolayer train-vla {shell_quoted(run)} --grounding {shell_quoted(result.path)}",
    )


def train_vla(
    run: RunPath,
    text: str | None = None,
    image: str = "own",
    allow_download: bool = False,
    grounding: Path | None = None,
    trunk: Literal["mixture", "dense-parameters", "dense-operations"] = "mixture",
    chunk: int = 4,
    execute: int = 1,
    experts: int = 8,
    top_k: int = 2,
    depth: int = 4,
    width: int = 64,
    steps: int = 400_000,
    updates: int = 8_000,
    examples: int = 4096,
    encoder_updates: int = 600,
    episodes: int = 64,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Train an action module: from an observation and an instruction to a chunk of actions.

    The teacher is the run's policy with the true goal, on the states that the module itself visits.
    The module gets the embedding of a picture and a sentence by the head of a grounding. Its trunk
    is a mixture of experts, or a dense stack for comparison. Encoders: as in `kilolayer ground`.

    Look for: the success of each split beside the teacher's; the same with a dense trunk of equal
    operations, which the experts must beat to be worth it; unused experts (see the report).

    Args:
        run: The run directory, or a policy directory: the teacher.
        text: Text encoder: minilm, own, the folder of a CLIP or SigLIP model, or its id on the hub.
            Default: minilm if it is installed, else own.
        image: Image encoder: own, such a folder or such an id.
        allow_download: Allow downloading a model from the hub.
        grounding: A grounding directory whose head and encoders encode the instructions; not with
            --text or --image. Default: a head is trained first.
        trunk: mixture; or one dense stack with as many parameters, or as many operations per step.
        chunk: Actions per chunk.
        execute: Actions of a chunk to execute before the next chunk is computed from a new
            observation. More actions cost less time, but fail on an arm whose actions turn at every
            step.
        experts: Experts in each layer of the mixture.
        top_k: Number of experts that each step passes through.
        depth: Layers of an expert.
        width: Units of all layers.
        steps: Environment steps of training, over all environments.
        updates: Gradient updates: the same number in each round of steps, so rounded up.
        examples: Training examples: instructions with pictures.
        encoder_updates: Gradient updates of our own encoder, if it is trained.
        episodes: Test episodes per split.
        seed: Seed of the examples, the networks and the episodes.
        out: The directory to write. Default: a new one in the run's modules/.
    """
    from kilolayer.api import sentences
    from kilolayer.language.dagger import Recipe
    from kilolayer.networks.mixture import MixtureSpec

    encoder = sentences.EncoderChoice(text, image, allow_download, encoder_updates)
    recipe = Recipe(steps, updates=updates)
    mixture = MixtureSpec(width, depth, experts=experts, top_k=top_k)
    result = sentences.train_vla(
        run, trunk, encoder, grounding, recipe, mixture, chunk, execute, examples, episodes, seed,
        out,
    )  # fmt: skip
    _print_scores(result)
    module = shell_quoted(result.path)
    options = f"--say {shlex.quote(result.sentence)} --module {module} --seed {seed}"
    print_next_steps(
        *(f"kilolayer {name} {shell_quoted(run)} {options}" for name in ("play", "control"))
    )


def check_say_options(
    sentence: str | None, needs_sentence: Mapping[str, Any], excludes_sentence: Mapping[str, Any]
) -> None:
    """Raises UserError for options that need --say, and for options that exclude it."""
    if sentence is None:
        for name, value in needs_sentence.items():
            if value is not None:
                raise bad_field(name, str(value), "it needs a sentence, add --say SENTENCE")
        return
    for name, value in excludes_sentence.items():
        if value:
            raise bad_field(name, value, "--say sets the goal already, omit one of the two")


def print_interpretation(found: "Interpretation", task: "Task") -> None:
    """Print the predicted goal of a sentence, and the confidence."""
    goal = ", ".join(
        f"{coordinate.name} {value:.2f} {coordinate.unit}"
        for coordinate, value in zip(task.goal.coordinates, found.goal, strict=True)
    )
    OUTPUT.print(f"understood  {goal}   confidence {found.confidence:.0%}")
    OUTPUT.print(
        "the sentence is like the training sentences"
        if found.familiar
        else f"the sentence is unlike the training sentences; the nearest is “{found.nearest}”"
    )


def _print_scores(result: "TrainedLanguage") -> None:
    """Print success by split, and the paths of the result and its report."""
    from kilolayer.language.base import SPLITS
    from kilolayer.language.evidence import Evidence

    evidence = Evidence.read(result.path)
    table = Table("condition", title="success by split (95 % interval)", title_justify="left")
    for split in SPLITS:
        table.add_column(split.replace("-", " "), justify="right")
    for name in evidence.actors:
        shares = [evidence.score(name, split).share for split in SPLITS]
        table.add_row(name, *(f"{s.value:.2f} ({s.low:.2f}-{s.high:.2f})" for s in shares))
    # A row that a narrow terminal wraps is easier to read than columns cut short.
    console(max(OUTPUT.width, 120)).print(table)
    if evidence.advice:
        OUTPUT.print(evidence.advice)
    OUTPUT.print(f"{evidence.kind:<9} {result.path}\nreport    {result.report}")


def print_next_steps(*commands: str) -> None:
    """Print commands that a user may run next."""
    OUTPUT.print("\nwhat to try next:")
    for command in commands:
        OUTPUT.print(f"  {command}")


COMMANDS = {"ground": ground, "train-vla": train_vla}
