"""The settings of the networks: depth, width and architecture."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from kilolayer.errors import bad_field
from kilolayer.networks.block import PUBLISHED, Architecture, Rematerialisation, TorsoSpec
from kilolayer.settings import Count, Settings

# Up to this number of blocks, branches are added unscaled. In a deeper stack they are scaled so
# that they add up to as much as this number of blocks would. Measurements up to depth 4096:
# results/depth_stability.
UNSCALED_BLOCKS = 2
# Bytes that the activations of an update may take before some are recomputed, by platform.
ACTIVATION_BYTES = {"cpu": 2e9, "gpu": 8e9}
# Arrays `[batch, width]` that an update keeps per layer: the result of its matrix product, a
# quarter of the residual stream, and a part that does not grow with depth.
# tests/networks/test_stack.py measures it.
ARRAYS_PER_LAYER = 1.5
# Lean gradients keep 1.25 per layer, but for twice as many networks at once.
LEAN_ARRAYS_PER_LAYER = 2.5
# Platforms where lean gradients are faster: results/gpu/lean.md has the times.
LEAN_PLATFORMS = ("gpu",)
# Residual blocks per iteration of the scan over depth on a GPU, for gradients by autodiff without
# rematerialisation: up to 1.5 times as fast there (results/gpu). On a CPU more than 1 hardly pays
# (results/gpu/lean.md), and the other forms were not timed.
GPU_SCAN_UNROLL = 4


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Settings):
    """Depth, width and architecture of the residual blocks, for all networks of an agent."""

    depth: int = 4
    """Dense layers inside the residual blocks of every network. The input and the output layer do
    not count. Raise it to test whether depth helps; the time of an update grows with it."""
    actor_depth: int | None = None
    """Depth of the actor only. Default: `depth`. Set it to test where depth helps."""
    critic_depth: int | None = None
    """Depth of the critic's networks only. Default: `depth`. Set it to test where depth helps."""
    width: Count = 256
    """Units per layer. Raise it for harder tasks; a layer's parameters grow with the square."""
    layers_per_block: Count = 4
    """Dense layers per residual block. Every depth must be a multiple of it. Change it to compare
    architectures."""
    residual: Literal["add", "interpolate", "none"] = "add"
    """How a block's output joins the residual stream: `add`, `interpolate` with learnt weights, or
    `none` to replace it. Change it to compare architectures."""
    norm: Literal["layer", "rms", "none", "hyperspherical"] = "layer"
    """Normalisation of the layers. `hyperspherical` also keeps every kernel column at norm 1.
    Change it to compare architectures."""
    norm_position: Literal["post", "pre"] = "post"
    """`post` normalises after every matrix product, `pre` once before each block and before the
    output layer. Change it to compare architectures."""
    activation: Literal["swish", "relu", "gelu"] = "swish"
    """Activation function of every layer in a block. Change it to compare architectures."""
    branch_activation: bool = True
    """Apply the activation after the last layer of a block too. Change it to compare
    architectures."""
    expansion: Count = 1
    """Hidden width inside a block divided by the residual width. 4 gives about four times the
    parameters. Change it to compare architectures."""
    branch_scale: Literal["inverse", "none"] = "inverse"
    """Factor on each of N residual branches. `inverse`: min(1, 2/N), stable at any depth. `none`:
    1, as published. Set `none` to reproduce the published networks."""
    rematerialisation: Literal["auto", "none", "block", "nested"] = "auto"
    """Activation checkpointing: none, per block, or nested. `auto` takes the first that fits in
    memory. Set it if `auto` runs out of memory."""
    scan_unroll: Count | None = None
    """Residual blocks per iteration of the scan over depth. Default: up to 4 on a GPU for
    gradients by autodiff without rematerialisation, else 1. Set it to compare: compilation takes
    longer with more, and updates can be faster."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format inside the blocks. Parameters, residual stream and losses stay float32. Set
    `bfloat16` to save memory on a GPU."""

    def check(self) -> None:
        for field in ("depth", "actor_depth", "critic_depth"):
            if (depth := getattr(self, field)) is not None:
                self.check_depth(field, depth)
        if self.expansion > 1 and self.layers_per_block == 1:
            allowed = "a block of one layer has no layers inside that could be wider"
            raise bad_field("expansion", self.expansion, allowed, 1)
        if self.norm == "hyperspherical" and self.norm_position == "pre":
            allowed = "hyperspherical features are normalised after every product: it must be post"
            raise bad_field("norm_position", self.norm_position, allowed)

    def check_depth(self, field: str, depth: int) -> None:
        """Raises UserError for a depth that is not a positive multiple of `layers_per_block`."""
        unit = self.layers_per_block
        if depth < unit or depth % unit:
            nearest = max(unit, round(depth / unit) * unit)
            allowed = f"a multiple of layers_per_block = {unit}, at least {unit}"
            raise bad_field(field, depth, allowed, nearest)

    @property
    def architecture(self) -> Architecture:
        """How the layers are put together, at any depth and width."""
        fields = dataclasses.fields(Architecture)
        return Architecture(**{field.name: getattr(self, field.name) for field in fields})

    @property
    def depth_of_actor(self) -> int:
        return self.depth if self.actor_depth is None else self.actor_depth

    @property
    def depth_of_critic(self) -> int:
        return self.depth if self.critic_depth is None else self.critic_depth

    def branch_scale_at(self, depth: int) -> float:
        """Factor on every residual branch of a network of this depth. Where blocks interpolate, it
        is the initial value of the learnt weights."""
        if self.residual == "interpolate":
            # The initial stream and every block then contribute equally (arXiv 2502.15280).
            return 1 / (depth // self.layers_per_block + 1)
        if self.residual == "none" or self.branch_scale == "none":
            return 1.0
        return min(1.0, UNSCALED_BLOCKS * self.layers_per_block / depth)

    def rematerialisation_at(self, depth: int, batch_size: int, platform: str) -> Rematerialisation:
        """The first rematerialisation that fits. depth: summed over a gradient's networks."""
        if self.rematerialisation != "auto":
            return self.rematerialisation
        array = 4 * batch_size * self.width
        inner = (self.layers_per_block - 1) / self.layers_per_block
        wider = 1 + (self.expansion - 1) * inner
        budget = ACTIVATION_BYTES.get(platform, ACTIVATION_BYTES["cpu"])
        lean = self.lean_on(platform, "none")
        kept = LEAN_ARRAYS_PER_LAYER if lean else ARRAYS_PER_LAYER
        if kept * wider * depth * array <= budget:
            return "none"
        return "block" if depth / self.layers_per_block * array <= budget else "nested"

    def lean_on(self, platform: str, rematerialisation: Rematerialisation) -> bool:
        """Whether the stacks use the lean gradients of `kilolayer.networks.lean`."""
        allowed = self.architecture == PUBLISHED and rematerialisation == "none"
        return allowed and platform in LEAN_PLATFORMS

    def scan_unroll_at(
        self, depth: int, rematerialisation: Rematerialisation, platform: str
    ) -> int:
        """Residual blocks per iteration of the scan over a stack of this depth."""
        if self.scan_unroll is not None:
            return self.scan_unroll
        if platform != "gpu" or rematerialisation != "none" or self.lean_on(platform, "none"):
            return 1
        return min(GPU_SCAN_UNROLL, depth // self.layers_per_block)

    def torso(
        self, depth: int, rematerialisation: Rematerialisation, platform: str = "cpu"
    ) -> TorsoSpec:
        """The deep part of a network of this depth.

        Raises UserError for a depth that is not made of whole blocks.
        """
        self.check_depth("depth", depth)
        return TorsoSpec(
            depth=depth,
            width=self.width,
            layers_per_block=self.layers_per_block,
            rematerialisation=rematerialisation,
            scan_unroll=self.scan_unroll_at(depth, rematerialisation, platform),
            compute_dtype=self.compute_dtype,
            branch_scale=self.branch_scale_at(depth),
            architecture=self.architecture,
            lean=self.lean_on(platform, rematerialisation),
        )
