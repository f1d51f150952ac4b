"""The devices of a run as a grid: environments, buffer and batch are shared out along its axis
`data`.

Along `model`, mostly of length 1, the width of the networks is shared out; but for that, parameters
are whole on every device. The programs are written for the whole arrays; XLA splits them. Random
numbers do not depend on how many devices draw them, so neither does the run.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kilolayer.runtime.devices import refuse_wrong_jax
from kilolayer.types import bad_field

DATA, MODEL = "data", "model"


def make_mesh(devices: int | None = None, model_devices: int = 1) -> Mesh:
    """The first `devices` devices, the same number of every process; by default all there are.

    model_devices: how many share the width of one copy of the networks. Raises UserError if there
    are not so many devices, they cannot be shared out equally, or this JAX returns wrong sums.
    """
    refuse_wrong_jax()
    available, processes = jax.devices(), jax.process_count()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        nearest = min(max(count, processes), len(available))
        raise bad_field("devices", count, f"this program sees {len(available)}", nearest)
    if count % processes:
        allowed = f"each of the {processes} processes must bring equally many"
        raise bad_field("devices", count, allowed, max(1, count // processes) * processes)
    if model_devices < 1 or count // processes % model_devices:
        allowed = f"it must divide the {count // processes} devices of a process"
        raise bad_field("model_devices", model_devices, allowed, 1)
    chosen = [jax.local_devices(process)[: count // processes] for process in range(processes)]
    grid = np.array(chosen).reshape(-1, model_devices)
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def data_parts(mesh: Mesh) -> int:
    """Into how many parts environments and batch are cut."""
    return mesh.shape[DATA]


def by_width(mesh: Mesh, tree: Any) -> Any:
    """How a tree of parameters, or of an optimiser, lies: matrices cut along their last axis.

    Returns a tree of shardings; arrays that do not divide, and vectors, are whole.
    """

    def lay(leaf: Any) -> NamedSharding:
        if leaf.ndim < 2 or leaf.shape[-1] % mesh.shape[MODEL]:
            return whole(mesh)
        return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), MODEL))

    return jax.tree.map(lay, tree)


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
