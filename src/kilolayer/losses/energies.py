"""Energies: how likely the goal lies in the future of a state-action pair.

`pairwise` compares every row with every row through one float32 matrix product, never through a
`[batch, batch, dim]` array; `rowwise` compares row i with row i.
"""

import warnings
from typing import Any, Literal, get_args

import jax.numpy as jnp

from kilolayer.types import Array

Energy = Literal["euclidean", "squared_euclidean", "dot", "cosine"]
# Former names. JaxGCRL uses the same names for other energies.
RENAMED = {"l2": "euclidean", "squared_l2": "squared_euclidean"}

# Lower bound inside the square root, so that the gradient at distance zero is zero and not
# infinite.
SQRT_FLOOR = 1e-12


def present_name(energy: Any) -> Any:
    """The name of an energy, with a warning for a former one."""
    present = RENAMED.get(str(energy), energy)
    if present is not energy:
        warnings.warn(f"energy {energy} is called {present} now", FutureWarning, stacklevel=2)
    return present


def _safe_sqrt(squared: Array) -> Array:
    return jnp.sqrt(jnp.maximum(squared, SQRT_FLOOR))


def _unit_rows(x: Array) -> Array:
    return x / _safe_sqrt(jnp.square(x).sum(-1, keepdims=True))


def _products(phi: Array, psi: Array) -> Array:
    # At lower precision accelerators round the factors, and distances subtract large numbers.
    return jnp.matmul(phi, psi.T, precision="highest")


def _check(energy: str) -> None:
    """Raises ValueError for an unknown energy, which would otherwise count as a distance."""
    if energy not in get_args(Energy):
        raise ValueError(f"{energy!r} is no energy: {', '.join(get_args(Energy))}")


def pairwise(energy: Energy, phi: Array, psi: Array) -> Array:
    """Energies `f[i, j] = f(phi_i, psi_j)`: `([rows, dim], [columns, dim]) -> [rows, columns]`."""
    _check(energy)
    phi, psi = phi.astype(jnp.float32), psi.astype(jnp.float32)
    if energy == "dot":
        return _products(phi, psi)
    if energy == "cosine":
        return _products(_unit_rows(phi), _unit_rows(psi))
    squares = jnp.square(phi).sum(-1)[:, None] + jnp.square(psi).sum(-1)[None]
    squared = jnp.maximum(squares - 2 * _products(phi, psi), 0.0)
    return -squared if energy == "squared_euclidean" else -_safe_sqrt(squared)


def rowwise(energy: Energy, phi: Array, psi: Array) -> Array:
    """Energies `f(phi_i, psi_i)`: `([..., dim], [..., dim]) -> [...]`."""
    _check(energy)
    phi, psi = phi.astype(jnp.float32), psi.astype(jnp.float32)
    if energy == "dot":
        return (phi * psi).sum(-1)
    if energy == "cosine":
        return (_unit_rows(phi) * _unit_rows(psi)).sum(-1)
    squared = jnp.square(phi - psi).sum(-1)
    return -squared if energy == "squared_euclidean" else -_safe_sqrt(squared)
