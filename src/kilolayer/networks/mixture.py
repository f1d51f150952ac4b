"""Mixtures of residual experts: each row of a batch passes through a few of many stacks.

A layer is `x + sum_k gate_k * expert_k(x)`. expert_k(x) is what the `Stack` of expert k adds to the
stream. The sum is over the few experts that a router rates highest for x. The arrays of the experts
have a leading expert axis, those of the layers a leading layer axis, and no axis is looped over.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from annotated_types import Interval

from kilolayer.errors import bad_field
from kilolayer.networks import routing
from kilolayer.networks.block import Dense, TorsoSpec
from kilolayer.networks.routing import Blocks, Choice
from kilolayer.networks.stack import Stack
from kilolayer.settings import MAX_INT32, Count, Positive, Settings
from kilolayer.types import Array


@dataclass(frozen=True)
class MixtureSpec(Settings):
    """Shape of a mixture.

    depth: Dense layers of an expert. layers: mixture layers, one after the other. capacity_factor:
    in training each expert takes at most `capacity_factor * rows * top_k / experts` rows, which
    makes a gradient two to four times as fast as without (`docs/action_module.md`); None: no limit.
    """

    width: Count
    depth: int = 4
    layers: Count = 2
    experts: Annotated[int, Interval(ge=2, le=MAX_INT32)] = 8
    top_k: int = 2
    capacity_factor: Positive | None = 1.25
    layers_per_block: Count = 4

    def check(self) -> None:
        if self.depth < 1 or self.depth % self.layers_per_block:
            nearest = max(1, round(self.depth / self.layers_per_block)) * self.layers_per_block
            allowed = f"it must be a multiple of layers_per_block = {self.layers_per_block}"
            raise bad_field("depth", self.depth, allowed, nearest)
        if not 2 <= self.top_k <= self.experts:
            allowed = (
                f"it must lie in 2 to experts = {self.experts}; a single gate is always 1, so its "
                "router learns nothing"
            )
            raise bad_field("top_k", self.top_k, allowed, min(max(2, self.top_k), self.experts))

    def dense(self, key: Array, depth: int, branch_scale: float = 1.0) -> Stack:
        """One stack of this depth, built like the experts. branch_scale: of every block."""
        torso = TorsoSpec(depth, self.width, self.layers_per_block, branch_scale=branch_scale)
        return Stack.init(key, torso)

    @property
    def depth_per_row(self) -> int:
        """Dense layers that a row passes through in all layers of the mixture."""
        return self.depth * self.layers

    @property
    def depth_of_equal_parameters(self) -> int:
        """Depth of one stack with as many parameters as all experts, without the routers."""
        return self.depth_per_row * self.experts

    @property
    def depth_of_equal_operations(self) -> int:
        """Depth of one stack with as many operations per row as the experts that the row uses."""
        return self.depth_per_row * self.top_k


class RoutingStatistics(eqx.Module):
    """Statistics of the routers. From a `Mixture` each has a leading layer axis.

    use `[rows, experts]`: each row's gates. load `[experts]`: share of the placed choices. entropy:
    of the router's distribution, mean over the rows, in nats. balance, z: the losses of
    `kilolayer.networks.routing`. rerouted, dropped: share of the choices that went to another
    expert than the preferred one, and to no expert.
    """

    use: Array
    load: Array
    entropy: Array
    balance: Array
    z: Array
    rerouted: Array
    dropped: Array


class MixtureLayer(eqx.Module):
    """`x + sum_k gate_k * expert_k(x)`, `[rows, width] -> same`; see `MixtureSpec`."""

    router: Dense
    experts: Stack  # every leaf has a leading expert axis
    top_k: int = eqx.field(static=True)
    capacity_factor: float | None = eqx.field(static=True)

    @staticmethod
    def init(key: Array, spec: MixtureSpec, branch_scale: float = 1.0) -> "MixtureLayer":
        router_key, key = jax.random.split(key)

        def expert(key: Array) -> Stack:
            return spec.dense(key, spec.depth, branch_scale)

        experts = jax.vmap(expert)(jax.random.split(key, spec.experts))
        router = Dense.init(router_key, spec.width, spec.experts)
        return MixtureLayer(router, experts, spec.top_k, spec.capacity_factor)

    def __call__(self, x: Array, training: bool = False) -> tuple[Array, RoutingStatistics]:
        """training: whether the capacity limit applies. Without the limit, rows are independent."""
        logits = self.router(x.astype(jnp.float32))
        choice, blocks = self._route(logits, training)
        outputs = self._expert_outputs(x, blocks)
        gate = choice.gate[..., None].astype(x.dtype)
        return x + jnp.sum(gate * outputs, axis=1), self._statistics(logits, choice)

    def _route(self, logits: Array, training: bool) -> tuple[Choice, Blocks]:
        rows, experts = logits.shape
        if training and self.capacity_factor is not None:
            capacity = math.ceil(self.capacity_factor * rows * self.top_k / experts)
            choice = routing.choose_within(logits, self.top_k, capacity)
            return choice, routing.buffers(choice, experts, capacity)
        choice = routing.choose(logits, self.top_k)
        return choice, routing.groups(choice, experts, block_size(rows * self.top_k, experts))

    def _expert_outputs(self, x: Array, blocks: Blocks) -> Array:
        """The experts' branch outputs for the rows that chose them, `[rows, k, width]`."""
        rows, k = blocks.slot.shape
        # The content of an unused slot is never read.
        row = jnp.broadcast_to(jnp.arange(rows)[:, None], (rows, k))
        source = jnp.zeros(blocks.number * blocks.size, jnp.int32)
        source = source.at[blocks.slot].set(row, mode="drop")
        inputs = x[source].reshape(blocks.number, blocks.size, x.shape[-1])
        experts = self.experts
        if blocks.expert is not None:
            experts = jax.tree.map(lambda leaf: leaf[blocks.expert], experts)
        outputs = jax.vmap(lambda expert, x: expert(x) - x)(experts, inputs)
        return outputs.reshape(-1, x.shape[-1]).at[blocks.slot].get(mode="fill", fill_value=0)

    def _statistics(self, logits: Array, choice: Choice) -> RoutingStatistics:
        experts = logits.shape[-1]
        hot = jax.nn.one_hot(choice.expert, experts)
        placed = choice.placed[..., None] * hot
        probability = jax.nn.softmax(logits, -1)
        entropy = jax.nn.logsumexp(logits, -1) - jnp.sum(probability * logits, -1)
        return RoutingStatistics(
            use=jnp.sum(choice.gate[..., None] * hot, axis=1),
            load=placed.sum((0, 1)) / jnp.maximum(placed.sum(), 1),
            entropy=entropy.mean(),
            balance=routing.balance_loss(logits, self.top_k),
            z=routing.z_loss(logits),
            rerouted=choice.rerouted.mean(),
            dropped=1 - choice.placed.mean(),
        )


class Mixture(eqx.Module):
    """Mixture layers one after the other, `[rows, width] -> same`."""

    layers: MixtureLayer  # every leaf has a leading layer axis

    @staticmethod
    def init(key: Array, spec: MixtureSpec, branch_scale: float = 1.0) -> "Mixture":
        """branch_scale: of every block of every expert."""
        keys = jax.random.split(key, spec.layers)
        return Mixture(jax.vmap(lambda key: MixtureLayer.init(key, spec, branch_scale))(keys))

    def __call__(self, x: Array, training: bool = False) -> tuple[Array, RoutingStatistics]:
        def apply(x: Array, layer: MixtureLayer) -> tuple[Array, RoutingStatistics]:
            return layer(x, training)

        return jax.lax.scan(apply, x, self.layers)


def block_size(choices: int, experts: int) -> int:
    """Slots of a block: few enough that one half-empty block per expert costs little.

    With only a few choices it is 1, so that exactly the chosen experts are computed.
    """
    return max(1, choices // (2 * experts))
