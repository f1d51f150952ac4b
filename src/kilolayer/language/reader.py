"""The reader: encodes an instruction once for an action module, with the head of a grounding."""

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
    """`context -> reading [rows, reading]`: the head's certainty features, and the mean of its most
    likely Gaussian in standard deviations of goals.

    The reader is trained with the grounding and frozen while a module is trained. Actions alone
    carry little information about the goal, so a reader trained with them could settle for what all
    goals share.
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
        """Attention of the sentence over the picture's patches, `[rows, heads, patches]`."""
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
    """The sizes of a reader."""

    size: HeadSize
    text_dim: int
    patches: int
    patch_dim: int
    goal_dim: int
    varying: tuple[int, ...]

    @property
    def reading(self) -> int:
        """Size of a reading."""
        return self.size.width + len(self.varying)

    def init(self, key: Array) -> Reader:
        """An untrained reader."""
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
