"""Forms of the deep stack and optimisers that were compared for depths up to 4096.

A candidate is the agent with other branch scales, blocks or optimisers; `CANDIDATES` names them.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.crl import CRL, CRLState
from kilolayer.agents.optimiser import init_moments
from kilolayer.networks.block import Dense, ResidualBlock, layer_norm
from kilolayer.networks.encoders import Encoder
from kilolayer.settings import values_of
from kilolayer.types import Array


class GainBlock(ResidualBlock):
    """A branch times a learnt number that starts at 0 (SkipInit, arXiv 2002.10444)."""

    gain: Array | float = 0.0

    def branch(self, x: Array) -> tuple[Array, ...]:
        *inner, last = super().branch(x)
        return (*inner, self.gain * last)


class PreNormBlock(ResidualBlock):
    """Norm, Swish, Dense for every layer of the branch, instead of Dense, norm, Swish."""

    def branch(self, x: Array) -> tuple[Array, ...]:
        activations = []
        for layer in self.layers:
            x = layer.dense(jax.nn.swish(layer_norm(x, layer.scale, layer.offset)))
            activations.append(x)
        return tuple(activations)


class NormedOutputs(eqx.Module):
    """The final norm that a stack of pre-norm blocks needs, and the output layer."""

    dense: Dense

    def __call__(self, x: Array) -> Array:
        return self.dense(layer_norm(x, jnp.ones(()), jnp.zeros(())))


def with_gains(encoder: Encoder) -> Encoder:
    layers = encoder.stack.blocks.layers
    blocks = GainBlock(layers, gain=jnp.zeros(encoder.stack.num_blocks))
    return eqx.tree_at(lambda e: e.stack.blocks, encoder, blocks)


def with_pre_norm(encoder: Encoder) -> Encoder:
    blocks = PreNormBlock(encoder.stack.blocks.layers)
    return eqx.tree_at(
        lambda e: (e.stack.blocks, e.outputs), encoder, (blocks, NormedOutputs(encoder.outputs))
    )


Optimiser = Callable[[float, int], optax.GradientTransformation]


def adam(rate: float, blocks: int) -> optax.GradientTransformation:
    return optax.adam(rate)


def clipped(rate: float, blocks: int) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def warmed_up(rate: float, blocks: int) -> optax.GradientTransformation:
    return optax.adam(optax.linear_schedule(0.0, rate, 100))


def _of_blocks(
    inner: optax.GradientTransformation, outer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One optimiser for the parameters inside blocks and another for all others."""

    def label(parameters: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "inner" if ".blocks" in jax.tree_util.keystr(path) else "outer",
            parameters,
        )

    return optax.multi_transform({"inner": inner, "outer": outer}, label)


def rate_by_root(rate: float, blocks: int) -> optax.GradientTransformation:
    """Depth-muP's rate for Adam (arXiv 2310.02244)."""
    return _of_blocks(optax.adam(rate / math.sqrt(blocks)), optax.adam(rate))


def rate_by_depth(rate: float, blocks: int) -> optax.GradientTransformation:
    return _of_blocks(optax.adam(rate / blocks), optax.adam(rate))


def complete_p(rate: float, blocks: int) -> optax.GradientTransformation:
    """CompleteP's epsilon for Adam, beside branches scaled by 1/N (arXiv 2505.01618)."""
    return _of_blocks(optax.adam(rate, eps=1e-8 / blocks), optax.adam(rate))


def muon(rate: float, blocks: int) -> optax.GradientTransformation:
    def kernels(parameters: Any) -> Any:
        number = optax.contrib.MuonDimensionNumbers
        return jax.tree.map(lambda leaf: number(1, 2) if leaf.ndim == 3 else None, parameters)

    return optax.contrib.muon(
        20 * rate, muon_weight_dimension_numbers=kernels, adam_learning_rate=rate
    )


@dataclass(frozen=True)
class Candidate:
    """scale: of the branches, from the number of blocks."""

    scale: Callable[[int], float] = lambda blocks: 1.0
    form: Callable[[Encoder], Encoder] | None = None
    optimiser: Optimiser = adam


def root(blocks: int) -> float:
    return 1 / math.sqrt(blocks)


def inverse(blocks: int) -> float:
    return 1 / blocks


def capped(free: int) -> Callable[[int], float]:
    return lambda blocks: min(1.0, free / blocks)


CANDIDATES = {
    "published": Candidate(),
    "published, clipping": Candidate(optimiser=clipped),
    "published, warm-up": Candidate(optimiser=warmed_up),
    "published, rate/N": Candidate(optimiser=rate_by_depth),
    "published, Muon": Candidate(optimiser=muon),
    "1/sqrt(N)": Candidate(root),
    "1/sqrt(N), rate/sqrt(N)": Candidate(root, optimiser=rate_by_root),
    "1/N": Candidate(inverse),
    "1/N, epsilon/N": Candidate(inverse, optimiser=complete_p),
    "1/N, warm-up": Candidate(inverse, optimiser=warmed_up),
    "1/N, Muon": Candidate(inverse, optimiser=muon),
    "2/N": Candidate(capped(2)),
    "4/N": Candidate(capped(4)),
    "16/N": Candidate(capped(16)),
    "SkipInit": Candidate(form=with_gains),
    "pre-norm": Candidate(form=with_pre_norm),
    "pre-norm, 1/sqrt(N)": Candidate(root, form=with_pre_norm),
    "pre-norm, 1/N": Candidate(inverse, form=with_pre_norm),
}


@dataclass(frozen=True, kw_only=True)
class CandidateAgent(CRL):
    """Contrastive RL with a candidate's networks and optimisers."""

    candidate: str = "published"

    @staticmethod
    def of(agent: CRL, name: str) -> "CandidateAgent":
        torsos = {}
        for part in ("actor_torso", "critic_torso"):
            torso = getattr(agent.bound, part)
            scale = CANDIDATES[name].scale(torso.num_blocks)
            torsos[part] = dataclasses.replace(torso, branch_scale=scale)
        problem = dataclasses.replace(agent.bound, **torsos)
        return CandidateAgent(**values_of(agent), candidate=name).on(problem)

    def init(self, key: Array) -> CRLState:
        state, form = super().init(key), CANDIDATES[self.candidate].form
        if form is None:
            return state
        parameters = eqx.tree_at(
            lambda p: (p.actor.encoder, p.critic.state_action, p.critic.goal),
            state.parameters,
            replace_fn=form,
        )
        return CRLState(parameters, init_moments(self.optimisers, parameters))

    @property
    def optimisers(self) -> dict[str, optax.GradientTransformation]:
        make, blocks = CANDIDATES[self.candidate].optimiser, self.bound.critic_torso.num_blocks
        return {
            "actor": make(self.actor_learning_rate, blocks),
            "critic": make(self.critic_learning_rate, blocks),
            "log_temperature": optax.adam(self.temperature_learning_rate),
        }
