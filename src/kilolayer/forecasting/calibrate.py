"""Measure the seconds of an update and of an environment step: time a few shortened rounds."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax

from kilolayer.config import RunConfig
from kilolayer.forecasting.cost import action_arithmetic, update_arithmetic
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.schedule import TrainSchedule
from kilolayer.training.build import build_trainer
from kilolayer.training.step import Trainer

# Work within each limit takes a few tenths of a second to a few seconds on a CPU.
UPDATE_FLOPS = 4e10
ROUND_FLOPS = 6e10
COLLECTED_STEPS = 8192
MAX_SECONDS = 6.0
MIN_REPEATS, MAX_REPEATS = 3, 8

Range = tuple[float, float]
"""Lowest and highest value."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds of the fastest and the slowest repeat; source: how they were measured.

    update: one update, including sampling. env_step: one environment step, including the action.
    """

    update: Range
    env_step: Range
    source: str


def combine_ranges(function: Callable[..., float], *ranges: Range) -> Range:
    """Apply a function to the lowest values and to the highest values."""
    low, high = (function(*ends) for ends in zip(*ranges, strict=True))
    return low, high


def calibrate(trainer: Trainer, display: ProgressDisplay) -> StepTimes:
    """Time rounds of the trainer's config with few updates and few steps, and a small buffer.

    Networks with slow updates are timed at a smaller depth; the seconds are then scaled with the
    arithmetic.
    """
    display.phase("calibrate")
    config, schedule = trainer.config, trainer.schedule
    full = update_arithmetic(trainer).flops
    short = build_trainer(_shortened_config(config, schedule, full))
    flops = update_arithmetic(short).flops
    updates = max(1, min(schedule.updates_per_unroll, round(ROUND_FLOPS / flops)))
    short_schedule = dataclasses.replace(short.schedule, updates_per_unroll=updates)
    short = dataclasses.replace(short, schedule=short_schedule)
    update_seconds, collect_seconds = _time_rounds(short)
    steps = short_schedule.steps_per_unroll
    # The policy of the whole depth does more arithmetic per environment step.
    policy = action_arithmetic(trainer).flops - action_arithmetic(short).flops
    policy /= config.collection.num_envs
    seconds_per_flop = combine_ranges(lambda seconds: seconds / updates / flops, update_seconds)
    depth = max(short_schedule.actor_torso.depth, short_schedule.critic_torso.depth)
    return StepTimes(
        update=combine_ranges(lambda each: full * each, seconds_per_flop),
        env_step=combine_ranges(
            lambda collect, each: collect / steps + policy * each, collect_seconds, seconds_per_flop
        ),
        source=f"{updates} updates at depth {depth} and {steps:,} environment steps, timed here",
    )


def _shortened_config(config: RunConfig, schedule: TrainSchedule, update_flops: int) -> RunConfig:
    unit, share = config.network.layers_per_block, min(1.0, UPDATE_FLOPS / update_flops)

    def shallower(depth: int) -> int:
        return max(unit, int(depth * share) // unit * unit)

    # A dataset's updates cost the same on collected data, and evaluations need the seconds of a
    # step. On-policy agents ignore the number.
    collected = schedule.prefill_unrolls * config.collection.unroll_length
    replay_steps = collected or config.agent.batch_size + 1
    collection = config.collection
    # An on-policy agent samples its batch from one unroll.
    shortest = 1 - (-config.agent.batch_size // collection.num_envs)
    timed = max(shortest, COLLECTED_STEPS // collection.num_envs)
    return config.having(
        dataset=None,
        actor_depth=shallower(schedule.actor_torso.depth),
        critic_depth=shallower(schedule.critic_torso.depth),
        rematerialisation=schedule.rematerialisation,
        unroll_length=max(2, min(collection.unroll_length, timed)),
        update_to_data=1.0,
        min_replay_steps_per_env=replay_steps,
        replay_steps_per_env=replay_steps,
    )


def _time_rounds(trainer: Trainer) -> tuple[Range, Range]:
    """Seconds of updates and of collection in a round, of the fastest and the slowest repeat."""
    state = jax.jit(trainer.init)()
    collect, train_round = (
        jax.jit(function, donate_argnums=0).lower(state).compile()
        for function in (trainer.collect, trainer.round)
    )
    # The first call is slower.
    state, _ = jax.block_until_ready(train_round(collect(state)[0]))
    updating, collecting = [], []
    began = time.perf_counter()
    while len(updating) < MIN_REPEATS or (
        len(updating) < MAX_REPEATS and time.perf_counter() - began < MAX_SECONDS
    ):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(collect(state))
        middle = time.perf_counter()
        state, _ = jax.block_until_ready(train_round(state))
        collecting.append(middle - start)
        updating.append(max(0.0, time.perf_counter() - middle - collecting[-1]))
    return (min(updating), max(updating)), (min(collecting), max(collecting))
