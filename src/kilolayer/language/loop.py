"""A sentence in the control loop: the encoder at the rate of plans, who acts at that of control."""

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
    """What `drive_simulation` takes, and what was understood to begin with.

    plan_dim: None where the rows of a plan are goals.
    """

    plan: Callable[[Sensed], np.ndarray]
    act: Callable[[np.ndarray, np.ndarray], Any]
    plan_dim: int | None
    heard: Heard


def grounded_loop(
    grounding: Grounding, policy: Run | DeployedPolicy, sentence: str, features: Path, seed: int
) -> Spoken:
    """The policy, told the goal that the sentence is grounded to anew with every plan.

    features: directory of the features that were computed before, so that an encoder runs only for
    a picture or a sentence that is new. Raises UserError for a sentence that is none, and for a
    grounding of another task.
    """
    grounding.require_task(policy.task)
    ear, encoder = Ear(grounding, seed), Cached(grounding.encoder, features)

    def plan(sensed: Sensed) -> np.ndarray:
        picture = ear.scene.picture()
        return grounding.ground(contexts(encoder, [sentence], picture[None])).goal

    return Spoken(plan, policy.policy, None, ear.hear(sentence))
