"""The commands that let a sentence set the goal of a run. Like `cli.py`, no logic."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.table import Table

from kilolayer.runtime.files import shell_quoted
from kilolayer.terminal import OUTPUT, console

if TYPE_CHECKING:
    from kilolayer.api.sentences import Taught

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
    must be near it; the others show how far language generalises. With another instruction, success
    must fall to chance. The report shows what was misunderstood.

    Args:
        run: The run directory, or a policy directory.
        text: Text encoder: minilm, own, the folder of a CLIP or SigLIP model, or its id on the hub.
            Default: minilm if it is installed, else own.
        image: Image encoder: own, such a folder or such an id.
        allow_download: Allow asking the hub for a model that is not here.
        examples: Instructions with pictures to learn from.
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
    from kilolayer.language.ground_run import Recipe

    encoder = sentences.EncoderChoice(text, image, allow_download, encoder_updates)
    recipe, size = Recipe(examples, updates), HeadSize(depth, width)
    found = sentences.ground(run, encoder, recipe, size, episodes, seed, out)
    _tell_scores(found)
    _next(
        f"kilolayer play {shell_quoted(run)} --say {shlex.quote(found.sentence)} --seed {seed}",
        f"kilolayer serve {run} --grounding {found.path}",
        f"kilolayer train-vla {shell_quoted(run)} --grounding {shell_quoted(found.path)}",
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
    The module gets what the head of a grounding reads in a picture and a sentence. Its trunk is a
    mixture of experts, or a dense stack for comparison. Encoders are those of `kilolayer ground`.

    Look for: the success of each split beside the teacher's; the same with a dense trunk of equal
    operations, which the experts must beat to be worth it; unused experts (see the report).

    Args:
        run: The run directory, or a policy directory: the teacher.
        text: Text encoder: minilm, own, the folder of a CLIP or SigLIP model, or its id on the hub.
            Default: minilm if it is installed, else own.
        image: Image encoder: own, such a folder or such an id.
        allow_download: Allow asking the hub for a model that is not here.
        grounding: A grounding directory whose head and encoders read the instructions. Default: a
            head is trained first.
        trunk: mixture; or one dense stack with as many parameters, or as many operations per step.
        chunk: Actions per chunk.
        execute: Actions of a chunk to execute before the next chunk is computed from a new
            observation. More actions cost less time, but fail on an arm whose actions turn at every
            step.
        experts: Experts in each layer of the mixture.
        top_k: Number of experts that each step passes through.
        depth: Layers of an expert.
        width: Units of all layers.
        steps: Environment steps to learn from, over all environments.
        updates: Gradient updates, spread over the steps.
        examples: Instructions with pictures to learn from.
        encoder_updates: Gradient updates of our own encoder, if it is trained.
        episodes: Test episodes per split.
        seed: Seed of the examples, the networks and the episodes.
        out: The directory to write. Default: a new one in the run's modules/.
    """
    from kilolayer.api import sentences
    from kilolayer.language.teach import Recipe
    from kilolayer.networks.mixture import MixtureSpec

    encoder = sentences.EncoderChoice(text, image, allow_download, encoder_updates)
    recipe = Recipe(steps, updates=updates)
    mixture = MixtureSpec(width, depth, experts=experts, top_k=top_k)
    found = sentences.train_vla(
        run, trunk, encoder, grounding, recipe, mixture, chunk, execute, examples, episodes, seed,
        out,
    )  # fmt: skip
    _tell_scores(found)
    said = f"--say {shlex.quote(found.sentence)} --module {found.path} --seed {seed}"
    _next(
        f"kilolayer play {shell_quoted(run)} {said}",
        f"kilolayer control {shell_quoted(run)} {said}",
    )


def _tell_scores(found: "Taught") -> None:
    """Print success by split, and the paths of the result and its report."""
    from kilolayer.language.base import SPLITS
    from kilolayer.language.evidence import Evidence

    evidence = Evidence.read(found.path)
    table = Table(title="success by split (95 % interval)", title_justify="left")
    table.add_column("who acts")
    for split in SPLITS:
        table.add_column(split.replace("-", " "), justify="right")
    for who in evidence.actors:
        shares = [evidence.score(who, split).share for split in SPLITS]
        table.add_row(who, *(f"{s.value:.2f} ({s.low:.2f}-{s.high:.2f})" for s in shares))
    # A row that a narrow terminal wraps is easier to read than columns cut short.
    console(max(OUTPUT.width, 120)).print(table)
    if evidence.advice:
        OUTPUT.print(evidence.advice)
    OUTPUT.print(f"{evidence.kind:<9} {found.path}\nreport    {found.report}")


def _next(*commands: str) -> None:
    OUTPUT.print("\nwhat to try next:")
    for command in commands:
        OUTPUT.print(f"  {command}")


COMMANDS = {"ground": ground, "train-vla": train_vla}
