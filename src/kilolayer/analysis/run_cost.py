"""The cost of a run: time, steps, parameters, arithmetic."""

from dataclasses import dataclass
from typing import Any

import jax

from kilolayer.analysis.diagnostics import replay_batch
from kilolayer.analysis.load import Run
from kilolayer.networks.arithmetic import arithmetic, parameter_counts
from kilolayer.types import UserError


@dataclass(frozen=True)
class NetworkCost:
    """parameters: of all networks. flops_per_update: floating-point operations of the matrix
    products of an update, None if the run has stored no batch."""

    parameters: int
    flops_per_update: int | None


def network_cost(run: Run) -> NetworkCost:
    """Count from the shapes of the run's agent, without computing anything."""
    state = jax.eval_shape(run.agent.init, jax.random.key(0))
    return NetworkCost(sum(parameter_counts(state).values()), _flops_per_update(run, state))


def _flops_per_update(run: Run, state: Any) -> int | None:
    try:
        batch = replay_batch(run)
    except UserError:
        return None
    return arithmetic(run.agent.update, state, batch, jax.random.key(0)).flops


def last_count(run: Run, name: str) -> int:
    """The newest value of `env_steps` or `updates`."""
    return max((event.get(name, 0) for event in run.events), default=0)


def wall_clock(events: list[dict[str, Any]]) -> float:
    """Seconds of work up to the newest checkpoint, without pauses before a resume."""
    spent = [event["seconds"] for event in events if "seconds" in event]
    return sum(spent[-1].values()) if spent else 0.0
