"""Trains an action module from a run: instructions, a frozen encoder, and the run's deep policy."""

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.registry import task_spec
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.language.base import Context, Encoder, Example
from kilolayer.language.board import require_words
from kilolayer.language.contexts import contexts
from kilolayer.language.goal_head import HeadSize
from kilolayer.language.ground_run import Recipe as GroundRecipe
from kilolayer.language.ground_run import fit, source_of
from kilolayer.language.grounding import Grounding
from kilolayer.language.instructions import draw_examples
from kilolayer.language.module import ActionModule, ModuleSpec, Trunk
from kilolayer.language.module_play import play, router_use
from kilolayer.language.reader import Reader, ReaderSpec
from kilolayer.language.scenes import draw_pictures
from kilolayer.language.teach import Recipe, Table, Teaching, TeachState
from kilolayer.networks.actor import Actor
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.networks.mixture import MixtureSpec
from kilolayer.physics.build import build_physics
from kilolayer.runtime.progress import ProgressDisplay, SilentDisplay
from kilolayer.runtime.tensors import TensorDirectory
from kilolayer.runtime.zoo import default_output
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.training.evaluate import episode_metrics, evaluation_key, evaluation_start
from kilolayer.types import Array, UserError, bad_field

DIRECTORY = TensorDirectory("module", version=1)
EXAMPLES = 4096
PLAYED = 128  # evaluation episodes after the training, for the card
HISTORY = 20  # entries of the training log


@dataclass(frozen=True)
class TaughtModule:
    """An action module and its origin.

    path: its directory. config: of the teacher's run, for the task and the physics. reader: makes
    readings from features. encoder: name and fingerprint of the encoder used in training. details:
    facts about the training and its results, as JSON values.
    """

    path: Path
    config: RunConfig
    spec: ModuleSpec
    module: ActionModule
    reader: Reader
    encoder: dict[str, str]
    details: dict[str, Any]

    @cached_property
    def task(self) -> Task:
        return task_of(self.config.task)

    def read(self, context: Context) -> Array:
        """The readings that the module acts on, `[rows, reading]`, one per instruction."""
        return _read(self.reader, context)

    def require_encoder(self, encoder: Encoder) -> None:
        """Raises UserError for another encoder than the one used in training."""
        if encoder.fingerprint() != self.encoder["fingerprint"]:
            raise UserError(
                f"the module {self.path} was trained on features of the encoder "
                f"{self.encoder['name']}, and {encoder.name} makes others: open that one."
            )

    def save(self, path: Path) -> "TaughtModule":
        """Write a module directory and return the module with the new path.

        Raises UserError if the path exists or cannot be written.
        """
        card = {
            "encoder": self.encoder,
            "details": self.details,
            "module": dataclasses.asdict(self.spec),
            "reader": dataclasses.asdict(self.reader.spec),
            "config": json.loads(self.config.to_json()),
        }
        DIRECTORY.write(path, {"module": self.module, "reader": self.reader}, card)
        return dataclasses.replace(self, path=path)


def _arrays(spec: ModuleSpec, reader: ReaderSpec) -> dict[str, Any]:
    """The arrays of a module directory, untrained."""
    key = jax.random.key(0)
    return {"module": spec.init(key), "reader": reader.init(key)}


def is_module(path: str | Path) -> bool:
    """Whether the path is a module directory."""
    return DIRECTORY.exists(path)


def open_module(path: str | Path) -> TaughtModule:
    """Open the module in a directory; raises UserError if there is none or it is damaged."""
    path = Path(path)
    card = DIRECTORY.card(path)
    try:
        spec = ModuleSpec.from_json(card["module"])
        reader = ReaderSpec.from_json(card["reader"])
        config = RunConfig.from_json(json.dumps(card["config"]), str(path / DIRECTORY.card_name))
        encoder, details = card["encoder"], card["details"]
    except (KeyError, TypeError) as error:
        raise DIRECTORY.damaged(path, error) from error
    arrays = DIRECTORY.fill(jax.eval_shape(lambda: _arrays(spec, reader)), path)
    return TaughtModule(path, config, spec, arrays["module"], arrays["reader"], encoder, details)


def teach_run(
    run: str | Path,
    encoder: Encoder,
    out: str | Path | None = None,
    trunk: Trunk = "mixture",
    steps: int | None = None,
    seed: int = 0,
    shuffled: bool = False,
    display: ProgressDisplay | None = None,
    recipe: Recipe | None = None,
    mixture: MixtureSpec | None = None,
    chunk: int = 4,
    execute: int = 1,
    examples: int = EXAMPLES,
    grounding: Grounding | None = None,
) -> TaughtModule:
    """Train an action module with the policy of a run or policy directory as teacher; write it.

    out: the directory to write. Default: under `modules/` in the run, named after trunk and
    encoder. steps: environment steps. Default: the recipe's. shuffled: give every environment the
    instruction of another goal, a control that can learn only what all goals share. examples:
    number of examples of the split `seen`. grounding: reads the instructions and must use the same
    encoder. Default: one is trained first. Raises UserError for invalid arguments before any work.
    """
    run, display = Path(run), display or SilentDisplay()
    recipe = recipe or Recipe()
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    if examples < 2:
        raise bad_field("examples", examples, "it must be at least 2", 2)
    teacher = open_policy(run)
    require_words(teacher.task)
    place = _place(run, out, trunk, encoder, seed, shuffled)
    mixture = mixture or MixtureSpec(width=64)
    # Check the spec before any work is done.
    ModuleSpec(task_spec(teacher.task), 1, trunk, mixture, chunk, execute)
    before, began = encoder.fingerprint(), time.perf_counter()
    drawn, context = example_table(teacher.task, encoder, examples, seed, display)
    if grounding is None:
        recipe_of_reading, source = GroundRecipe(examples=examples), source_of(run)
        grounding = fit(
            source, encoder, drawn, context, recipe_of_reading, HeadSize(), seed, display
        )
    grounding.require_task(teacher.task)
    reader = Reader.of(grounding)
    spec = ModuleSpec(task_spec(teacher.task), reader.spec.reading, trunk, mixture, chunk, execute)
    goal = jnp.asarray([example.goal for example in drawn], jnp.float32)
    table, kinds = Table(_read(reader, context), goal), [example.kind for example in drawn]
    taught_on = permuted(table, seed) if shuffled else table
    encoded = time.perf_counter()
    module, history = teach(teacher, spec, recipe, taught_on, seed, display)
    taught = time.perf_counter()
    if encoder.fingerprint() != before:
        raise UserError(f"the encoder {encoder.name} changed while it was used: it is not frozen.")
    display.phase("play")
    details = {
        "teacher": str(run),
        "teacher_depth": teacher.spec.torso.depth,
        "seed": seed,
        "shuffled": shuffled,
        "examples": examples,
        "recipe": dataclasses.asdict(recipe),
        "counts": counts(spec),
        "played": played(teacher, module, table, kinds, seed),
        "history": history,
        "seconds": {
            "features": round(encoded - began, 2),
            "teach": round(taught - encoded, 2),
        },
    }
    card = {"name": encoder.name, "fingerprint": before}
    taught_module = TaughtModule(place, teacher.config, spec, module, reader, card, details)
    return taught_module.save(place)


def example_table(
    task: Task, encoder: Encoder, count: int, seed: int, display: ProgressDisplay
) -> tuple[list[Example], Context]:
    """Examples of the split `seen` and their frozen features."""
    drawn = draw_examples(task, "seen", count, seed)
    display.phase("draw")
    pictures = draw_pictures(task, [example.markers for example in drawn])
    return drawn, contexts(encoder, [example.sentence for example in drawn], pictures, display)


def permuted(table: Table, seed: int) -> Table:
    """The same instructions with permuted goals."""
    order = np.random.default_rng(seed).permutation(len(table.goal))
    return Table(table.reading, table.goal[order])


def teach(
    teacher: DeployedPolicy,
    spec: ModuleSpec,
    recipe: Recipe,
    table: Table,
    seed: int,
    display: ProgressDisplay,
) -> tuple[ActionModule, list[dict[str, Any]]]:
    """Train; return the module and the training log.

    An instruction lasts as long as a commanded goal lasted in the teacher's training. Raises
    UserError if the module diverges.
    """
    task, config = teacher.task, teacher.config
    physics = build_physics(task.world, recipe.envs, config.physics)
    interval = min(config.collection.goal_interval or task.episode_length, task.episode_length)
    teaching = Teaching(task, physics, recipe, interval)
    keys = jax.random.split(jax.random.key(seed))
    display.phase("compile")

    @jax.jit
    def begin(teacher: Actor, table: Table, keys: Array) -> TeachState:
        return teaching.init(spec.init(keys[0]), teacher, table, keys[1])

    state = begin(teacher.agent_state, table, keys)
    teach_round = jax.jit(teaching.round, donate_argnums=0)
    history: list[dict[str, Any]] = []
    every = max(1, teaching.rounds // HISTORY)
    for done in range(1, teaching.rounds + 1):
        state, metrics = teach_round(state, table)
        error = float(metrics["teach/error"])
        if not math.isfinite(error):
            raise UserError(
                f"the module diverged after {done * teaching.updates_per_round:,} updates: lower "
                f"learning_rate = {recipe.learning_rate}."
            )
        display.phase("teach")
        display.advance(done, teaching.rounds, error=error)
        if done % every == 0 or done == teaching.rounds:
            figures = {
                name: np.round(np.float64(value), 5).tolist() for name, value in metrics.items()
            }
            history.append({"round": done, **figures})
    return state.module, history


def counts(spec: ModuleSpec) -> dict[str, int]:
    """Parameters, and floating-point operations of the matrix products for one chunk at batch 1,
    for the whole module and for its trunk."""
    module = jax.eval_shape(spec.init, jax.random.key(0))
    width = spec.mixture.width
    row, fused, stream = (
        jax.ShapeDtypeStruct((1, size), jnp.float32)
        for size in (spec.task.observation_dim, spec.reading, width)
    )

    def parameters(tree: Any) -> int:
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

    return {
        "parameters": parameters(module),
        "trunk_parameters": parameters(module.trunk),
        "operations": arithmetic(lambda m, o, f: m(o, f)[0], module, row, fused).flops,
        "trunk_operations": arithmetic(lambda trunk, x: trunk(x), module.trunk, stream).flops,
    }


def played(
    teacher: DeployedPolicy, module: ActionModule, table: Table, kinds: list[str], seed: int
) -> dict[str, Any]:
    """Scores of episodes with training instructions, and the routers' use of the experts."""
    task, config, count = teacher.task, teacher.config, min(PLAYED, len(table.goal))
    physics = build_physics(task.world, count, config.physics)
    key = evaluation_key(seed, 0)
    start = evaluation_start(task, key, count, "evaluation", table.goal[:count])
    reading = table.reading[:count]
    found = jax.jit(lambda *each: play(task, physics, *each))(module, reading, start)
    scores = episode_metrics(task, found.episodes)
    if found.use.size == 0:
        return {"scores": scores}
    return {"scores": scores, "router": router_use(task, found, kinds[:count])}


@jax.jit
def _read(reader: Reader, context: Context) -> Array:
    return reader(context)


def _place(
    run: Path, out: str | Path | None, trunk: str, encoder: Encoder, seed: int, shuffled: bool
) -> Path:
    name = encoder.name.replace("/", "-").strip("-.")
    control = "-shuffled" if shuffled else ""
    place = (
        default_output(run, "modules") / f"{trunk}-{name}{control}-seed{seed}"
        if out is None
        else Path(out)
    )
    if place.exists():
        raise bad_field("out", str(place), "it exists already, choose another")
    return place
