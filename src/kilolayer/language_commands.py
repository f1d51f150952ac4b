"""The commands that teach a run's task to be told in words: like `cli.py`, no logic."""

import shlex
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.table import Table

from kilolayer.runtime.files import shell
from kilolayer.runtime.zoo import beside
from kilolayer.sayings import grounding_of, module_acting, open_actor, policy_acting
from kilolayer.terminal import OUTPUT, console

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
    """Teach a run's task to be told in words: train what turns a sentence and a picture into a goal
    that the run's policy is then told.

    Two encoders that never change read the sentence and look at the picture; what is trained lies
    on top of them. Without options the pictures go through a small encoder of our own, trained in
    minutes on rendered scenes and kept beside the run for all runs of the task, and the sentences
    through minilm where it is installed (`pip install 'kilolayer[language]'`), else through our own
    as well. Nothing is downloaded unless --allow-download says so.

    Look for: the success of each split beside that of the same policy told the true goal. `seen`
    must be near it; the others say how far words carry. Hearing another instruction must fall to
    chance. The report shows what was misunderstood.

    Args:
        run: The run directory, or a policy directory.
        text: Who reads: minilm, own, the folder of a CLIP or SigLIP model, or its id on the hub.
        image: Who looks: own, such a folder or such an id.
        allow_download: Let the hub be asked for a model that is not here.
        examples: Instructions with pictures to learn from.
        updates: Gradient updates of what is trained on top.
        depth: Layers of it.
        width: Units of it.
        encoder_updates: Gradient updates of our own encoder, where it is trained.
        episodes: Episodes of each split to try it out on.
        seed: Seed of the examples, the networks and the episodes.
        out: The directory to write; by default a new one in the run's groundings/.
    """
    from kilolayer.language.choose import choose_encoder, fresh_directory
    from kilolayer.language.examine import examine_grounding
    from kilolayer.language.goal_head import HeadSize
    from kilolayer.language.ground_run import Recipe, ground_run
    from kilolayer.language.say import Ear, Scene
    from kilolayer.report.language_report import write_language_report
    from kilolayer.report.said import film_for_report
    from kilolayer.runtime.progress import LiveDisplay

    policy = open_actor(run)
    with closing(LiveDisplay()) as display:
        encoder, name = choose_encoder(
            run, policy.task, text, image, allow_download, encoder_updates, seed, display
        )
        out = out or fresh_directory(beside(run, "groundings") / f"{name}-seed{seed}")
        recipe, size = Recipe(examples, updates), HeadSize(depth, width)
        found = ground_run(run, encoder, out, recipe, size, seed, display)
        examine_grounding(found, policy, episodes, seed, display).write(found.path)
        scene = Scene(policy.task, seed)
        sentence, goal = scene.example.sentence, np.array(scene.example.goal, np.float32)
        told = Ear(found, seed).hear(sentence).goal
        film_for_report(policy_acting(policy, told), sentence, goal, scene.marks, found.path, seed)
        report = write_language_report(found.path)
    _tell_scores(found.path, report)
    _next(
        f"kilolayer play {shell(run)} --say {shlex.quote(sentence)} --seed {seed}",
        f"kilolayer serve {run} --grounding {found.path}",
        f"kilolayer train-vla {shell(run)} --grounding {shell(found.path)}",
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
    """Train an action module: what the agent senses and what it was told, to a chunk of actions.

    The run's policy teaches it, told the true goal, on the states that the module itself comes to;
    the module gets what the head of a grounding reads in a picture and a sentence. Its trunk is a
    mixture of experts, or a dense stack to compare with. Encoders are those of `kilolayer
    ground`.

    Look for: the success of each split beside the teacher's; the same with a dense trunk of equal
    operations, which the experts must beat to be worth it; experts that nobody uses (the report).

    Args:
        run: The run directory, or a policy directory: the teacher.
        text: Who reads: minilm, own, the folder of a CLIP or SigLIP model, or its id on the hub.
        image: Who looks: own, such a folder or such an id.
        allow_download: Let the hub be asked for a model that is not here.
        grounding: A grounding directory whose head and encoders read the instructions; by default
            a head is trained first.
        trunk: mixture; or one dense stack with as many parameters, or as many operations a step.
        chunk: Actions that are made at once.
        execute: How many of these are done before the next chunk is made from what is sensed
            then. More cost less time, and lose an arm whose actions turn at every step.
        experts: Experts in each layer of the mixture.
        top_k: How many of them each step passes.
        depth: Layers of an expert.
        width: Units of everything.
        steps: Environment steps to learn from, over all environments.
        updates: Gradient updates, spread over the steps.
        examples: Instructions with pictures to learn from.
        encoder_updates: Gradient updates of our own encoder, where it is trained.
        episodes: Episodes of each split to try it out on.
        seed: Seed of the examples, the networks and the episodes.
        out: The directory to write; by default a new one in the run's modules/.
    """
    from kilolayer.language.choose import choose_encoder, fresh_directory
    from kilolayer.language.examine_module import examine_module
    from kilolayer.language.say import Scene
    from kilolayer.language.teach import Recipe
    from kilolayer.language.teach_run import teach_run
    from kilolayer.networks.mixture import MixtureSpec
    from kilolayer.report.language_report import write_language_report
    from kilolayer.report.said import film_for_report
    from kilolayer.runtime.progress import LiveDisplay

    policy = open_actor(run)
    mixture = MixtureSpec(width, depth, experts=experts, top_k=top_k)
    with closing(LiveDisplay()) as display:
        reads = None if grounding is None else grounding_of(run, grounding, policy.task)
        if reads is None:
            encoder, name = choose_encoder(
                run, policy.task, text, image, allow_download, encoder_updates, seed, display
            )
        else:
            encoder, name = reads.encoder, reads.path.name
        out = out or fresh_directory(beside(run, "modules") / f"{trunk}-{name}-seed{seed}")
        found = teach_run(
            run, encoder, out, trunk, seed=seed, display=display,
            recipe=Recipe(steps, updates=updates), mixture=mixture, chunk=chunk,
            execute=execute, examples=examples,
            grounding=reads,
        )  # fmt: skip
        examine_module(found, encoder, policy, episodes, seed, display).write(found.path)
        scene = Scene(policy.task, seed)
        sentence, goal = scene.example.sentence, np.array(scene.example.goal, np.float32)
        acting = module_acting(found, encoder, sentence, scene.picture())
        film_for_report(acting, sentence, goal, scene.marks, found.path, seed)
        report = write_language_report(found.path)
    _tell_scores(found.path, report)
    said = f"--say {shlex.quote(sentence)} --module {found.path} --seed {seed}"
    _next(f"kilolayer play {shell(run)} {said}", f"kilolayer control {shell(run)} {said}")


def _tell_scores(directory: Path, report: Path) -> None:
    """Success by split, and where all of it lies."""
    from kilolayer.language.base import SPLITS
    from kilolayer.language.evidence import Evidence

    evidence = Evidence.read(directory)
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
    OUTPUT.print(f"{evidence.kind:<9} {directory}\nreport    {report}")


def _next(*commands: str) -> None:
    OUTPUT.print("\nwhat to try next:")
    for command in commands:
        OUTPUT.print(f"  {command}")


COMMANDS = {"ground": ground, "train-vla": train_vla}
