"""Encodes an instruction once for an action module, with the head of a grounding."""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp

from kilolayer.language.base import Context
from kilolayer.language.fusion import ContextScale
from kilolayer.language.goal_head import GoalHead, GoalScale, HeadSpec
from kilolayer.language.grounding import Grounding
from kilolayer.types import Array


class InstructionEncoder(eqx.Module):
    """`context -> instruction embedding [rows, embedding]`: the head's certainty features, and the
    mean of its most likely Gaussian in standard deviations of goals.

    It is trained with the grounding and frozen while a module is trained. Actions alone carry
    little information about the goal, so an encoder trained with them could settle for what all
    goals share.
    """

    head: GoalHead
    features: ContextScale
    scale: GoalScale
    spec: HeadSpec = eqx.field(static=True)

    @staticmethod
    def of(grounding: Grounding) -> "InstructionEncoder":
        arrays = grounding.arrays
        head = replace(arrays.head, point=None)
        return InstructionEncoder(head, arrays.features, arrays.scale, grounding.spec)

    @property
    def embedding_dim(self) -> int:
        return self.spec.size.width + len(self.spec.varying)

    def __call__(self, context: Context) -> Array:
        mixture, features = self.head.predict(self.features(context), self.scale)
        best = mixture.log_weight.argmax(-1)[:, None, None]
        mean = jnp.take_along_axis(mixture.mean, best, axis=1)[:, 0]
        goal = (mean - self.scale.select_varying(self.scale.centre)) / self.scale.spread
        return jnp.concatenate([features, goal], -1)

    def attention(self, context: Context) -> Array:
        """Attention of the sentence over the picture's patches, `[rows, heads, patches]`."""
        return self.head.fusion.attend(self.features(context))[1]
