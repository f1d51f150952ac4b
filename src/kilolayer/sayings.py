"""Options that say in words where to go, and what they open: no logic, as in `cli.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilolayer.errors import UserError, bad_field
from kilolayer.runtime.zoo import beside
from kilolayer.terminal import OUTPUT

if TYPE_CHECKING:
    from kilolayer.analysis.load import Run
    from kilolayer.deploy.control.run import Controlled
    from kilolayer.deploy.listener import Heard
    from kilolayer.deploy.policy import DeployedPolicy
    from kilolayer.language.base import Encoder
    from kilolayer.language.grounding import Grounding
    from kilolayer.language.say import Ear
    from kilolayer.language.teach_run import TaughtModule
    from kilolayer.report.said import Acting
    from kilolayer.runtime.progress import ProgressDisplay
    from kilolayer.tasks.base import Task
    from kilolayer_robot.timing import Timing


@dataclass(frozen=True)
class Saying:
    """The options of `play` and `control` that say where to go in words."""

    run: Path
    sentence: str | None
    grounding: Path | None
    module: Path | None
    picture: Path | None
    seed: int

    def require_alone(self, others: Mapping[str, Any]) -> None:
        """Raises UserError for options that need a sentence, or that one leaves without a use."""
        if self.sentence is None:
            for name in ("grounding", "module", "picture"):
                if getattr(self, name) is not None:
                    value = str(getattr(self, name))
                    raise bad_field(name, value, "it goes with a sentence, add --say SENTENCE")
            return
        for name, value in others.items():
            if value:
                raise bad_field(name, value, "--say says where to go, leave one of them away")

    def play(self, out: Path | None) -> None:
        """Film one episode and tell what was understood."""
        from PIL import Image

        from kilolayer.language.say import Ear, read_picture
        from kilolayer.report.said import film_said
        from kilolayer.runtime.files import guard_disk

        policy, sentence = open_actor(self.run), str(self.sentence)
        picture = None if self.picture is None else read_picture(self.picture)
        grounding = grounding_of(self.run, self.grounding, policy.task)
        ear = Ear(grounding, self.seed, picture)
        heard = ear.hear(sentence)
        _tell_heard(policy.task, heard)
        out = out or beside(self.run, "media/say.mp4")
        if self.module is None:
            acting = policy_acting(policy, heard.goal)
        else:
            module, encoder = module_of(self.run, self.module, policy.task)
            acting = module_acting(module, encoder, sentence, ear.picture)
        film, reached = film_said(acting, heard.goal, ear.marks, out, self.seed)
        step, most = policy.task.world.control_step, policy.task.episode_length
        OUTPUT.print(
            f"not reached within {most * step:g} s"
            if reached is None
            else f"reached after {reached * step:.1f} s"
        )
        seen = out.with_name(f"{out.stem}-picture.png")
        with guard_disk(seen):
            Image.fromarray(ear.picture).save(seen)
        OUTPUT.print(f"video    {film.path}\npicture  {seen}")

    def control(
        self,
        controller: Path | None,
        timing: "Timing",
        seconds: float | None,
        display: "ProgressDisplay",
        out: Path | None,
    ) -> "Controlled":
        """The control loop, in which every plan hears the sentence anew."""
        from kilolayer.deploy.control.run import drive_simulation
        from kilolayer.language.loop import grounded_loop
        from kilolayer_robot.planning import Pursuit

        policy, sentence = open_actor(controller or self.run), str(self.sentence)
        grounding = grounding_of(self.run, self.grounding, policy.task)
        kept = beside(self.run, "features"), self.seed
        if self.module is not None:
            from kilolayer.language.module_loop import module_loop

            module, encoder = module_of(self.run, self.module, policy.task)
            spoken = module_loop(module, encoder, grounding, sentence, *kept)
        else:
            spoken = grounded_loop(grounding, policy, sentence, *kept)
        _tell_heard(policy.task, spoken.heard)
        pursuit = Pursuit(max(1, round(timing.rate / timing.plan_rate)), 1, 1)
        return drive_simulation(
            policy.task, policy.config, spoken.plan, spoken.act, pursuit, timing, seconds, display,
            spoken.heard.goal, out, self.seed, spoken.plan_dim,
        )  # fmt: skip


def listener(run: Path, grounding: Path, seed: int) -> "Ear":
    """Who understands sentences on the page."""
    from kilolayer.language.say import Ear

    return Ear(grounding_of(run, grounding, open_actor(run).task), seed)


def open_actor(run: Path) -> "Run | DeployedPolicy":
    from kilolayer.analysis.load import load
    from kilolayer.deploy.policy import is_policy, open_policy

    return open_policy(run) if is_policy(run) else load(run)


def grounding_of(run: Path, path: Path | None, task: "Task") -> "Grounding":
    from kilolayer.language.choose import open_again
    from kilolayer.language.grounding import DIRECTORY, is_grounding, open_grounding
    from kilolayer.language.say import newest

    path = path or newest(run, "groundings", is_grounding, "ground")
    name = DIRECTORY.card(path)["encoder"]["name"]
    found = open_grounding(path, open_again(name, run, task))
    found.require_task(task)
    return found


def _tell_heard(task: "Task", heard: "Heard") -> None:
    goal = ", ".join(
        f"{coordinate.name} {value:.2f} {coordinate.unit}"
        for coordinate, value in zip(task.goal.coordinates, heard.goal, strict=True)
    )
    OUTPUT.print(f"understood  {goal}   confidence {heard.confidence:.0%}")
    if heard.familiar:
        OUTPUT.print("the sentence is like those that were learnt")
    else:
        OUTPUT.print(
            "the sentence is unlike those that were learnt; the nearest of them is "
            f"“{heard.nearest}”",
            markup=False,
        )


def module_of(run: Path, path: Path, task: "Task") -> "tuple[TaughtModule, Encoder]":
    from kilolayer.language.choose import open_again
    from kilolayer.language.teach_run import open_module

    module = open_module(path)
    if module.task.name != task.name:
        raise UserError(
            f"the module {path} acts in the task {module.task.name} and this is {task.name}: train "
            "one for it with `kilolayer train-vla`."
        )
    encoder = open_again(module.encoder["name"], run, task)
    module.require_encoder(encoder)
    return module, encoder


def module_acting(
    module: "TaughtModule", encoder: "Encoder", sentence: str, picture: Any
) -> "Acting":
    from kilolayer.language.contexts import contexts
    from kilolayer.language.examine_module import Chunks
    from kilolayer.report.said import Acting

    reading = module.read(contexts(encoder, [sentence], picture[None]))
    return Acting(module.task, module.config, Chunks(), module.module, reading)


def policy_acting(policy: "Run | DeployedPolicy", goal: Any) -> "Acting":
    from kilolayer.language.score import Told
    from kilolayer.report.said import Acting

    told = np.asarray(goal, np.float32)[None]
    return Acting(policy.task, policy.config, Told(policy.agent), policy.agent_state, told)
