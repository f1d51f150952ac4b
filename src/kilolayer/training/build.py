"""From a config to the pure functions that train."""

from typing import Any

import jax
from jax.sharding import Mesh

from kilolayer.config import RunConfig
from kilolayer.physics.base import Physics
from kilolayer.physics.build import World, build_physics
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.physics.sharded import ShardedPhysics
from kilolayer.plan import TrainPlan, build_agent
from kilolayer.runtime.devices import memory_here
from kilolayer.runtime.mesh import data_parts, make_mesh
from kilolayer.tasks.registry import task_of
from kilolayer.training.offline import dataset_of
from kilolayer.training.seeds import Seeds
from kilolayer.training.sizes import require_fitting
from kilolayer.training.step import Trainer
from kilolayer.types import bad_field


def build_trainer(
    config: RunConfig,
    mesh: Mesh | None = None,
    seeds: Seeds | None = None,
    room: int | None = None,
) -> Trainer:
    """Everything that the config describes, by default on one device and for one seed.

    room: bytes of memory that the run may take, by default those of the devices here. Raises
    UserError before anything compiles.
    """
    mesh = mesh or make_mesh(1)
    task = task_of(config.task)
    check_dtype(config, mesh.devices.flat[0])
    if seeds and seeds.many:
        _check_seeds(seeds, mesh, task.world)
    plan = TrainPlan.derive(config, task.episode_length, jax.default_backend(), data_parts(mesh))
    room = mesh.size * memory_here() if room is None else room
    require_fitting(config, task, room, len(seeds.values) if seeds else 1)
    dataset = dataset_of(config, task)
    if dataset is not None:
        plan = plan.with_dataset(dataset.steps, dataset.longest)
    physics = physics_on(mesh, task.world, config)
    return Trainer(config, plan, task, physics, build_agent(config, plan, task), mesh, dataset)


def physics_on(mesh: Mesh, world: World, config: RunConfig, num_envs: int | None = None) -> Physics:
    """The engine that the config names, for `num_envs` environments that the devices share; by
    default those that train."""
    each = (num_envs or config.collection.num_envs) // data_parts(mesh)
    share = build_physics(world, each, config.physics)
    if mesh.size == 1:
        return share
    if isinstance(world, GymnasiumWorld):
        raise bad_field("devices", mesh.size, "Gymnasium environments live in one process", 1)
    return ShardedPhysics(share, mesh)


def check_dtype(config: RunConfig, device: Any) -> None:
    """Raises UserError if the device would have to imitate the arithmetic that is asked for.

    NVIDIA computes in bfloat16 from compute capability 8.0 on; a CPU imitates it, for tests.
    """
    capability = getattr(device, "compute_capability", None)
    if config.network.compute_dtype == "bfloat16" and capability and float(capability) < 8:
        allowed = f"a {device.device_kind} has no bfloat16 arithmetic"
        raise bad_field("compute_dtype", "bfloat16", allowed, "float32")


def _check_seeds(seeds: Seeds, mesh: Mesh, world: World) -> None:
    count = len(seeds.values)
    if mesh.size > 1:
        raise bad_field("devices", mesh.size, f"{count} seeds train together on one device", 1)
    if isinstance(world, GymnasiumWorld):
        allowed = "Gymnasium environments keep their state to themselves, so one seed at a time"
        raise bad_field("seeds", count, allowed, 1)
