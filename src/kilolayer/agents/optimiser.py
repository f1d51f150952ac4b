"""Adam for the named parts of an agent's parameters, each with a learning rate of its own."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import optax

Parameters = TypeVar("Parameters")
Tree = TypeVar("Tree")


def init_moments(rates: Mapping[str, float], parameters: Any) -> dict[str, Any]:
    """Adam's state for each part of the parameters, a dataclass, by the part's name."""
    return {name: optax.adam(rate).init(getattr(parameters, name)) for name, rate in rates.items()}


def adam_step(
    rates: Mapping[str, float],
    parameters: Parameters,
    gradients: Mapping[str, Any],
    moments: Mapping[str, Any],
) -> tuple[Parameters, dict[str, Any]]:
    """One step of the parts that have a gradient: `(parameters, moments)`."""
    parts, after = {}, dict(moments)
    for name, gradient in gradients.items():
        part = getattr(parameters, name)
        change, after[name] = optax.adam(rates[name]).update(gradient, moments[name], part)
        parts[name] = optax.apply_updates(part, change)
    return dataclasses.replace(parameters, **parts), after  # type: ignore[type-var]


def follow(target: Tree, parameters: Tree, rate: float) -> Tree:
    """Polyak averaging: target networks move a share `rate` of the way to the parameters."""
    return jax.tree.map(lambda slow, fast: slow + rate * (fast - slow), target, parameters)
