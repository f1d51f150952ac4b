"""Forecast a run before it is launched: arithmetic, memory and hours."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from kilolayer.config import RunConfig
from kilolayer.errors import UserError, bad_field
from kilolayer.forecasting.calibrate import Range, StepTimes, calibrate, combine_ranges
from kilolayer.forecasting.cost import action_arithmetic, device_memory, update_arithmetic
from kilolayer.networks.arithmetic import Arithmetic, parameter_counts, tree_bytes
from kilolayer.physics.build import refuse_unused
from kilolayer.physics.native import MujocoWorld
from kilolayer.runtime.devices import Accelerator, find_accelerator, local_memory, resident_bytes
from kilolayer.runtime.mesh import make_mesh
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.schedule import TrainSchedule, check_data_source
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.training.build import build_trainer
from kilolayer.training.sizes import MAX_MEMORY
from kilolayer.training.step import TrainState

# Best and worst case on an accelerator: utilisation of its rate by matrix products, and the minimum
# seconds of one product with its normalisation, of which an update has 11 per layer. The published
# runs took 20 microseconds (results/plan), an H200 takes 5 with lean gradients (results/gpu).
UTILISATION: Range = (0.5, 0.1)
PRODUCT_SECONDS: Range = (5e-6, 25e-6)
# Share of an accelerator's memory that JAX takes by default.
PREALLOCATED = 0.75
# Environment steps per second of MuJoCo environments on the host of an accelerator.
PHYSICS_RATE: Range = (100_000, 5_000)
# Saving a checkpoint: bytes per second, and the bytes of the buffers that are read back (measured
# at 200 MB), in addition to the state.
SAVING_RATE: Range = (5e8, 6e7)
SAVING_PIECES = 64_000_000
PROCESS_MEMORY = "program and libraries"
# Arrays as large as the parameters that Adam reads and writes.
OPTIMISER_PASSES = 7


@dataclass(frozen=True)
class MemoryOption:
    """An option that needs less memory than the config's value, and the peak with this option."""

    option: str
    peak_bytes: int
    fits: bool


@dataclass(frozen=True)
class Forecast:
    """The cost of a run. Bytes are those of one device; rates and hours, of all devices together.

    decisions: the choices for the deep stacks. parameters: by network. flops: floating-
    point operations of matrix products per update, per environment step and per run. memory: bytes
    by kind, which add up to peak_bytes. disk_bytes: of the checkpoints, including the one that is
    being written. seconds_per_round and hours: lowest and highest, None without timing.
    compile_seconds: of one round of training, on this machine. advice: options that need less
    memory, if the run does not fit.
    """

    device: str
    devices: int
    decisions: str
    rounds: int
    updates: int
    env_steps: int
    parameters: dict[str, int]
    flops: dict[str, int]
    memory: dict[str, int]
    peak_bytes: int
    device_bytes: int
    fits: bool
    disk_bytes: int
    compile_seconds: float
    seconds_per_round: Range | None
    hours: Range | None
    assumptions: tuple[str, ...]
    advice: tuple[MemoryOption, ...]


@dataclass(frozen=True)
class _Target:
    """A config on `devices` accelerators, or on this machine if there is no accelerator."""

    config: RunConfig
    task: Task
    accelerator: Accelerator | None
    devices: int

    @staticmethod
    def derive(config: RunConfig, device: str, devices: int | None) -> "_Target":
        """Raises UserError for a config that cannot be run or a device that cannot run it."""
        check_data_source(config)
        accelerator = find_accelerator(device)
        if accelerator is None:
            devices = make_mesh(devices).size
        else:
            devices = 1 if devices is None else devices
            if devices < 1:
                raise bad_field("devices", devices, "it must be at least 1", 1)
            if accelerator.rate(config.network.compute_dtype) is None:
                raise bad_field(
                    "compute_dtype",
                    config.network.compute_dtype,
                    f"{device} has no units for it",
                    "float32",
                )
        return _Target(config, task_of(config.task), accelerator, devices)

    @cached_property
    def schedule(self) -> TrainSchedule:
        """Raises UserError for a config that cannot be run."""
        platform = "gpu" if self.accelerator else jax.default_backend()
        return TrainSchedule.derive(self.config, self.task.episode_length, platform, self.devices)

    @property
    def device_config(self) -> RunConfig:
        """The config with the choices for the target device, to be lowered on this machine."""
        return self.config.having(rematerialisation=self.schedule.rematerialisation)

    @property
    def memory_is_shared(self) -> bool:
        """Whether all devices and this process share one memory."""
        return self.accelerator is None and jax.default_backend() == "cpu"

    def memory(self) -> tuple[dict[str, int], float]:
        """Bytes by kind, without the process, and the seconds to compile a round."""
        whole = self.device_config
        per_device = whole.having(
            num_envs=whole.collection.num_envs // self.devices,
            batch_size=whole.agent.batch_size // self.devices,
            update_to_data=whole.collection.update_to_data * self.devices,
        )
        kinds, seconds = device_memory(build_trainer(per_device, memory=MAX_MEMORY))
        copies = self.devices if self.memory_is_shared else 1
        return {name: copies * size for name, size in kinds.items()}, seconds


def forecast_run(
    config: RunConfig, device: str, devices: int | None, calibrated: bool, display: ProgressDisplay
) -> Forecast:
    """Compile a round of the config; on this machine, also time a part of it if `calibrated`.

    Raises UserError for a config that cannot be run or a device that is not known.
    """
    target = _Target.derive(config, device, devices)
    refuse_unused(config.physics, target.task.world)
    schedule, accelerator = target.schedule, target.accelerator
    display.phase("compile")
    round_memory, compile_seconds = target.memory()
    process = resident_bytes() if target.memory_is_shared else None
    memory = _with_process(round_memory, process)
    room = int(accelerator.memory) if accelerator else local_memory()
    peak = sum(memory.values())
    trainer = build_trainer(target.device_config, memory=MAX_MEMORY)
    state = jax.eval_shape(trainer.init)
    update, action = update_arithmetic(trainer), action_arithmetic(trainer)
    if accelerator is not None:
        times = _nominal_times(accelerator, target, memory["parameters"], update, action)
    else:
        times = calibrate(trainer, display) if calibrated and peak <= room else None
    updates = schedule.training_unrolls * schedule.updates_per_unroll
    per_step = action.flops // config.collection.num_envs
    all_steps = schedule.total_steps + _evaluation_steps(target)
    return Forecast(
        device=accelerator.title if accelerator else f"this machine ({jax.default_backend()})",
        devices=target.devices,
        decisions=schedule.describe(),
        rounds=schedule.rounds,
        updates=updates,
        env_steps=schedule.total_steps,
        parameters=parameter_counts(state.agent),
        flops={
            "update": update.flops,
            "environment step": per_step,
            "run": updates * update.flops + all_steps * per_step,
        },
        memory=memory,
        peak_bytes=peak,
        device_bytes=room,
        fits=peak <= room,
        disk_bytes=_disk_bytes(target, state),
        compile_seconds=compile_seconds,
        seconds_per_round=times and _round_seconds(times, schedule),
        hours=times and _hours(times, target, tree_bytes(state)),
        assumptions=_assumptions(target, times, peak),
        advice=() if peak <= room else _advice(target, memory, room, display),
    )


def _with_process(round_memory: dict[str, int], process: int | None) -> dict[str, int]:
    """Bytes by kind of a round's arrays, and of the process if both share one memory.

    process: bytes of the process, None if it has a memory of its own. While a checkpoint is saved,
    its copy of the state exists in addition to the newest state.
    """
    if process is None:
        return round_memory
    agent = round_memory["parameters"] + round_memory["optimiser"]
    loop = round_memory["replay buffer"] + round_memory["environments"]
    return round_memory | {
        "saving a checkpoint": agent + loop + SAVING_PIECES,
        PROCESS_MEMORY: process,
    }


def _disk_bytes(target: _Target, state: TrainState) -> int:
    """Bytes of the checkpoints: agents of the newest, of the best and of the one being written, and
    the loop's state of the newest two, which are kept until the next one is written."""
    config = target.config
    agents = min(len(target.schedule.save_after), config.checkpoints.keep_checkpoints + 2)
    # A dataset stays in its own file.
    buffer = state.buffer if config.collection.dataset is None else None
    loop = (buffer, state.envs, state.key)
    return agents * tree_bytes(state.checkpointed) + min(agents, 3) * tree_bytes(loop)


def _evaluation_steps(target: _Target) -> int:
    config, evaluations = target.config.evaluation, len(target.schedule.evaluate_after) + 1
    other_splits = len(target.task.splits) - 1
    played = evaluations + other_splits * (evaluations if config.evaluate_training_goals else 1)
    return played * config.eval_envs * target.task.episode_length


def _round_seconds(times: StepTimes, schedule: TrainSchedule) -> Range:
    return combine_ranges(
        lambda update, step: (
            schedule.updates_per_unroll * update + schedule.steps_per_unroll * step
        ),
        times.update,
        times.env_step,
    )


def _hours(times: StepTimes, target: _Target, state_bytes: int) -> Range:
    schedule, saved = target.schedule, len(target.schedule.save_after) * state_bytes
    acting = schedule.prefill_unrolls * schedule.steps_per_unroll + _evaluation_steps(target)

    def hours(per_round: float, step: float, saving_rate: float) -> float:
        return (schedule.training_unrolls * per_round + acting * step + saved / saving_rate) / 3600

    return combine_ranges(hours, _round_seconds(times, schedule), times.env_step, SAVING_RATE)


def _nominal_times(
    accelerator: Accelerator,
    target: _Target,
    parameter_bytes: int,
    update: Arithmetic,
    action: Arithmetic,
) -> StepTimes:
    """Times from nominal rates: a product takes the longer of its arithmetic and its launch."""
    rate = accelerator.rate(target.config.network.compute_dtype)
    assert rate is not None
    optimiser = OPTIMISER_PASSES * parameter_bytes / accelerator.bandwidth
    has_physics = isinstance(target.task.world, MujocoWorld)

    def seconds(utilisation: float, launch: float, physics_rate: float) -> tuple[float, float]:
        updating, acting = (
            max(work.flops / target.devices / (utilisation * rate), work.products * launch)
            for work in (update, action)
        )
        physics = 1 / physics_rate if has_physics else 0.0
        return updating + optimiser, acting / target.config.collection.num_envs + physics

    fast, slow = map(seconds, UTILISATION, PRODUCT_SECONDS, PHYSICS_RATE)
    return StepTimes((fast[0], slow[0]), (fast[1], slow[1]), accelerator.source)


def _assumptions(target: _Target, times: StepTimes | None, peak: int) -> tuple[str, ...]:
    """The assumptions of the forecast, one sentence each."""
    memory = "memory: peak that the compiled program of a round reports"
    slow, fast = SAVING_RATE[1] / 1e6, SAVING_RATE[0] / 1e6
    saving = f"checkpoints saved at {slow:.0f} to {fast:.0f} MB/s"
    if target.accelerator is None:
        timed = (
            f"{times.source} at its present load" if times else "not estimated without calibration"
        )
        return memory, f"hours: {timed}; {saving}"
    rate = target.accelerator.rate(target.config.network.compute_dtype) or 0.0
    needed, room = peak / target.accelerator.memory, ""
    if PREALLOCATED < needed <= 1:
        room = (
            f"; by default JAX allocates {PREALLOCATED:.0%} of the device: set "
            f"XLA_PYTHON_CLIENT_MEM_FRACTION={needed:.2f} or higher for this run"
        )
    return (
        f"{memory}, compiled for this machine's processor, with physics on the host's cores{room}",
        f"hours: {100 * UTILISATION[1]:.0f} to {100 * UTILISATION[0]:.0f} % of "
        f"{rate / 1e12:.0f} TFLOP/s ({target.accelerator.source}), and at least "
        f"{1e6 * PRODUCT_SECONDS[0]:.0f} to {1e6 * PRODUCT_SECONDS[1]:.0f} microseconds for each "
        f"matrix product; {PHYSICS_RATE[1]:,} to {PHYSICS_RATE[0]:,} steps of MuJoCo environments "
        f"a second; {saving}",
    )


def _advice(
    target: _Target, memory: dict[str, int], room: int, display: ProgressDisplay
) -> tuple[MemoryOption, ...]:
    """Options that each need less memory than `memory`."""
    peak, options = sum(memory.values()), []
    if target.schedule.replay_capacity > target.config.collection.unroll_length:
        options.append(_smaller_replay_buffer(target, memory, room))
    for name, value in _memory_options(target):
        display.phase(f"{name} {value}")
        config = target.config.having(**{name: value})
        try:
            changed, _ = dataclasses.replace(target, config=config).memory()
        except UserError:  # half of the value is not allowed
            continue
        needed = sum(_with_process(changed, memory.get(PROCESS_MEMORY)).values())
        if needed < peak:
            option = f"--{name.replace('_', '-')} {value}"
            options.append(MemoryOption(option, needed, needed <= room))
    return tuple(options)


def _memory_options(target: _Target) -> list[tuple[str, Any]]:
    config, modes = target.config, ["none", "block", "nested"]
    options: list[tuple[str, Any]] = [
        ("rematerialisation", mode)
        for mode in modes[modes.index(target.schedule.rematerialisation) + 1 :]
    ]
    if target.accelerator is None or target.accelerator.bfloat16 is not None:
        options.append(("compute_dtype", "bfloat16"))
    return [
        *options,
        ("batch_size", config.agent.batch_size // 2),
        ("num_envs", config.collection.num_envs // 2),
    ]


def _smaller_replay_buffer(target: _Target, memory: dict[str, int], room: int) -> MemoryOption:
    """The largest replay buffer that fits, or the smallest that the config allows."""
    schedule, unroll = target.schedule, target.config.collection.unroll_length
    needed, steps, process = 0, schedule.replay_capacity, memory.get(PROCESS_MEMORY)
    for unrolls in range(schedule.replay_capacity // unroll, schedule.prefill_unrolls - 1, -1):
        steps = unrolls * unroll
        size = memory["replay buffer"] * steps // schedule.replay_capacity
        needed = sum(_with_process(memory | {"replay buffer": size}, process).values())
        if needed <= room:
            break
    return MemoryOption(f"--replay-steps-per-env {steps}", needed, needed <= room)
