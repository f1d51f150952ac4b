"""What a run took: time, steps, updates, parameters, arithmetic."""

from dataclasses import dataclass
from typing import Any

import jax

from kilolayer.analysis.diagnostics import replay_batch
from kilolayer.analysis.load import Run
from kilolayer.networks.arithmetic import arithmetic, parameters_of
from kilolayer.types import UserError


@dataclass(frozen=True)
class RunCost:
    """seconds: wall-clock of the work. parameters: of all networks. flops_per_update:
    floating-point operations of an update's matrix products, None where they cannot be counted."""

    seconds: float
    env_steps: int
    updates: int
    parameters: int
    flops_per_update: int | None


def run_cost(run: Run) -> RunCost:
    """The cost of a run as far as it has come; raises UserError if its agent cannot be built."""
    state = jax.eval_shape(run.agent.init, jax.random.key(0))
    return RunCost(
        wall_clock(run.events),
        max((event.get("env_steps", 0) for event in run.events), default=0),
        max((event.get("updates", 0) for event in run.events), default=0),
        sum(parameters_of(state).values()),
        _flops_per_update(run, state),
    )


def _flops_per_update(run: Run, state: Any) -> int | None:
    """From the shapes of the batch that training stored."""
    try:
        batch = replay_batch(run)
    except UserError:
        return None
    return arithmetic(run.agent.update, state, batch, jax.random.key(0)).flops


def wall_clock(events: list[dict[str, Any]]) -> float:
    """Seconds of work up to the newest checkpoint, pauses before a resume left out."""
    spent = [event["seconds"] for event in events if "seconds" in event]
    return sum(spent[-1].values()) if spent else 0.0
