"""What an action module is told: an instruction, read once by the head of a grounding."""

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.language.base import Context
from kilolayer.language.fusion import ContextScale
from kilolayer.language.goal_head import GoalHead, GoalScale, HeadSize
from kilolayer.language.grounding import Grounding
from kilolayer.types import Array


class Reader(eqx.Module):
    """`context -> reading [rows, reading]`: what the head is as sure by, and the mean of its
    likeliest Gaussian in standard deviations of goals.

    It is trained with the grounding and stays as it is while a module is taught: that a module
    settles for what all goals share, for actions alone tell little of where a sentence leads, is
    thereby ruled out.
    """

    head: GoalHead
    features: ContextScale
    scale: GoalScale

    @staticmethod
    def of(grounding: Grounding) -> "Reader":
        arrays = grounding.arrays
        return Reader(replace(arrays.head, point=None), arrays.features, arrays.scale)

    def __call__(self, context: Context) -> Array:
        context = self.features(jax.tree.map(jnp.asarray, context))
        mixture, features = self.head.read(context, self.scale)
        best = mixture.log_weight.argmax(-1)[:, None, None]
        mean = jnp.take_along_axis(mixture.mean, best, axis=1)[:, 0]
        place = (mean - self.scale.part(self.scale.centre)) / self.scale.spread
        return jnp.concatenate([features, place], -1)

    def attention(self, context: Context) -> Array:
        """Which patches of the picture the sentence looks at, `[rows, heads, patches]`."""
        context = self.features(jax.tree.map(jnp.asarray, context))
        return self.head.fusion.attend(context)[1]

    @property
    def spec(self) -> "ReaderSpec":
        text, (patches, patch_dim) = self.features.text.shape[0], self.features.patches.shape
        head = self.head
        size = HeadSize(
            depth=head.stack.num_blocks * len(head.stack.blocks.layers),
            width=head.words.dense.bias.shape[0],
            components=head.components,
            heads=head.fusion.heads,
        )
        goal_dim = self.scale.centre.shape[0]
        return ReaderSpec(size, text, patches, patch_dim, goal_dim, self.scale.varying)


@dataclass(frozen=True)
class ReaderSpec:
    """What a reader's arrays are the parameters of."""

    size: HeadSize
    text_dim: int
    patches: int
    patch_dim: int
    goal_dim: int
    varying: tuple[int, ...]

    @property
    def reading(self) -> int:
        """Numbers of a reading."""
        return self.size.width + len(self.varying)

    def init(self, key: Array) -> Reader:
        """One that was never trained."""
        text, patches = jnp.ones(self.text_dim), jnp.zeros((self.patches, self.patch_dim))
        dim = len(self.varying)
        head = GoalHead.init(key, Context(text[None], patches[None]), self.size, dim, None)
        features = ContextScale(text, text, patches, jnp.ones(self.patch_dim))
        centre = jnp.zeros(self.goal_dim)
        return Reader(
            head, features, GoalScale(centre, jnp.ones(dim), jnp.float32(0), self.varying)
        )

    @staticmethod
    def from_json(values: dict) -> "ReaderSpec":
        size, varying = HeadSize(**values["size"]), tuple(values["varying"])
        return ReaderSpec(**{**values, "size": size, "varying": varying})
