"""Builds the trainer that a config describes."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from kilolayer.config import RunConfig
from kilolayer.errors import bad_field
from kilolayer.physics.base import Physics
from kilolayer.physics.build import ShardedPhysics, World, build_physics
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.runtime.devices import local_memory
from kilolayer.runtime.mesh import DATA, make_mesh
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.tasks.registry import task_of
from kilolayer.training.offline import open_dataset
from kilolayer.training.seeds import Seeds
from kilolayer.training.sizes import require_run_fits
from kilolayer.training.step import Trainer


def build_trainer(
    config: RunConfig,
    mesh: Mesh | None = None,
    seeds: Seeds | None = None,
    memory: int | None = None,
) -> Trainer:
    """The trainer that the config describes, by default on one device and for one seed.

    memory: bytes for the run, by default of the devices here. Raises UserError before compilation.
    """
    mesh = mesh or make_mesh(1)
    task = task_of(config.task)
    check_dtype(config, mesh.devices.flat[0])
    if seeds and seeds.several:
        _check_seeds(seeds, mesh, task.world)
    schedule = TrainSchedule.derive(
        config, task.episode_length, jax.default_backend(), mesh.shape[DATA]
    )
    memory = mesh.size * local_memory() if memory is None else memory
    require_run_fits(config, task, memory, len(seeds.values) if seeds else 1)
    dataset = open_dataset(config, task)
    if dataset is not None:
        steps, longest = dataset.steps, dataset.longest
        schedule = dataclasses.replace(schedule, replay_capacity=steps, episode_length=longest)
    physics = sharded_physics(mesh, task.world, config)
    return Trainer(
        config, schedule, task, physics, build_agent(config, schedule, task), mesh, dataset
    )


def sharded_physics(
    mesh: Mesh, world: World, config: RunConfig, num_envs: int | None = None
) -> Physics:
    """The config's engine for `num_envs` environments over all devices; default: for training."""
    envs_per_device = (num_envs or config.collection.num_envs) // mesh.shape[DATA]
    physics = build_physics(world, envs_per_device, config.physics)
    if mesh.size == 1:
        return physics
    if isinstance(world, GymnasiumWorld):
        raise bad_field("devices", mesh.size, "Gymnasium environments live in one process", 1)
    return ShardedPhysics(physics, mesh)


def check_dtype(config: RunConfig, device: Any) -> None:
    """Raises UserError for bfloat16 on a GPU without bfloat16 arithmetic.

    NVIDIA GPUs have it from compute capability 8.0 on; a CPU emulates it, for tests.
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
        allowed = "Gymnasium environments hide their state, so only one seed trains at a time"
        raise bad_field("seeds", count, allowed, 1)
