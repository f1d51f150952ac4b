"""The cost of a grid: operations of every run, hours from one timing, memory of the largest run.

Operations are counted from shapes, in about a second per run; nothing is trained.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.table import Table

from kilolayer.agents.registry import task_spec
from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.forecasting.calibrate import Range, StepTimes, calibrate, combine_ranges
from kilolayer.forecasting.cost import action_arithmetic, update_arithmetic
from kilolayer.forecasting.forecast import Forecast, forecast_run
from kilolayer.networks.arithmetic import arithmetic, parameter_counts, tree_bytes
from kilolayer.runtime.devices import gibibytes, local_memory
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.studies.grid import Cell
from kilolayer.tasks.registry import task_of
from kilolayer.training.build import build_trainer
from kilolayer.training.evaluate import evaluation_policy
from kilolayer.training.sizes import MAX_MEMORY


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of matrix products, per update and per environment step.

    parameters: number in all networks. updates, env_steps: of the whole run.
    """

    update: int
    env_step: int
    parameters: int
    updates: int
    env_steps: int

    @property
    def total(self) -> int:
        """Operations of the whole run."""
        return self.updates * self.update + self.env_steps * self.env_step


def operations(config: RunConfig) -> Operations:
    """Operations of a run of this config; they do not depend on the seed."""
    return _operations(config.having(seed=0))


@cache
def _operations(config: RunConfig) -> Operations:
    trainer = build_trainer(config, memory=MAX_MEMORY)
    agent, schedule = jax.eval_shape(trainer.agent.init, jax.random.key(0)), trainer.schedule
    return Operations(
        update=update_arithmetic(trainer).flops,
        env_step=action_arithmetic(trainer).flops // config.collection.num_envs,
        parameters=sum(parameter_counts(agent).values()),
        updates=schedule.training_unrolls * schedule.updates_per_unroll,
        env_steps=schedule.total_steps,
    )


def inference_operations(config: RunConfig, samples: int) -> int:
    """Floating-point operations of matrix products for one action, the best of `samples`."""
    task = task_of(config.task)
    agent = build_agent(config, TrainSchedule.derive(config, task.episode_length), task)
    spec = task_spec(task)
    state = jax.eval_shape(agent.init, jax.random.key(0))

    def act(state: Any, observation: Any, goal: Any, key: Any) -> Any:
        return evaluation_policy(agent, state, samples)(observation, goal, key)

    observation, goal = jnp.zeros((1, spec.observation_dim)), jnp.zeros((1, spec.goal_dim))
    return arithmetic(act, state, observation, goal, jax.random.key(0)).flops


@dataclass(frozen=True)
class GridCost:
    """operations: of each run by name. hours: of each run, lowest and highest; None without timing.

    largest: forecast of the run with most parameters, which needs the most memory. Without timing:
    only the bytes of this run's state between two rounds.
    """

    operations: Mapping[str, Operations]
    hours: Mapping[str, Range] | None
    largest: Forecast | int


def grid_cost(cells: Mapping[str, Cell], calibration: bool, display: ProgressDisplay) -> GridCost:
    """Forecast the cost of all cells.

    With calibration, one run of each task is compiled and timed, which takes about a minute; the
    hours of the others are scaled by their operations. Without calibration, everything is counted
    from shapes.
    """
    display.phase("operations")
    by_run = {name: operations(cell.config) for name, cell in cells.items()}
    by_size = sorted(cells, key=lambda name: by_run[name].parameters)
    largest = cells[by_size[-1]].config
    if not calibration:
        state = jax.eval_shape(build_trainer(largest, memory=MAX_MEMORY).init)
        return GridCost(by_run, None, tree_bytes(state))
    display.phase("memory")
    forecast = forecast_run(largest, "cpu", 1, False, display)
    # The smallest network of each task, since its updates take the least time.
    timed = {cells[name].config.task.name: name for name in reversed(by_size)}
    times = {
        task: calibrate(build_trainer(cells[name].config), display) for task, name in timed.items()
    }
    hours = {}
    for name, own in by_run.items():
        task = cells[name].config.task.name
        hours[name] = _hours(own, by_run[timed[task]], times[task])
    return GridCost(by_run, hours, forecast)


def _hours(run: Operations, timed: Operations, times: StepTimes) -> Range:
    """Hours without evaluations and checkpoints, which add a few percent."""

    def hours(update: float, step: float) -> float:
        return (run.updates * update * run.update / timed.update + run.env_steps * step) / 3600

    return combine_ranges(hours, times.update, times.env_step)


def cost_table(cost: GridCost) -> Table:
    """A row for each run, and the total of all runs."""
    hours = cost.hours or {}
    total = combine_ranges(lambda *each: sum(each), *hours.values()) if hours else None
    table = Table(title=f"{len(cost.operations)} runs", title_justify="left", show_footer=True)
    table.add_column("run", "all runs", no_wrap=True)
    for column, footer in (
        ("parameters", ""),
        ("updates", ""),
        ("env steps", ""),
        ("operations", f"{sum(each.total for each in cost.operations.values()):.2g}"),
        ("hours on this machine", _hours_text(total)),
    ):
        table.add_column(column, footer, justify="right")
    for name, own in cost.operations.items():
        table.add_row(
            name,
            f"{own.parameters:,}",
            f"{own.updates:,}",
            f"{own.env_steps:,}",
            f"{own.total:.2g}",
            _hours_text(hours.get(name)),
        )
    return table


def memory_sentence(cost: GridCost) -> str:
    """Whether the largest run fits into memory, as a sentence."""
    largest = cost.largest
    if isinstance(largest, int):
        return (
            f"The state of the largest run has {gibibytes(largest)}; this machine has "
            f"{gibibytes(local_memory())}. With --calibration the forecast includes the memory of "
            "an update, and one run of each task is timed to forecast the hours."
        )
    fits = "fits" if largest.fits else "does not fit"
    return (
        f"The largest run needs {largest.peak_bytes / 2**30:.1f} GiB and {fits} into the "
        f"{largest.device_bytes / 2**30:.1f} GiB of this machine. Hours exclude evaluations."
    )


def _hours_text(hours: Range | None) -> str:
    return "untimed" if hours is None else f"{hours[0]:.2g} to {hours[1]:.2g}"


@dataclass(frozen=True)
class MemoryRequirement:
    """bytes: of the largest run, on one device. device_bytes: memory of that device. gpus: 0 if
    there are none."""

    bytes: int
    device_bytes: int
    gpus: int


def memory_of_largest(configs: Sequence[Mapping[str, Any]]) -> MemoryRequirement:
    """Forecast by `kilolayer plan` in a separate process, so that this process uses no accelerator.

    Raises UserError if the run cannot be planned.
    """

    def relative_size(values: Mapping[str, Any]) -> float:
        config = RunConfig.from_json(json.dumps(values), "the study's config")
        network, steps = config.network, config.replay.replay_steps_per_env
        depths = (network.depth_of_actor, network.depth_of_critic, *config.agent.own_depths)
        replay = math.log1p(config.collection.num_envs * steps)
        return sum(depths) * network.width * config.agent.batch_size * replay

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(dict(max(configs, key=relative_size))), encoding="utf-8")
        command = [sys.executable, "-m", "kilolayer", "plan", "--config", str(file)]
        command += ["--no-calibration", "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the study's largest run cannot be planned: {done.stderr.strip()}")
    forecast = json.loads(done.stdout)
    gpus = forecast["devices"] if "(gpu)" in forecast["device"] else 0
    return MemoryRequirement(forecast["peak_bytes"], forecast["device_bytes"], gpus)
