"""The devices of a run as one axis, `data`: worlds, buffer and batch are shared out along it.

Parameters are whole on every device. The programs are written for the whole arrays; XLA splits
them. Random numbers do not depend on how many devices draw them, so neither does the run.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kilolayer.types import bad_field

DATA = "data"


def make_mesh(devices: int | None = None) -> Mesh:
    """The first `devices` devices, the same number of every process; by default all there are.

    Raises UserError if there are not so many or the processes cannot share them equally.
    """
    available, processes = jax.devices(), jax.process_count()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        nearest = min(max(count, processes), len(available))
        raise bad_field("devices", count, f"this program sees {len(available)}", nearest)
    if count % processes:
        allowed = f"each of the {processes} processes must bring equally many"
        raise bad_field("devices", count, allowed, max(1, count // processes) * processes)
    chosen = [jax.local_devices(process)[: count // processes] for process in range(processes)]
    return Mesh(np.array(chosen).reshape(-1), (DATA,), axis_types=(AxisType.Auto,))


def whole(mesh: Mesh) -> NamedSharding:
    """Every device holds all of an array."""
    return NamedSharding(mesh, PartitionSpec())


def shared_out(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Every device holds its part of an array, cut along `axis`."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))


def place(tree: Any, shardings: Any) -> Any:
    """Put arrays that every process has in host memory onto the devices.

    shardings: a tree of them, or one for each whole branch of `tree`.
    """

    def put(array: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])

    return jax.tree.map(put, tree, jax.tree.broadcast(shardings, tree))


def fetch(tree: Any) -> Any:
    """Whole arrays in host memory, wherever their parts are; every process must call this.

    Parts held by other processes pass through this process's devices, one array at a time.
    """

    def get(array: jax.Array) -> np.ndarray:
        if not (array.is_fully_addressable or array.is_fully_replicated):
            assert isinstance(array.sharding, NamedSharding)
            array = jax.device_put(array, NamedSharding(array.sharding.mesh, PartitionSpec()))
        return np.asarray(array)

    return jax.tree.map(get, tree)
