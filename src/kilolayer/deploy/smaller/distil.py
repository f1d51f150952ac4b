"""Distillation of a trained policy into smaller ones: the student acts, the teacher labels."""

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax

from kilolayer.agents.base import Problem
from kilolayer.agents.distillation import Distillation, Rate
from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import load
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy, is_policy, open_policy
from kilolayer.deploy.score import NEW_EPISODES, Scorer, compare_paired
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.errors import UserError, bad_field
from kilolayer.networks.actor import Actor
from kilolayer.runtime.devices import local_memory
from kilolayer.runtime.files import require_unused
from kilolayer.runtime.mesh import make_mesh
from kilolayer.runtime.progress import ProgressDisplay, make_display
from kilolayer.runtime.zoo import default_output
from kilolayer.schedule import TrainSchedule
from kilolayer.settings import values_of
from kilolayer.training.build import sharded_physics
from kilolayer.training.sizes import require_run_fits
from kilolayer.training.step import Trainer


class Critic(NamedTuple):
    """Rates the student's actions: an agent's `rate` and that agent's state."""

    rate: Rate
    state: Any


class Distilled(NamedTuple):
    """A trained student. divergence: mean KL over the last round's batches, in nats."""

    actor: Actor
    divergence: float
    steps: int
    updates: int


def train_student(
    teacher: DeployedPolicy,
    student: ActorSpec,
    recipe: Recipe,
    seed: int,
    display: ProgressDisplay,
    critic: Critic | None = None,
    start: Actor | None = None,
) -> Distilled:
    """Train one student from one teacher.

    start: the student's initial actor. Default: drawn from the seed. Raises UserError for a recipe
    that cannot be run, or if the student diverges.
    """
    trainer = _trainer(teacher, student, recipe, seed, critic, start)
    schedule = trainer.schedule
    display.phase("compile")
    state = jax.jit(trainer.init)(seed)
    collect, train_round = (
        jax.jit(step, donate_argnums=0) for step in (trainer.collect, trainer.round)
    )
    for _ in range(schedule.prefill_unrolls):
        state, _ = collect(state)
    display.phase("distil")
    divergence = float("nan")
    for done in range(1, schedule.training_unrolls + 1):
        state, metrics = train_round(state)
        divergence = float(metrics["student/divergence"])
        if not divergence < float("inf"):
            raise UserError(
                f"the student diverged after {done * schedule.updates_per_unroll:,} updates: "
                f"lower learning_rate = {recipe.learning_rate}."
            )
        steps = (schedule.prefill_unrolls + done) * schedule.steps_per_unroll
        display.advance(steps, schedule.total_steps, KL=divergence)
    actor = state.agent.parameters.actor
    return Distilled(actor, divergence, schedule.total_steps, schedule.updates)


def _trainer(
    teacher: DeployedPolicy,
    student: ActorSpec,
    recipe: Recipe,
    seed: int,
    critic: Critic | None,
    start: Actor | None,
) -> Trainer:
    """The trainer of ordinary runs, with `Distillation` as the agent."""
    task, mesh, teacher_agent = teacher.task, make_mesh(1), teacher.config.agent
    agent = Distillation(
        batch_size=recipe.batch_size,
        teacher=teacher.agent_state,
        start=start,
        actor_learning_rate=recipe.learning_rate,
        hindsight_share=recipe.hindsight_share,
        teacher_acts=recipe.teacher_acts,
        discount=values_of(teacher_agent).get("discount", Distillation.discount),
        absorbing_termination=teacher_agent.sampling.absorbing,
        rate_of=critic and critic.rate,
        critic=critic and critic.state,
    )
    config = recipe.config(teacher.config, agent, seed)
    schedule = TrainSchedule.derive(config, task.episode_length, jax.default_backend())
    agent = agent.on(Problem(student.task, student.torso, student.torso, updates=schedule.updates))
    physics = sharded_physics(mesh, task.world, config)
    return Trainer(config, schedule, task, physics, agent, mesh)


def student_spec(teacher: DeployedPolicy, depth: int, width: int) -> ActorSpec:
    """An actor of another size, with the architecture of the teacher's run.

    Raises UserError for an invalid depth or width.
    """
    network = dataclasses.replace(
        teacher.config.network, depth=depth, actor_depth=None, critic_depth=None, width=width
    )
    return ActorSpec(task_spec(teacher.task), network.torso(depth, "none"))


def critic_of(path: Path) -> Critic:
    """The critic of a run; raises UserError if the run has no critic that rates actions."""
    if is_policy(path):
        raise UserError(
            f"{path} is a policy without a critic to weight the loss with: give the run that the "
            "policy comes from, or omit --critic-weighted."
        )
    run = load(path)
    if not run.agent.has_action_critic:
        raise UserError(
            f"the agent {run.config.agent_name} of {path} has no critic that rates actions: omit "
            "--critic-weighted."
        )
    return Critic(run.agent.rate, run.agent_state)


def distil(
    policy: str | Path,
    depths: Sequence[int] = (4,),
    widths: Sequence[int] = (),
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
    episodes: int = 128,
    out: str | Path | None = None,
    progress: bool = True,
) -> list[DeployedPolicy]:
    """Train a student of each depth, width and seed to imitate a policy.

    policy: a run directory, a policy directory or zoo:NAME. widths: default the teacher's width.
    out: the policy directory to write; for several students, the parent of their directories.
    Default: `policies/` in the teacher's directory. The students' `details` record their divergence
    and both scores. Raises UserError for invalid arguments before any work.
    """
    path, recipe = Path(policy), recipe or Recipe()
    if episodes < 2:
        raise bad_field("episodes", episodes, "an interval needs at least two", 128)
    teacher = open_policy(path)
    critic = critic_of(path) if recipe.critic_weighted else None
    torso = teacher.spec.torso
    # A value given twice is one student: its directory would exist once the first is trained.
    sizes = dict.fromkeys((depth, each) for depth in depths for each in widths or (torso.width,))
    specs = [student_spec(teacher, *size) for size in sizes]
    agent = Distillation(batch_size=recipe.batch_size, teacher=teacher.agent_state)
    config = recipe.config(teacher.config, agent, 0)
    for depth, width in sizes:
        require_run_fits(config.having(depth=depth, width=width), teacher.task, local_memory())
    jobs = [
        (spec, seed, _place(path, out, spec, seed))
        for spec in specs
        for seed in dict.fromkeys(seeds)
    ]
    if not jobs:
        raise UserError("there is no student to distil: give a --depth.")
    if out is not None and len(jobs) == 1:
        jobs = [(*jobs[0][:2], Path(out))]
    for _, _, place in jobs:
        require_unused(place)
    scorer = Scorer(teacher.task, teacher.config, episodes, index=NEW_EPISODES)
    made = []
    with closing(make_display(progress)) as display:
        for depth in (spec.torso.depth for spec, _, _ in jobs):
            if depth > torso.depth:
                display.note(
                    f"the student's depth {depth} is more than its teacher's {torso.depth}, so the "
                    "student will not be faster than the teacher."
                )
        display.phase("teacher")
        teacher_episodes = scorer.play(teacher.agent, teacher.agent_state)
        for number, (spec, seed, place) in enumerate(jobs, start=1):
            if len(jobs) > 1:
                display.note(f"student {number} of {len(jobs)}: {place.name}")
            found = train_student(teacher, spec, recipe, seed, display, critic)
            display.phase("score")
            played = scorer.play(teacher.agent, found.actor)
            compared = compare_paired(teacher.task, played, teacher_episodes)
            details = {
                "teacher": str(path),
                "teacher_depth": torso.depth,
                "seed": seed,
                "steps": found.steps,
                "updates": found.updates,
                "recipe": dataclasses.asdict(recipe),
                "divergence": found.divergence,
                "episodes": episodes,
                "scores": compared.scores,
                "teacher_scores": compared.baseline,
                "change": dataclasses.asdict(compared.change),
            }
            student = dataclasses.replace(
                teacher, spec=spec, agent_state=found.actor, method="distil", details=details
            )
            made.append(student.save(place))
    return made


def _place(path: Path, out: str | Path | None, spec: ActorSpec, seed: int) -> Path:
    base = default_output(path, "policies") if out is None else Path(out)
    return base / f"distil-depth{spec.torso.depth}-width{spec.torso.width}-seed{seed}"
