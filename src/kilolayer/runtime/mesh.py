"""The device mesh of a run: environments, buffer and batch are sharded along its axis `data`.

The width of the networks is sharded along the axis `model`, usually of length 1; otherwise
parameters are replicated. Programs are written for whole arrays, and XLA partitions them. Random
numbers, and therefore runs, do not depend on the number of devices.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kilolayer.errors import bad_field
from kilolayer.runtime.devices import refuse_wrong_jax

DATA, MODEL = "data", "model"


def make_mesh(devices: int | None = None, model_devices: int = 1) -> Mesh:
    """A mesh of `devices` devices, equally many of every process; by default all devices.

    model_devices: number of devices that share the width of one copy of the networks. Raises
    UserError if there are fewer devices, if they cannot be divided equally, or if this JAX returns
    wrong sums.
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


def width_sharded(mesh: Mesh, tree: Any) -> Any:
    """Shardings of a tree of parameters or moments: matrices are sharded along their last axis.

    Vectors, and matrices that do not divide, are replicated.
    """

    def sharding(leaf: Any) -> NamedSharding:
        if leaf.ndim < 2 or leaf.shape[-1] % mesh.shape[MODEL]:
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), MODEL))

    return jax.tree.map(sharding, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def data_sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Every device holds its shard of the array along `axis`."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))


def put_on_devices(tree: Any, shardings: Any) -> Any:
    """Put arrays that every process has in host memory onto the devices.

    shardings: a tree of shardings, or one sharding for each branch of `tree`.
    """

    def put(array: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])

    return jax.tree.map(put, tree, jax.tree.broadcast(shardings, tree))


def fetch_to_host(tree: Any) -> Any:
    """Gather whole arrays in host memory; every process must call this.

    Shards of other processes pass through this process's devices, one array at a time.
    """

    def get(array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        return process_allgather(array, tiled=True)

    return jax.tree.map(get, tree)
