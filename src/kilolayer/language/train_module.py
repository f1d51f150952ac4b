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
from kilolayer.errors import UserError, require_at_least
from kilolayer.language.base import Context, Encoder
from kilolayer.language.board import require_instructions
from kilolayer.language.dagger import DAgger, DAggerState, Instructions, Recipe
from kilolayer.language.goal_head import HeadSize, HeadSpec
from kilolayer.language.grounding import Grounding
from kilolayer.language.module import ActionModule, InstructionEncoder, ModuleSpec, Trunk
from kilolayer.language.train_grounding import Recipe as GroundingRecipe
from kilolayer.language.train_grounding import (
    directory_name,
    fit,
    load_source,
    output_path,
    require_frozen,
    training_examples,
)
from kilolayer.networks.actor import Actor
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.networks.mixture import MixtureSpec
from kilolayer.physics.build import build_physics
from kilolayer.runtime.progress import ProgressDisplay, SilentDisplay
from kilolayer.runtime.tensors import TensorDirectory
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.training.evaluate import (
    Episodes,
    EpisodeStart,
    episode_metrics,
    evaluation_key,
    evaluation_start,
    start_episodes,
    step_episodes,
)
from kilolayer.types import Array

DIRECTORY = TensorDirectory("module", version=1)
EXAMPLES = 4096
EVALUATION_EPISODES = 128  # after the training, for the card
HISTORY = 20  # entries of the training log
PHASES = ("first third", "second third", "last third")
KEY_STREAM = 0x3D6E  # of the seed; its grounding draws from the seed's own key
NEAR = 2.0  # success radii from the goal


@dataclass(frozen=True)
class TrainedModule:
    """An action module and its origin.

    path: its directory. config: of the teacher's run, for the task and the physics. encoder: name
    and fingerprint of the encoder used in training. details: facts about the training and its
    results, as JSON values.
    """

    path: Path
    config: RunConfig
    spec: ModuleSpec
    module: ActionModule
    instruction_encoder: InstructionEncoder
    encoder: dict[str, str]
    details: dict[str, Any]

    @cached_property
    def task(self) -> Task:
        return task_of(self.config.task)

    def embed(self, context: Context) -> Array:
        """The instruction embeddings that the module acts on, `[rows, embedding]`."""
        return _embed(self.instruction_encoder, context)

    def require_encoder(self, encoder: Encoder) -> None:
        """Raises UserError for another encoder than the one used in training."""
        if encoder.fingerprint() != self.encoder["fingerprint"]:
            raise UserError(
                f"the module {self.path} was trained on features of the encoder "
                f"{self.encoder['name']}, and {encoder.name} gives different ones: open the former."
            )

    def save(self, path: Path) -> "TrainedModule":
        """Write a module directory and return the module with the new path.

        Raises UserError if the path exists or cannot be written.
        """
        card = {
            "encoder": self.encoder,
            "details": self.details,
            "module": self.spec.to_json(),
            "reader": dataclasses.asdict(self.instruction_encoder.spec),
            "config": json.loads(self.config.to_json()),
        }
        # The format's name of the instruction encoder is `reader`.
        arrays = {"module": self.module, "reader": self.instruction_encoder}
        DIRECTORY.write(path, arrays, card)
        return dataclasses.replace(self, path=path)


def is_module(path: str | Path) -> bool:
    """Whether the path is a module directory."""
    return DIRECTORY.exists(path)


def open_module(path: str | Path) -> TrainedModule:
    """Open the module in a directory; raises UserError if there is none or it is damaged."""
    path = Path(path)
    card = DIRECTORY.card(path)
    try:
        spec = ModuleSpec.from_json(card["module"])
        encoder_spec = HeadSpec.from_json(card["reader"])
        config = RunConfig.from_json(json.dumps(card["config"]), str(path / DIRECTORY.card_name))
        encoder, details = card["encoder"], card["details"]
    except (KeyError, TypeError) as error:
        raise DIRECTORY.damaged(path, error) from error
    shapes = jax.eval_shape(
        lambda: {
            "module": spec.init(jax.random.key(0)),
            "reader": InstructionEncoder(*encoder_spec.init(), encoder_spec),
        }
    )
    arrays = DIRECTORY.fill(shapes, path)
    return TrainedModule(path, config, spec, arrays["module"], arrays["reader"], encoder, details)


def train_module(
    run: str | Path,
    encoder: Encoder,
    out: str | Path | None = None,
    trunk: Trunk = "mixture",
    seed: int = 0,
    shuffled: bool = False,
    display: ProgressDisplay | None = None,
    recipe: Recipe | None = None,
    mixture: MixtureSpec | None = None,
    chunk: int = 4,
    execute: int = 1,
    examples: int = EXAMPLES,
    grounding: Grounding | None = None,
) -> TrainedModule:
    """Train an action module with the policy of a run or policy directory as teacher; write it.

    out: the directory to write. Default: under `modules/` in the run, named after trunk and
    encoder. shuffled: give every environment the instruction of another goal, a control that can
    learn only what all goals share. examples: number of examples of the split `seen`. grounding:
    encodes the instructions and must use the same encoder. Default: one is trained first. Raises
    UserError for invalid arguments before any work.
    """
    run, display = Path(run), display or SilentDisplay()
    recipe = recipe or Recipe()
    require_at_least(2, examples=examples)
    teacher = open_policy(run)
    require_instructions(teacher.task)
    name = f"{trunk}-{directory_name(encoder)}{'-shuffled' if shuffled else ''}-seed{seed}"
    out = output_path(run, out, "modules", name)
    mixture, task = mixture or MixtureSpec(width=64), task_spec(teacher.task)
    # Check the spec before any work is done.
    spec = ModuleSpec(task, 1, trunk, mixture, chunk, execute)
    with require_frozen(encoder) as fingerprint:
        began = time.perf_counter()
        drawn, context = training_examples(teacher.task, encoder, examples, seed, display)
        if grounding is None:
            source, recipe_of_head = load_source(run), GroundingRecipe()
            grounding = fit(
                source, encoder, drawn, context, recipe_of_head, HeadSize(), seed, display
            )
        grounding.require_task(teacher.task)
        instruction_encoder = InstructionEncoder.of(grounding)
        spec = dataclasses.replace(spec, embedding_dim=instruction_encoder.embedding_dim)
        goal = jnp.asarray([example.goal for example in drawn], jnp.float32)
        instructions = Instructions(_embed(instruction_encoder, context), goal)
        encoded = time.perf_counter()
        trained_on = permute_goals(instructions, seed) if shuffled else instructions
        module, history = run_dagger(teacher, spec, recipe, trained_on, seed, display)
        trained = time.perf_counter()
    kinds = [example.kind for example in drawn]
    display.phase("play")
    details = {
        "teacher": str(run),
        "teacher_depth": teacher.spec.torso.depth,
        "seed": seed,
        "shuffled": shuffled,
        "examples": examples,
        "recipe": dataclasses.asdict(recipe),
        "counts": model_cost(spec),
        "played": evaluate_training_instructions(teacher, module, instructions, kinds, seed),
        "history": history,
        "seconds": {"features": round(encoded - began, 2), "teach": round(trained - encoded, 2)},
    }
    card = {"name": encoder.name, "fingerprint": fingerprint}
    return TrainedModule(
        out, teacher.config, spec, module, instruction_encoder, card, details
    ).save(out)


def permute_goals(instructions: Instructions, seed: int) -> Instructions:
    """The same instructions with permuted goals."""
    order = np.random.default_rng(seed).permutation(len(instructions.goal))
    return Instructions(instructions.embedding, instructions.goal[order])


def run_dagger(
    teacher: DeployedPolicy,
    spec: ModuleSpec,
    recipe: Recipe,
    instructions: Instructions,
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
    dagger = DAgger(task, physics, recipe, interval)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), KEY_STREAM))
    display.phase("compile")

    @jax.jit
    def init(teacher: Actor, instructions: Instructions, keys: Array) -> DAggerState:
        return dagger.init(spec.init(keys[0]), teacher, instructions, keys[1])

    state = init(teacher.agent_state, instructions, keys)
    run_round = jax.jit(dagger.round, donate_argnums=0)
    history: list[dict[str, Any]] = []
    every = max(1, dagger.rounds // HISTORY)
    for done in range(1, dagger.rounds + 1):
        state, metrics = run_round(state, teacher.agent_state, instructions)
        error = float(metrics["teach/error"])
        if not math.isfinite(error):
            raise UserError(
                f"the module diverged after {done * dagger.updates_per_round:,} updates: lower "
                f"learning_rate = {recipe.learning_rate}."
            )
        display.phase("train module")
        display.advance(done, dagger.rounds, error=error)
        if done % every == 0 or done == dagger.rounds:
            rounded = {name: np.round(np.float64(m), 5).tolist() for name, m in metrics.items()}
            history.append({"round": done, **rounded})
    return state.module, history


def model_cost(spec: ModuleSpec) -> dict[str, int]:
    """Parameters, and floating-point operations of the matrix products for one chunk at batch 1,
    for the whole module and for its trunk."""
    module = jax.eval_shape(spec.init, jax.random.key(0))
    observation, embedding, hidden = (
        jax.ShapeDtypeStruct((1, size), jnp.float32)
        for size in (spec.task.observation_dim, spec.embedding_dim, spec.mixture.width)
    )

    def parameters(tree: Any) -> int:
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

    return {
        "parameters": parameters(module),
        "trunk_parameters": parameters(module.trunk),
        "operations": arithmetic(lambda m, o, e: m(o, e)[0], module, observation, embedding).flops,
        "trunk_operations": arithmetic(lambda trunk, x: trunk(x), module.trunk, hidden).flops,
    }


def evaluate_training_instructions(
    teacher: DeployedPolicy,
    module: ActionModule,
    instructions: Instructions,
    kinds: list[str],
    seed: int,
) -> dict[str, Any]:
    """Scores of episodes with training instructions, and the routers' use of the experts."""
    task, count = teacher.task, min(EVALUATION_EPISODES, len(kinds))
    physics = build_physics(task.world, count, teacher.config.physics)
    embedding, goal = (rows[:count] for rows in instructions)
    start = evaluation_start(task, evaluation_key(seed, 0), count, "evaluation", goal)

    @jax.jit
    def play(module: ActionModule, embedding: Array, start: EpisodeStart) -> tuple[Episodes, Array]:
        """Episodes without noise, and the router gates `[time, layers, envs, experts]`."""

        def control_step(carry: tuple, _: None) -> tuple[tuple, tuple]:
            playing, chunk = carry
            action, chunk = module.act(chunk, task.observe(playing.physics), embedding)
            playing, step = step_episodes(task, physics, playing, action)
            return (playing, chunk), (step, chunk.gates)

        carry = (start_episodes(task, physics, start), module.initial_carry(count))
        _, (steps, gates) = jax.lax.scan(control_step, carry, length=task.episode_length)
        return Episodes(task.achieved_goal(carry[0].physics), *steps), gates

    episodes, gates = play(module, embedding, start)
    scores = {"scores": episode_metrics(task, episodes)}
    if gates.size == 0:
        return scores
    return scores | {"router": mean_gates(task, episodes, gates, kinds[:count])}


def mean_gates(task: Task, episodes: Episodes, gates: Array, kinds: list[str]) -> dict[str, Any]:
    """Mean gate of every expert, by kind of instruction and by phase of movement, as JSON values.

    gates `[time, layers, envs, experts]`. kinds: kind of each environment's instruction. `by_kind`
    and `by_phase` map a name to shares `[layers][experts]`, which sum to one in every layer. The
    phases are thirds of the time until the goal is first reached, or of the episode if it never is.
    `near` is within `NEAR` success radii of the goal.
    """
    by_env = np.moveaxis(np.asarray(gates), 1, 2)
    distance = np.asarray(task.distance(episodes.achieved, episodes.goal))
    alive = np.asarray(episodes.alive)
    reached = alive & (distance < task.goal.radius)
    end = np.where(reached.any(0), reached.argmax(0) + 1, alive.sum(0))
    step = np.arange(len(distance))[:, None]
    moving = step < end
    third = np.minimum(3 * step // np.maximum(end, 1), 2)
    near = distance < NEAR * task.goal.radius
    by_phase = {name: moving & (third == index) for index, name in enumerate(PHASES)}
    by_phase |= {"near": alive & near, "far": alive & ~near}
    by_kind = {kind: moving & (np.array(kinds) == kind)[None] for kind in sorted(set(kinds))}
    return {
        "by_kind": {name: _masked_mean(by_env, mask) for name, mask in by_kind.items()},
        "by_phase": {name: _masked_mean(by_env, mask) for name, mask in by_phase.items()},
    }


def _masked_mean(gates: np.ndarray, mask: np.ndarray) -> list[list[float]] | None:
    """Mean gates `[layers][experts]` over the steps of the mask; None if it has no step.

    gates `[time, envs, layers, experts]`, mask `[time, envs]`.
    """
    if not mask.any():
        return None
    return np.round(gates[mask].mean(0, dtype=np.float64), 4).tolist()


@jax.jit
def _embed(instruction_encoder: InstructionEncoder, context: Context) -> Array:
    return instruction_encoder(context)
