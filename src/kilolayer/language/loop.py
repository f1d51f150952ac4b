"""An instruction in the control loop: the encoder runs once per plan, the policy at every step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.deploy.listener import Heard
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.language.contexts import contexts
from kilolayer.language.encoders.cache import Cached
from kilolayer.language.grounding import Grounding
from kilolayer.language.say import Ear
from kilolayer_robot.robot import Sensed


class Spoken(NamedTuple):
    """Arguments of `drive_simulation`, and the first interpretation of the sentence.

    plan_dim: None if the rows of a plan are goals.
    """

    plan: Callable[[Sensed], np.ndarray]
    act: Callable[[np.ndarray, np.ndarray], Any]
    plan_dim: int | None
    heard: Heard


def grounded_loop(
    grounding: Grounding, policy: Run | DeployedPolicy, sentence: str, features: Path, seed: int
) -> Spoken:
    """Control by a policy whose goal is grounded again from the sentence for every plan.

    features: directory that caches features, so that the encoder runs only for a new picture or
    sentence. Raises UserError for an invalid sentence and for a grounding of another task.
    """
    grounding.require_task(policy.task)
    ear, encoder = Ear(grounding, seed), Cached(grounding.encoder, features)

    def plan(sensed: Sensed) -> np.ndarray:
        picture = ear.scene.picture()
        return grounding.ground(contexts(encoder, [sentence], picture[None])).goal

    return Spoken(plan, policy.policy, None, ear.hear(sentence))
