"""Adam or AdamW for the named parts of an agent's parameters, and an architecture's constraints.

Also the running average of an actor's weights. Evaluations use it, and policies are saved with it.
With a constant learning rate, a policy keeps moving around a good one. The average over many
updates stays close to the good one (Polyak and Juditsky 1992, SIAM J. Control and Optimization 30,
838-855; with exponential weights, as here, arXiv 1806.04498).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import optax

from kilolayer.networks.block import NormedLayer, unit_columns

Parameters = TypeVar("Parameters")
Tree = TypeVar("Tree")
Optimisers = Mapping[str, optax.GradientTransformation]
"""The optimiser of each part of the parameters, a dataclass, by the part's name."""


def network_optimiser(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Adam (arXiv 1412.6980), with decoupled weight decay if it is not 0 (arXiv 1711.05101).

    learning_rate: a number, or a schedule over the number of updates. weight_decay: each step
    shrinks every parameter by the share `learning_rate * weight_decay`. The kernels of
    hyperspherical layers are projected back to columns of norm 1 after the step (2502.15280). All
    other parameters get the optimiser's step unchanged, bit for bit.
    """
    steps = [optax.scale_by_adam()]
    if weight_decay > 0:
        steps.append(optax.add_decayed_weights(weight_decay))
    steps.append(optax.scale_by_learning_rate(learning_rate))
    return optax.chain(*steps, optax.stateless(_keep_unit_columns))


def init_moments(optimisers: Optimisers, parameters: Any) -> dict[str, Any]:
    """The optimiser's state of each part, by the part's name."""
    return {name: each.init(getattr(parameters, name)) for name, each in optimisers.items()}


def apply_gradients(
    optimisers: Optimisers,
    parameters: Parameters,
    gradients: Mapping[str, Any],
    moments: Mapping[str, Any],
) -> tuple[Parameters, dict[str, Any]]:
    """One step of the parts that have a gradient: `(parameters, moments)`."""
    parts, new_moments = {}, dict(moments)
    for name, gradient in gradients.items():
        part = getattr(parameters, name)
        change, new_moments[name] = optimisers[name].update(gradient, moments[name], part)
        parts[name] = optax.apply_updates(part, change)
    return dataclasses.replace(parameters, **parts), new_moments  # type: ignore[type-var]


def polyak_update(target: Tree, parameters: Tree, rate: float) -> Tree:
    """The target moved a share `rate` of the way to the parameters."""
    moved: Any = optax.incremental_update(cast(Any, parameters), cast(Any, target), rate)
    return moved


class AveragedAgent(eqx.Module):
    """An agent state and the average of its actor, None without an average."""

    agent: Any
    average: Any

    @property
    def evaluated(self) -> Any:
        """The agent state that is evaluated: with the average in the actor's place."""
        if self.average is None:
            return self.agent
        return eqx.tree_at(lambda state: state.parameters.actor, self.agent, self.average)

    @property
    def stored(self) -> Any:
        """The agent state as a checkpoint stores it."""
        return self.agent if self.average is None else self


def _keep_unit_columns(updates: Any, parameters: Any) -> Any:
    """The updates, changed so that the columns of hyperspherical kernels keep norm 1."""

    def project(update: Any, layer: Any) -> Any:
        if not _is_layer(layer) or layer.norm != "hyperspherical":
            return update
        kernel = layer.dense.kernel
        change = unit_columns(kernel + update.dense.kernel) - kernel
        return eqx.tree_at(lambda update: update.dense.kernel, update, change)

    return jax.tree.map(project, updates, parameters, is_leaf=_is_layer)


def _is_layer(node: Any) -> bool:
    return isinstance(node, NormedLayer)
