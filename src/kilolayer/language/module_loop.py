"""An action module in the control loop, as `kilolayer.language.loop` has a grounding."""

from pathlib import Path

import numpy as np

from kilolayer.language.base import Encoder
from kilolayer.language.contexts import contexts
from kilolayer.language.encoders.cache import Cached
from kilolayer.language.examine_module import control_step
from kilolayer.language.grounding import Grounding
from kilolayer.language.loop import Spoken
from kilolayer.language.say import Ear
from kilolayer.language.teach_run import TaughtModule
from kilolayer_robot.robot import Sensed


def module_loop(
    module: TaughtModule,
    encoder: Encoder,
    grounding: Grounding,
    sentence: str,
    features: Path,
    seed: int,
) -> Spoken:
    """The action module: a plan is the reading of the picture and the sentence.

    What the sentence was taken for is told by the grounding, as is whether the goal was reached;
    the module acts without either. Raises UserError as `grounded_loop` does.
    """
    grounding.require_task(module.task)
    module.require_encoder(encoder)
    ear, cached = Ear(grounding, seed), Cached(encoder, features)

    def plan(sensed: Sensed) -> np.ndarray:
        picture = ear.scene.picture()
        return np.asarray(module.read(contexts(cached, [sentence], picture[None])))

    width = module.spec.reading
    return Spoken(plan, control_step(module.module), width, ear.hear(sentence))
