"""An instruction in the control loop: the encoder runs once per plan, the policy at every step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.deploy.interpreter import Interpretation
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.language.base import Encoder
from kilolayer.language.contexts import encode_context
from kilolayer.language.encoders.cache import CachedEncoder
from kilolayer.language.evaluate_module import control_step
from kilolayer.language.grounding import Grounding
from kilolayer.language.interpret import SceneInterpreter
from kilolayer.language.train_module import TrainedModule
from kilolayer_robot.robot import Sensed


class InstructionController(NamedTuple):
    """Arguments of `drive_simulation`, and the first interpretation of the sentence.

    plan_dim: None if the rows of a plan are goals.
    """

    plan: Callable[[Sensed], np.ndarray]
    act: Callable[[np.ndarray, np.ndarray], Any]
    plan_dim: int | None
    interpretation: Interpretation


def grounding_controller(
    grounding: Grounding, policy: Run | DeployedPolicy, sentence: str, features: Path, seed: int
) -> InstructionController:
    """Control by a policy whose goal is grounded again from the sentence for every plan.

    grounding: of the policy's task. features: directory that caches features, so that the encoder
    runs only for a new picture or sentence. Raises UserError for an invalid sentence.
    """
    interpreter = SceneInterpreter(grounding, seed)
    encoder = CachedEncoder(grounding.encoder, features)

    def plan(sensed: Sensed) -> np.ndarray:
        picture = interpreter.scene.picture()
        return grounding.predict(encode_context(encoder, [sentence], picture[None])).goal

    return InstructionController(plan, policy.policy, None, interpreter.interpret(sentence))


def module_controller(
    module: TrainedModule,
    encoder: Encoder,
    grounding: Grounding,
    sentence: str,
    features: Path,
    seed: int,
) -> InstructionController:
    """Control by an action module. A plan is the embedding of the picture and the sentence.

    encoder: the module's. The grounding, of the same task, reports the meaning of the sentence and
    gives the goal that counts as reached. The module acts without both. Raises UserError as
    `grounding_controller` does.
    """
    interpreter, cached = SceneInterpreter(grounding, seed), CachedEncoder(encoder, features)

    def plan(sensed: Sensed) -> np.ndarray:
        picture = interpreter.scene.picture()
        return np.asarray(module.embed(encode_context(cached, [sentence], picture[None])))

    act, plan_dim = control_step(module.module), module.spec.embedding_dim
    return InstructionController(plan, act, plan_dim, interpreter.interpret(sentence))
