"""The optimiser of a network: Adam, or AdamW, and the constraints that an architecture asks for."""

from typing import Any

import equinox as eqx
import jax
import optax

from kilolayer.networks.block import NormedLayer, unit_columns


def network_optimiser(
    learning_rate: float, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Adam (arXiv 1412.6980), with decoupled weight decay if there is any (1711.05101).

    weight_decay: a step shrinks every parameter by `learning_rate * weight_decay` of itself. The
    kernels of hyperspherical layers are projected back to columns of norm 1 after the step
    (2502.15280); the others move as the optimiser says, bit for bit.
    """
    steps = [optax.scale_by_adam()]
    if weight_decay > 0:
        steps.append(optax.add_decayed_weights(weight_decay))
    steps.append(optax.scale_by_learning_rate(learning_rate))
    return optax.chain(*steps, optax.stateless(_keep_unit_columns))


def _keep_unit_columns(updates: Any, parameters: Any) -> Any:
    """The updates after which the columns of hyperspherical kernels have the norm 1."""

    def project(update: Any, layer: Any) -> Any:
        if not _is_layer(layer) or layer.norm != "hyperspherical":
            return update
        kernel = layer.dense.kernel
        change = unit_columns(kernel + update.dense.kernel) - kernel
        return eqx.tree_at(lambda update: update.dense.kernel, update, change)

    return jax.tree.map(project, updates, parameters, is_leaf=_is_layer)


def _is_layer(node: Any) -> bool:
    return isinstance(node, NormedLayer)
