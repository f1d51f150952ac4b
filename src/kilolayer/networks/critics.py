"""Critics of temporal-difference learning, with the same deep torso as the encoders."""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.types import Array

CRITICS = 2


class TwinCritic(eqx.Module):
    """Two Q networks of (observation, action, goal) that run as one batched stack.

    The smaller of their values limits the overestimation of each (arXiv 1802.09477, section 4.2).
    """

    encoders: Encoder  # every leaf has a leading axis of two

    @staticmethod
    def init(key: Array, input_dim: int, torso: TorsoSpec) -> "TwinCritic":
        """input_dim: total size of observation, action and goal."""

        def init_one(key: Array) -> Encoder:
            return Encoder.init(key, input_dim, 1, torso)

        return TwinCritic(jax.vmap(init_one)(jax.random.split(key, CRITICS)))

    def __call__(self, observation: Array, action: Array, goal: Array) -> Array:
        """Values `[2, ...]` of rows `[..., dim]`."""
        inputs = jnp.concatenate([observation, action, goal], -1)
        return jax.vmap(lambda encoder: encoder(inputs)[..., 0])(self.encoders)

    def first(self, observation: Array, action: Array, goal: Array) -> Array:
        """Values `[...]` of the first network; the second does not run."""
        inputs = jnp.concatenate([observation, action, goal], -1)
        return self.split()[0](inputs)[..., 0]

    def split(self) -> list[Encoder]:
        """The two networks as separate encoders."""
        return [
            jax.tree.map(lambda leaf, index=index: leaf[index], self.encoders)
            for index in range(CRITICS)
        ]
