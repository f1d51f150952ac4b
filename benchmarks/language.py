"""Success with instructions by split, of groundings and action modules and their controls.

python -m benchmarks.language RUN... --encoders LABEL=NAME... [--methods METHOD...] [--seeds 0 1 2]

RUN...: teachers, finished runs of one task that differ by depth and seed. NAME: see
`kilolayer.language.encoders.open`; `{seed}` in it is replaced. --seeds: of what is learnt on each
teacher, by default the teacher's own. A cell is one method on one teacher with one encoder and
seed; what is done is kept in `--out` as `cells/TASK/METHOD-ENCODER-depthN-seedN.json` and never
repeated. The tables are made of all cells there are.

teacher: the policy with the intended goal. chance: the policy with the goal of another example.
grounded: the policy with the goal that the grounding predicts, by coordinates. grounded-embedding:
by the critic's goal embeddings. shuffled: the grounding gets sentence and picture of another
example, the same one as for chance. module-...: the action module with its trunk. module-shuffled:
the mixture, likewise. encoder: its cache, and whether any of its bits changed since the groundings
and modules were trained.

All have the same starts, and success refers to the intended goals.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.language_tables import tables
from kilolayer.analysis.load import Run, load
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.language.base import SPLITS, Context, Encoder, Example, Split
from kilolayer.language.contexts import encode_context, encode_examples
from kilolayer.language.dagger import Recipe as ModuleRecipe
from kilolayer.language.encoders.cache import CachedEncoder
from kilolayer.language.encoders.open import open_encoder
from kilolayer.language.evaluation_set import (
    EvaluationSet,
    GoalPolicy,
    ModulePolicy,
    derangement,
)
from kilolayer.language.grounding import Grounding, is_grounding, open_grounding
from kilolayer.language.instructions import draw_examples
from kilolayer.language.module import Trunk
from kilolayer.language.scenes import draw_pictures
from kilolayer.language.train_grounding import Recipe, train_grounding
from kilolayer.language.train_module import TrainedModule, is_module, open_module, train_module
from kilolayer.runtime.files import write_atomically
from kilolayer.runtime.progress import LiveDisplay
from kilolayer.tasks.base import Task

EVALUATION_SEED = 1_000_000  # of examples and episodes that no training has seen
WITHOUT_ENCODER = ("teacher", "chance")
TRUNKS: dict[str, Trunk] = {
    "module-moe": "mixture",
    "module-dense-parameters": "dense-parameters",
    "module-dense-operations": "dense-operations",
    "module-shuffled": "mixture",
}
CACHED_EXAMPLES = 256
TIMED_STEPS = 2_000


@dataclass(frozen=True)
class Setting:
    """recipe: of groundings. module_recipe: of modules. execute: executed actions of a chunk.
    episodes: of each split. work: where groundings, modules and features go."""

    recipe: Recipe
    module_recipe: ModuleRecipe
    execute: int
    episodes: int
    work: Path


@dataclass(frozen=True)
class Cell:
    """One method's teacher, encoder and seed, and what they share."""

    method: str
    run: Run
    label: str
    encoder_name: str
    seed: int
    setting: Setting

    @property
    def depth(self) -> int:
        return self.run.schedule.actor_torso.depth

    @property
    def name(self) -> str:
        return f"{self.label}-depth{self.depth}-seed{self.seed}"

    @property
    def task(self) -> Task:
        return self.run.task

    @cached_property
    def policy(self) -> DeployedPolicy:
        return open_policy(self.run.path)

    @cached_property
    def encoder(self) -> Encoder:
        plain = open_encoder(self.encoder_name.replace("{seed}", str(self.seed)))
        return CachedEncoder(plain, self.setting.work / "features")

    def place(self, kind: str) -> Path:
        return self.setting.work / self.task.name / f"{kind}-{self.name}"

    def evaluation_sets(self) -> Iterator[tuple[Split, EvaluationSet]]:
        for split in SPLITS:
            examples = draw_examples(self.task, split, self.setting.episodes, EVALUATION_SEED)
            yield split, EvaluationSet(self.task, self.run.config, examples, EVALUATION_SEED)

    def context(self, examples: Sequence[Example]) -> Context:
        return encode_examples(self.task, self.encoder, examples)


Scores = dict[str, Any]


def teacher(cell: Cell) -> Scores:
    return {
        "splits": {split: play(cell, each, each.goal) for split, each in cell.evaluation_sets()}
    }


def chance(cell: Cell) -> Scores:
    order = derangement(cell.setting.episodes, EVALUATION_SEED)
    return {
        "splits": {
            split: play(cell, each, each.goal[order]) for split, each in cell.evaluation_sets()
        }
    }


def play(cell: Cell, evaluation: EvaluationSet, goals: Any) -> Scores:
    """Scores of the teacher with these goals, and of the goals themselves."""
    policy = cell.policy
    scores = evaluation.scores(GoalPolicy(policy.agent), policy.agent_state, goals)
    return scores | {"goals": evaluation.goal_scores(np.asarray(goals))}


def grounding_of(cell: Cell) -> Grounding:
    place = cell.place("grounding")
    if is_grounding(place):
        return open_grounding(place, cell.encoder)
    with displayed() as display:
        return train_grounding(
            cell.run.path, cell.encoder, place, cell.setting.recipe, seed=cell.seed, display=display
        )


def grounded(cell: Cell, embedded: bool = False, shuffled: bool = False) -> Scores:
    grounding, splits = grounding_of(cell), {}
    order = derangement(cell.setting.episodes, EVALUATION_SEED)
    for split, evaluation in cell.evaluation_sets():
        context = cell.context(evaluation.examples)
        if shuffled:
            context = Context(context.text[order], context.patches[order])
        found = grounding.predict(context)
        goals = found.embedded_goal if embedded else found.goal
        if goals is None:
            raise SystemExit(f"{cell.run.path} has no contrastive critic: omit the method.")
        splits[split] = play(cell, evaluation, goals) | {"familiar": float(found.familiar.mean())}
        if not embedded:
            splits[split]["goals"] = evaluation.goal_scores(goals, found.confidence)
    return {"splits": splits, "details": grounding.details}


def module(cell: Cell, shuffled: bool = False) -> Scores:
    trunk = TRUNKS[cell.method]
    place, splits = cell.place(f"module-{trunk}"), {}
    if is_module(place):
        trained = open_module(place)
        trained.require_encoder(cell.encoder)
    else:
        grounding = grounding_of(cell)
        with displayed() as display:
            trained = train_module(
                cell.run.path,
                cell.encoder,
                place,
                trunk=trunk,
                seed=cell.seed,
                display=display,
                recipe=cell.setting.module_recipe,
                execute=cell.setting.execute,
                examples=cell.setting.recipe.examples,
                grounding=grounding,
            )
    order = derangement(cell.setting.episodes, EVALUATION_SEED)
    for split, evaluation in cell.evaluation_sets():
        embedding = trained.embed(cell.context(evaluation.examples))
        if shuffled:
            embedding = embedding[order]
        splits[split] = evaluation.scores(ModulePolicy(), trained.module, embedding)
    details = {name: trained.details[name] for name in ("counts", "seconds", "examples")}
    return {"splits": splits, "details": details, "act_ms": act_time(trained)}


def act_time(trained: TrainedModule) -> dict[str, float]:
    """Milliseconds of a control step of the module alone, one row, observation in and action out.

    median: of all steps. chunk: of those that make a chunk.
    """
    step = jax.jit(type(trained.module).act)
    embedding = np.zeros((1, trained.spec.embedding_dim), np.float32)
    observation = np.zeros((1, trained.spec.task.observation_dim), np.float32)
    carry, seconds = trained.module.initial_carry(1), []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        action, carry = step(trained.module, carry, observation, embedding)
        np.asarray(action)
        seconds.append(time.perf_counter() - began)
    steps = 1e3 * np.array(seconds[100 * trained.spec.execute :])
    chunks = steps[:: trained.spec.execute]
    return {"median": float(np.median(steps)), "chunk": float(np.median(chunks))}


def encoder(cell: Cell) -> Scores:
    """Times of a first and a second pass, and fingerprints then and now."""
    plain = open_encoder(cell.encoder_name.replace("{seed}", str(cell.seed)))
    examples = draw_examples(cell.task, "seen", CACHED_EXAMPLES, EVALUATION_SEED)
    sentences = [example.sentence for example in examples]
    pictures = draw_pictures(cell.task, [example.markers for example in examples])
    encode_context(plain, sentences, pictures)  # compiles
    with tempfile.TemporaryDirectory() as directory:
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            encode_context(CachedEncoder(plain, directory), sentences, pictures)
            seconds.append(time.perf_counter() - began)
    modules = {f"module-{trunk}": "module" for trunk in TRUNKS.values()}
    written = [
        cell.place(name) / f"{kind}.json"
        for name, kind in {"grounding": "grounding", **modules}.items()
    ]
    cards = [
        json.loads(path.read_text())["encoder"]["fingerprint"] for path in written if path.is_file()
    ]
    now = plain.fingerprint()
    return {
        "first_pass": seconds[0],
        "second_pass": seconds[1],
        "fingerprint": now,
        "trained_with": len(cards),
        "unchanged": all(card == now for card in cards),
    }


METHODS: dict[str, Callable[[Cell], Scores]] = {
    "teacher": teacher,
    "chance": chance,
    "grounded": grounded,
    "grounded-embedding": lambda cell: grounded(cell, embedded=True),
    "shuffled": lambda cell: grounded(cell, shuffled=True),
    "module-moe": module,
    "module-dense-parameters": module,
    "module-dense-operations": module,
    "module-shuffled": lambda cell: module(cell, shuffled=True),
    "encoder": encoder,
}


@contextmanager
def displayed() -> Iterator[LiveDisplay]:
    """A live display that is closed whatever happens."""
    display = LiveDisplay()
    try:
        yield display
    finally:
        display.close()


def read_cells(directory: Path) -> list[dict[str, Any]]:
    """Every cell there is of a task."""
    cells = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    order = list(METHODS)
    return sorted(
        cells, key=lambda c: (order.index(c["method"]), c["encoder"], c["depth"], c["seed"])
    )


def labelled(text: str) -> tuple[str, str]:
    """`LABEL=NAME`, or a name that is its own label."""
    label, _, name = text.rpartition("=")
    return label or name.replace("/", "-").strip("-."), name


def cells_to_do(arguments: argparse.Namespace, setting: Setting) -> Iterator[Cell]:
    runs = [load(path) for path in arguments.runs]
    for method in arguments.methods:
        none = [("none", "")]
        for label, name in none if method in WITHOUT_ENCODER else arguments.encoders:
            for run in runs:
                for seed in arguments.seeds or [run.config.seed]:
                    yield Cell(method, run, label, name, seed, setting)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--encoders", nargs="+", type=labelled, default=[("minilm", "minilm")])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--examples", type=int, default=Recipe().examples)
    parser.add_argument("--updates", type=int, default=Recipe().updates)
    for name in ("steps", "module-updates"):
        value = getattr(ModuleRecipe(), name.removeprefix("module-"))
        parser.add_argument(f"--{name}", type=int, default=value, help="of an action module")
    parser.add_argument("--execute", type=int, default=1, help="executed actions of a chunk")
    parser.add_argument("--episodes", type=int, default=256, help="of each split")
    parser.add_argument("--out", type=Path, default=Path("results/language"))
    parser.add_argument("--work", type=Path, default=Path("runs/language"))
    arguments = parser.parse_args()
    recipe = Recipe(examples=arguments.examples, updates=arguments.updates)
    module_recipe = ModuleRecipe(steps=arguments.steps, updates=arguments.module_updates)
    setting = Setting(recipe, module_recipe, arguments.execute, arguments.episodes, arguments.work)
    directories = set()
    for cell in cells_to_do(arguments, setting):
        directory = arguments.out / "cells" / cell.task.name
        directories.add(directory)
        path = directory / f"{cell.method}-{cell.name}.json"
        if path.is_file():
            continue
        print(f"{cell.method} {cell.name}", flush=True)
        directory.mkdir(parents=True, exist_ok=True)
        cell.place("grounding").parent.mkdir(parents=True, exist_ok=True)
        description = {
            "method": cell.method,
            "encoder": cell.label,
            "depth": cell.depth,
            "seed": cell.seed,
            "task": cell.task.name,
        }
        found = METHODS[cell.method](cell)
        write_atomically(path, json.dumps(description | found, indent=1) + "\n")
    for directory in directories:
        text = tables(read_cells(directory))
        write_atomically(arguments.out / f"{directory.name}.md", text)
        print(text)


if __name__ == "__main__":
    main()
