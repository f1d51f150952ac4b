"""Measure how fast this machine trains a config: time a few shortened rounds."""

import dataclasses
import time
from dataclasses import dataclass

import jax

from kilolayer.config import RunConfig
from kilolayer.forecasting.cost import action_arithmetic, update_arithmetic
from kilolayer.plan import TrainPlan
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.training.build import build_trainer
from kilolayer.training.step import Trainer

# Each limit takes a few tenths of a second to a few seconds on a CPU.
UPDATE_FLOPS = 4e10
ROUND_FLOPS = 6e10
COLLECTED_STEPS = 8192
SECONDS = 6.0
LEAST_REPEATS, MOST_REPEATS = 3, 8

Range = tuple[float, float]


@dataclass(frozen=True)
class Pace:
    """Seconds of the fastest and the slowest repeat, and how they were measured.

    update: one update, including sampling. step: one environment step, including the action.
    """

    update: Range
    step: Range
    how: str


def calibrate(trainer: Trainer, display: ProgressDisplay) -> Pace:
    """Time rounds of the trainer's config with few updates and few steps, and a small buffer.

    Networks with long updates are cut to a smaller depth; the seconds are then scaled up with the
    arithmetic.
    """
    display.phase("calibrate")
    config, plan = trainer.config, trainer.plan
    full = update_arithmetic(trainer).flops
    cut = build_trainer(_cut_short(config, plan, full))
    short = update_arithmetic(cut).flops
    updates = max(1, min(plan.updates_per_unroll, round(ROUND_FLOPS / short)))
    cut = dataclasses.replace(cut, plan=dataclasses.replace(cut.plan, updates_per_unroll=updates))
    update_seconds, collect_seconds = _time_rounds(cut)
    steps = cut.plan.steps_per_unroll
    policy = (
        action_arithmetic(trainer).flops - action_arithmetic(cut).flops
    ) / config.collection.num_envs
    pace_of_updates = [seconds / updates / short for seconds in update_seconds]
    depth = max(cut.plan.actor_torso.depth, cut.plan.critic_torso.depth)
    return Pace(
        update=(full * pace_of_updates[0], full * pace_of_updates[1]),
        step=(
            collect_seconds[0] / steps + policy * pace_of_updates[0],
            collect_seconds[1] / steps + policy * pace_of_updates[1],
        ),
        how=f"{updates} updates at depth {depth} and {steps:,} environment steps, timed here",
    )


def _cut_short(config: RunConfig, plan: TrainPlan, update_flops: int) -> RunConfig:
    unit, share = config.network.layers_per_block, min(1.0, UPDATE_FLOPS / update_flops)

    def shallower(depth: int) -> int:
        return max(unit, int(depth * share) // unit * unit)

    filled = plan.prefill_unrolls * config.collection.unroll_length
    if config.collection.dataset is not None:
        # An update on collected data costs the same, and evaluations need the seconds of a step.
        filled = config.agent.batch_size + 1
    collection = config.collection
    return config.having(
        dataset=None,
        actor_depth=shallower(plan.actor_torso.depth),
        critic_depth=shallower(plan.critic_torso.depth),
        rematerialisation=plan.rematerialisation,
        unroll_length=max(2, min(collection.unroll_length, COLLECTED_STEPS // collection.num_envs)),
        update_to_data=1.0,
        min_replay_steps_per_env=filled,
        replay_steps_per_env=filled,
    )


def _time_rounds(trainer: Trainer) -> tuple[Range, Range]:
    """Seconds of updating and of collecting in a round, each of the fastest and slowest repeat."""
    state = jax.jit(trainer.init)()
    collect, train_round = (
        jax.jit(function, donate_argnums=0).lower(state).compile()
        for function in (trainer.collect, trainer.round)
    )
    # The first call is slower.
    state, _ = jax.block_until_ready(train_round(collect(state)[0]))
    updating, collecting = [], []
    began = time.perf_counter()
    while len(updating) < LEAST_REPEATS or (
        len(updating) < MOST_REPEATS and time.perf_counter() - began < SECONDS
    ):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(collect(state))
        middle = time.perf_counter()
        state, _ = jax.block_until_ready(train_round(state))
        collecting.append(middle - start)
        updating.append(max(0.0, time.perf_counter() - middle - collecting[-1]))
    return (min(updating), max(updating)), (min(collecting), max(collecting))
