"""Language: train groundings and action modules, and let an agent follow an instruction."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Run
from kilolayer.deploy.control import ControlResult, drive_simulation
from kilolayer.deploy.interpreter import Interpretation
from kilolayer.deploy.policy import DeployedPolicy, open_run_or_policy
from kilolayer.errors import UserError, bad_field
from kilolayer.language.base import PICTURE_SIZE, Encoder
from kilolayer.language.contexts import encode_context
from kilolayer.language.dagger import Recipe as ModuleRecipe
from kilolayer.language.encoders.cache import CachedEncoder
from kilolayer.language.encoders.open import EncoderChoice, choose_encoder, reopen_encoder
from kilolayer.language.evaluate import evaluate_grounding, evaluate_module, require_episodes
from kilolayer.language.evaluation_set import GoalPolicy, ModulePolicy
from kilolayer.language.goal_head import HeadSize
from kilolayer.language.grounding import DIRECTORY, Grounding, open_grounding
from kilolayer.language.interpret import Scene, SceneInterpreter, newest_grounding, read_picture
from kilolayer.language.module import ModuleSpec, Trunk, control_step
from kilolayer.language.train_grounding import Recipe, train_grounding
from kilolayer.language.train_module import TrainedModule, open_module, train_module
from kilolayer.networks.mixture import MixtureSpec
from kilolayer.report.instruction_film import InstructedAgent, film_for_report, film_instruction
from kilolayer.report.language_report import write_language_report
from kilolayer.runtime.devices import require_memory, require_width
from kilolayer.runtime.files import (
    guard_disk,
    require_file,
    require_unused,
    require_writable,
    unused,
)
from kilolayer.runtime.progress import make_display
from kilolayer.runtime.zoo import default_output
from kilolayer.tasks.base import Task
from kilolayer_robot.planning import Pursuit
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Timing


@dataclass(frozen=True)
class TrainedLanguage:
    """A grounding or a module, with its report. sentence: the instruction of the report's film."""

    path: Path
    report: Path
    sentence: str


@dataclass(frozen=True)
class InstructionFilm:
    """A filmed episode with an instruction.

    picture: the picture that the encoder saw. reached: seconds until success, None without success
    within `limit`.
    """

    interpretation: Interpretation
    task: Task
    film: Path
    picture: Path
    reached: float | None
    limit: float


@dataclass(frozen=True)
class InstructionControl:
    """The result of a control loop with an instruction."""

    interpretation: Interpretation
    task: Task
    done: ControlResult


def ground(
    run: str | Path,
    encoder: EncoderChoice | None = None,
    recipe: Recipe | None = None,
    size: HeadSize | None = None,
    episodes: int = 64,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> TrainedLanguage:
    """Train and examine a grounding: it maps a sentence and a picture to a goal for the policy.

    run: a run or a policy directory. out: by default a new directory in the run's groundings/.
    Raises UserError for a task without instructions or a missing encoder.
    """
    run, policy = Path(run), open_run_or_policy(run)
    recipe, size = recipe or Recipe(), size or HeadSize()
    _require_sizes(policy.task, out, recipe.examples, episodes, size.depth, size.width)
    with closing(make_display(progress)) as display:
        chosen, name = choose_encoder(run, policy.task, encoder, seed, display)
        path = _out(out, run, "groundings", f"{name}-seed{seed}")
        found = train_grounding(run, chosen, path, recipe, size, seed, display)
        evaluate_grounding(found, policy, episodes, seed, display).write(found.path)
        scene = Scene(policy.task, seed)
        goal = SceneInterpreter(found, seed).interpret(scene.example.sentence).goal
        return _filmed(found.path, policy_acting(policy, goal), scene, seed)


def train_vla(
    run: str | Path,
    trunk: Trunk = "mixture",
    encoder: EncoderChoice | None = None,
    grounding: str | Path | None = None,
    recipe: ModuleRecipe | None = None,
    mixture: MixtureSpec | None = None,
    chunk: int = 4,
    execute: int = 1,
    examples: int = 4096,
    episodes: int = 64,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> TrainedLanguage:
    """Train an action module with the run's policy as teacher, and examine it.

    grounding: its head and encoders read the instructions; by default a head is trained first.
    chunk: actions predicted at once. execute: actions executed before the next chunk. out: by
    default a new directory in the run's modules/. Raises UserError as `ground` does.
    """
    run, policy = Path(run), open_run_or_policy(run)
    mixture, recipe = mixture or MixtureSpec(64, 4, experts=8, top_k=2), recipe or ModuleRecipe()
    # All refusals come first, because an encoder may be trained before the module is made.
    if grounding is None:
        Recipe(examples)  # of the head that is trained first
    else:  # which has its own encoders
        for name in ("text", "image"):
            chosen = getattr(encoder or EncoderChoice(), name)
            if chosen != getattr(EncoderChoice(), name):
                allowed = "the grounding has its own encoders, omit one of the two"
                raise bad_field(name, chosen, allowed)
    ModuleSpec(task_spec(policy.task), 1, trunk, mixture, chunk, execute)
    layers = mixture.layers * mixture.depth
    _require_sizes(policy.task, out, examples, episodes, layers, mixture.width)
    require_memory("experts", mixture.experts, 16 * layers * mixture.width**2)
    require_memory("chunk", chunk, 16 * policy.task.action_dim * mixture.width)
    kept = len(policy.task.observation) + policy.task.action_dim  # float32 of every step
    require_memory("steps", recipe.steps, 4 * kept)
    with closing(make_display(progress)) as display:
        reads = None if grounding is None else grounding_of(run, Path(grounding), policy.task)
        if reads is None:
            chosen, name = choose_encoder(run, policy.task, encoder, seed, display)
        else:
            chosen, name = reads.encoder, reads.path.name
        path = _out(out, run, "modules", f"{trunk}-{name}-seed{seed}")
        found = train_module(
            run, chosen, path, trunk, seed=seed, display=display, recipe=recipe, mixture=mixture,
            chunk=chunk, execute=execute, examples=examples, grounding=reads,
        )  # fmt: skip
        evaluate_module(found, chosen, policy, episodes, seed, display).write(found.path)
        scene = Scene(policy.task, seed)
        acting = module_acting(found, chosen, scene.example.sentence, scene.picture())
        return _filmed(found.path, acting, scene, seed)


def play_instruction(
    run: str | Path,
    sentence: str,
    grounding: str | Path | None = None,
    module: str | Path | None = None,
    picture: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> InstructionFilm:
    """Film one episode of an agent that follows an instruction.

    grounding: maps the sentence to a goal, by default the run's newest. module: acts instead of the
    policy. picture: a .png for the encoder, by default a scene with markers sampled with the seed.
    Raises UserError if the run has no grounding.
    """
    run, policy = Path(run), open_run_or_policy(run)
    seen = None if picture is None else read_picture(Path(picture))
    interpreter = SceneInterpreter(grounding_of(run, grounding, policy.task), seed, seen)
    interpretation = interpreter.interpret(sentence)
    out = default_output(run, "media/say.mp4") if out is None else Path(out)
    require_writable(out)
    if module is None:
        acting = policy_acting(policy, interpretation.goal)
    else:
        trained, encoder = module_of(run, module, policy.task)
        acting = module_acting(trained, encoder, sentence, interpreter.picture)
    film, reached = film_instruction(acting, interpretation.goal, interpreter.marks, out, seed)
    shot = out.with_name(f"{out.stem}-picture.png")
    with guard_disk(shot):
        Image.fromarray(interpreter.picture).save(shot)
    step, most = policy.task.world.control_step, policy.task.episode_length
    seconds = None if reached is None else reached * step
    return InstructionFilm(interpretation, policy.task, film.path, shot, seconds, most * step)


def control_instruction(
    run: str | Path,
    sentence: str,
    controller: str | Path | None = None,
    grounding: str | Path | None = None,
    module: str | Path | None = None,
    timing: Timing | None = None,
    seconds: float | None = 10.0,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> InstructionControl:
    """`control` with an instruction: every plan encodes the picture and the sentence again.

    grounding: also for a module it gives the goal that counts as reached.
    """
    run, policy, timing = Path(run), open_run_or_policy(controller or run), timing or Timing()
    if seconds is not None:
        timing.steps(seconds)  # before the instruction is read
    if out is not None:
        require_file(Path(out))
    reads = grounding_of(run, grounding, policy.task)
    trained, encoder, act, plan_dim = None, reads.encoder, policy.policy, None
    if module is not None:
        trained, encoder = module_of(run, module, policy.task)
        act, plan_dim = control_step(trained.module), trained.spec.embedding_dim
    interpreter = SceneInterpreter(reads, seed)
    interpretation = interpreter.interpret(sentence)
    # Only a new picture or sentence runs the encoder.
    cached = CachedEncoder(encoder, default_output(run, "features"))

    def plan(sensed: Sensed) -> np.ndarray:
        context = encode_context(cached, [sentence], interpreter.scene.picture()[None])
        if trained is None:
            return reads.predict(context).goal
        return np.asarray(trained.embed(context))

    pursuit = Pursuit(max(1, round(timing.rate / timing.plan_rate)), 1, 1)
    with closing(make_display(progress)) as display:
        done = drive_simulation(
            policy.task, policy.config, plan, act, pursuit, timing, seconds, display,
            interpretation.goal, None if out is None else Path(out), seed, plan_dim,
        )  # fmt: skip
    return InstructionControl(interpretation, policy.task, done)


def scene_interpreter(run: str | Path, grounding: str | Path, seed: int) -> SceneInterpreter:
    """What maps sentences to goals on the local page."""
    return SceneInterpreter(grounding_of(run, grounding, open_run_or_policy(run).task), seed)


def grounding_of(run: str | Path, path: str | Path | None, task: Task) -> Grounding:
    """The grounding at `path`, by default the run's newest; raises UserError for another task."""
    run = Path(run)
    path = newest_grounding(run) if path is None else Path(path)
    name = DIRECTORY.card(path)["encoder"]["name"]
    found = open_grounding(path, reopen_encoder(name, run, task))
    found.require_task(task)
    return found


def module_of(run: str | Path, path: str | Path, task: Task) -> tuple[TrainedModule, Encoder]:
    """An action module and its encoder; raises UserError for another task."""
    module = open_module(Path(path))
    if module.task.name != task.name:
        raise UserError(
            f"the module {path} acts in the task {module.task.name} and this is {task.name}: train "
            "one for it with `kilolayer train-vla`."
        )
    encoder = reopen_encoder(module.encoder["name"], Path(run), task)
    module.require_encoder(encoder)
    return module, encoder


def module_acting(
    module: TrainedModule, encoder: Encoder, sentence: str, picture: Any
) -> InstructedAgent:
    """A module with a sentence about a picture as its instruction."""
    embedding = module.embed(encode_context(encoder, [sentence], picture[None]))
    return InstructedAgent(module.task, module.config, ModulePolicy(), module.module, embedding)


def policy_acting(policy: Run | DeployedPolicy, goal: Any) -> InstructedAgent:
    """A policy with the commanded goal `[goal]`."""
    goals = np.asarray(goal, np.float32)[None]
    actor = GoalPolicy(policy.agent)
    return InstructedAgent(policy.task, policy.config, actor, policy.agent_state, goals)


def _require_sizes(
    task: Task, out: str | Path | None, examples: int, episodes: int, layers: int, width: int
) -> None:
    """Raises UserError for a used `out`, no episodes, and sizes beyond this machine's memory."""
    if out is not None:
        require_unused(Path(out))
    require_episodes(episodes)
    picture = 3 * PICTURE_SIZE**2
    require_memory("examples", examples, picture)
    require_memory("episodes", episodes, picture + 8 * task.goal.dim * task.episode_length)
    require_width(width, layers)


def _out(out: str | Path | None, run: Path, folder: str, name: str) -> Path:
    """`out`, by default an unused directory called `name` in a folder of the run."""
    return unused(default_output(run, folder) / name) if out is None else Path(out)


def _filmed(path: Path, acting: InstructedAgent, scene: Scene, seed: int) -> TrainedLanguage:
    """Film the scene's example for the report, then write the report."""
    film_for_report(acting, scene, path, seed)
    return TrainedLanguage(path, write_language_report(path), scene.example.sentence)
