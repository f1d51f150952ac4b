"""An action module in the control loop; `kilolayer.language.loop` does the same for a grounding."""

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
    """Control by an action module. A plan is the reading of the picture and the sentence.

    The grounding reports the meaning of the sentence and gives the goal that counts as reached. The
    module acts without both. Raises UserError as `grounded_loop` does.
    """
    grounding.require_task(module.task)
    module.require_encoder(encoder)
    ear, cached = Ear(grounding, seed), Cached(encoder, features)

    def plan(sensed: Sensed) -> np.ndarray:
        picture = ear.scene.picture()
        return np.asarray(module.read(contexts(cached, [sentence], picture[None])))

    width = module.spec.reading
    return Spoken(plan, control_step(module.module), width, ear.hear(sentence))
