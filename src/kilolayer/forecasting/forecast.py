"""Forecast a run before it is launched: arithmetic, memory, hours, and whether it fits."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from kilolayer.config import RunConfig
from kilolayer.forecasting.calibrate import Pace, Range, calibrate
from kilolayer.forecasting.cost import action_arithmetic, device_memory, update_arithmetic
from kilolayer.networks.arithmetic import Arithmetic, parameter_counts, tree_bytes
from kilolayer.physics.native import MujocoWorld
from kilolayer.plan import TrainPlan, check_source
from kilolayer.runtime.devices import (
    Accelerator,
    find_accelerator,
    local_memory,
    resident_bytes,
)
from kilolayer.runtime.mesh import make_mesh
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.training.build import build_trainer
from kilolayer.training.sizes import MAX_MEMORY
from kilolayer.training.step import TrainState
from kilolayer.types import UserError, bad_field

# Of an accelerator, best and worst: the share of its rate that matrix products reach, and the least
# seconds of one product with its normalisation, however small. The published runs took 20
# microseconds (results/plan).
UTILISATION: Range = (0.5, 0.1)
PRODUCT_SECONDS: Range = (5e-6, 25e-6)
# Share of an accelerator's memory that JAX takes by default.
PREALLOCATED = 0.75
# Environment steps per second of MuJoCo environments on the host of an accelerator.
PHYSICS_RATE: Range = (100_000, 5_000)
# Saving a checkpoint: bytes per second, and the bytes of the pieces that are read back (measured at
# 200 MB), beside the state itself.
SAVING_RATE: Range = (5e8, 6e7)
SAVING_PIECES = 64_000_000
PROCESS = "program and libraries"
# Arrays as large as the parameters that Adam reads and writes.
OPTIMISER_PASSES = 7


@dataclass(frozen=True)
class Change:
    """An option that takes less memory than the config's value, and the peak with this option."""

    option: str
    peak_bytes: int
    fits: bool


@dataclass(frozen=True)
class Forecast:
    """The cost of a run. Bytes are those of one device; rates and hours, of all devices together.

    decisions: what the plan chose for the deep stacks. parameters: by network. flops: floating-
    point operations of matrix products per update, per environment step and per run. memory: bytes
    by kind, which add up to peak_bytes. disk_bytes: of the checkpoints, including the one that is
    being written. seconds_per_round and hours: lowest and highest, None without timing.
    compile_seconds: of one round of training, on this machine. advice: options that take less
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
    advice: tuple[Change, ...]


@dataclass(frozen=True)
class _Case:
    """A config on `devices` accelerators, or on this machine if there is no accelerator."""

    config: RunConfig
    task: Task
    accelerator: Accelerator | None
    devices: int

    @staticmethod
    def of(config: RunConfig, device: str, devices: int | None) -> "_Case":
        """Raises UserError for a config that cannot be run or a device that cannot run it."""
        check_source(config)
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
        return _Case(config, task_of(config.task), accelerator, devices)

    @cached_property
    def plan(self) -> TrainPlan:
        """Raises UserError for a config that cannot be run."""
        platform = "gpu" if self.accelerator else jax.default_backend()
        return TrainPlan.derive(self.config, self.task.episode_length, platform, self.devices)

    @property
    def settled(self) -> RunConfig:
        """The config with all choices that depend on the device, to be lowered on this machine."""
        return self.config.having(rematerialisation=self.plan.rematerialisation)

    @property
    def memory_is_shared(self) -> bool:
        """Whether all devices and this process share one memory."""
        return self.accelerator is None and jax.default_backend() == "cpu"

    def memory(self) -> tuple[dict[str, int], float]:
        """Bytes by kind, without the process itself, and the seconds to compile a round."""
        whole = self.settled
        share = whole.having(
            num_envs=whole.collection.num_envs // self.devices,
            batch_size=whole.agent.batch_size // self.devices,
            update_to_data=whole.collection.update_to_data * self.devices,
        )
        kinds, seconds = device_memory(build_trainer(share, memory=MAX_MEMORY))
        times = self.devices if self.memory_is_shared else 1
        return {name: times * size for name, size in kinds.items()}, seconds


def forecast_run(
    config: RunConfig,
    device: str,
    devices: int | None,
    calibrated: bool,
    display: ProgressDisplay,
) -> Forecast:
    """Compile a round of the config and, for this machine, time a part of it if `calibrated`.

    Raises UserError for a config that cannot be run or a device that is not known.
    """
    case = _Case.of(config, device, devices)
    plan, accelerator = case.plan, case.accelerator
    display.phase("compile")
    memory, compile_seconds = case.memory()
    if case.memory_is_shared:
        memory = _in_one_memory(memory, resident_bytes())
    room = int(accelerator.memory) if accelerator else local_memory()
    peak = sum(memory.values())
    trainer = build_trainer(case.settled, memory=MAX_MEMORY)
    state = jax.eval_shape(trainer.init)
    update, action = update_arithmetic(trainer), action_arithmetic(trainer)
    if accelerator is not None:
        pace = _pace_of(accelerator, case, memory["parameters"], update, action)
    else:
        pace = calibrate(trainer, display) if calibrated and peak <= room else None
    updates = plan.training_unrolls * plan.updates_per_unroll
    per_step = action.flops // config.collection.num_envs
    all_steps = plan.total_steps + _evaluation_steps(case)
    return Forecast(
        device=accelerator.title if accelerator else f"this machine ({jax.default_backend()})",
        devices=case.devices,
        decisions=plan.describe(),
        rounds=plan.prefill_unrolls + plan.training_unrolls,
        updates=updates,
        env_steps=plan.total_steps,
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
        disk_bytes=_disk_bytes(case, state),
        compile_seconds=compile_seconds,
        seconds_per_round=pace and _round_seconds(pace, plan),
        hours=pace and _hours(pace, case, tree_bytes(state)),
        assumptions=_assumptions(case, pace, peak),
        advice=() if peak <= room else _advice(case, memory, room, display),
    )


def _in_one_memory(round_memory: dict[str, int], process: int) -> dict[str, int]:
    """Bytes by kind of a round's arrays and of the process, where both share one memory.

    While a checkpoint is saved, the state that it holds stays beside the newest one.
    """
    agent = round_memory["parameters"] + round_memory["optimiser"]
    loop = round_memory["replay buffer"] + round_memory["environments"]
    return round_memory | {
        "saving a checkpoint": agent + loop + SAVING_PIECES,
        PROCESS: process,
    }


def _disk_bytes(case: _Case, state: TrainState) -> int:
    """Bytes of the checkpoints: agents of the newest, of the best and of the one being written, and
    the loop's state of the newest two, which stay until the next one is written."""
    config = case.config
    agents = min(len(case.plan.save_after), config.checkpoints.keep_checkpoints + 2)
    # A dataset stays in its own file.
    buffer = state.buffer if config.collection.dataset is None else None
    loop = (buffer, state.envs, state.key)
    return agents * tree_bytes(state.checkpointed) + min(agents, 3) * tree_bytes(loop)


def _evaluation_steps(case: _Case) -> int:
    config, evaluations = case.config.evaluation, len(case.plan.evaluate_after) + 1
    others = len(case.task.splits) - 1
    played = evaluations + others * (evaluations if config.evaluate_training_goals else 1)
    return played * config.eval_envs * case.task.episode_length


def _round_seconds(pace: Pace, plan: TrainPlan) -> Range:
    low, high = (
        plan.updates_per_unroll * update + plan.steps_per_unroll * step
        for update, step in zip(pace.update, pace.step, strict=True)
    )
    return low, high


def _hours(pace: Pace, case: _Case, state_bytes: int) -> Range:
    plan, saved = case.plan, len(case.plan.save_after) * state_bytes
    evaluated = plan.prefill_unrolls * plan.steps_per_unroll + _evaluation_steps(case)
    low, high = (
        (plan.training_unrolls * each_round + evaluated * step + saved / rate) / 3600
        for each_round, step, rate in zip(
            _round_seconds(pace, plan), pace.step, SAVING_RATE, strict=True
        )
    )
    return low, high


def _pace_of(
    accelerator: Accelerator,
    case: _Case,
    parameter_bytes: int,
    update: Arithmetic,
    action: Arithmetic,
) -> Pace:
    """Pace from stated rates: a product takes the longer of its arithmetic and its launch."""
    rate = accelerator.rate(case.config.network.compute_dtype)
    assert rate is not None
    optimiser = OPTIMISER_PASSES * parameter_bytes / accelerator.bandwidth
    updates, steps = [], []
    for share, launch, physics in zip(UTILISATION, PRODUCT_SECONDS, PHYSICS_RATE, strict=True):
        seconds = [
            max(work.flops / case.devices / (share * rate), work.products * launch)
            for work in (update, action)
        ]
        updates.append(seconds[0] + optimiser)
        engine = 1 / physics if isinstance(case.task.world, MujocoWorld) else 0.0
        steps.append(seconds[1] / case.config.collection.num_envs + engine)
    return Pace((updates[0], updates[1]), (steps[0], steps[1]), accelerator.source)


def _assumptions(case: _Case, pace: Pace | None, peak: int) -> tuple[str, ...]:
    """The assumptions behind the figures, one sentence each."""
    memory = "memory: the compiled program's own account of a round of training"
    slow, fast = SAVING_RATE[1] / 1e6, SAVING_RATE[0] / 1e6
    saving = f"checkpoints saved at {slow:.0f} to {fast:.0f} MB/s"
    if case.accelerator is None:
        timed = f"{pace.how}, as busy as it is now" if pace else "not estimated without calibration"
        return memory, f"hours: {timed}; {saving}"
    rate = case.accelerator.rate(case.config.network.compute_dtype) or 0.0
    needed, room = peak / case.accelerator.memory, ""
    if PREALLOCATED < needed <= 1:
        room = (
            f"; JAX takes {PREALLOCATED:.0%} of the device unless XLA_PYTHON_CLIENT_MEM_FRACTION "
            f"says more: this run needs {needed:.2f}"
        )
    return (
        f"{memory}, compiled for the processor here, with physics on the host's cores{room}",
        f"hours: {100 * UTILISATION[1]:.0f} to {100 * UTILISATION[0]:.0f} % of "
        f"{rate / 1e12:.0f} TFLOP/s ({case.accelerator.source}), and at least "
        f"{1e6 * PRODUCT_SECONDS[0]:.0f} to {1e6 * PRODUCT_SECONDS[1]:.0f} microseconds for each "
        f"matrix product; {PHYSICS_RATE[1]:,} to {PHYSICS_RATE[0]:,} steps of MuJoCo environments "
        f"a second; {saving}",
    )


def _advice(
    case: _Case, memory: dict[str, int], room: int, display: ProgressDisplay
) -> tuple[Change, ...]:
    """Options that each take less memory than `memory`."""
    peak, found = sum(memory.values()), []
    if (
        build_trainer(case.config, memory=MAX_MEMORY).plan.replay_capacity
        > case.config.collection.unroll_length
    ):
        found.append(_smaller_replay(case, memory, room))
    for name, value in _options(case):
        display.phase(f"{name} {value}")
        config = case.config.having(**{name: value})
        try:
            changed, _ = dataclasses.replace(case, config=config).memory()
        except UserError:  # this value cannot be halved
            continue
        needed = sum(_again(changed, memory).values())
        if needed < peak:
            option = f"--{name.replace('_', '-')} {value}"
            found.append(Change(option, needed, needed <= room))
    return tuple(found)


def _again(round_memory: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """Bytes by kind of a changed round, in the same process as `before`."""
    return _in_one_memory(round_memory, before[PROCESS]) if PROCESS in before else round_memory


def _options(case: _Case) -> list[tuple[str, Any]]:
    config, ways = case.config, ["none", "block", "nested"]
    options: list[tuple[str, Any]] = [
        ("rematerialisation", way) for way in ways[ways.index(case.plan.rematerialisation) + 1 :]
    ]
    if case.accelerator is None or case.accelerator.bfloat16 is not None:
        options.append(("compute_dtype", "bfloat16"))
    return [
        *options,
        ("batch_size", config.agent.batch_size // 2),
        ("num_envs", config.collection.num_envs // 2),
    ]


def _smaller_replay(case: _Case, memory: dict[str, int], room: int) -> Change:
    """The largest buffer that fits, or the smallest that the config allows."""
    plan, unroll = case.plan, case.config.collection.unroll_length
    needed, steps = 0, plan.replay_capacity
    for unrolls in range(plan.replay_capacity // unroll, plan.prefill_unrolls - 1, -1):
        steps = unrolls * unroll
        size = memory["replay buffer"] * steps // plan.replay_capacity
        needed = sum(_again(memory | {"replay buffer": size}, memory).values())
        if needed <= room:
            break
    return Change(f"--replay-steps-per-env {steps}", needed, needed <= room)
