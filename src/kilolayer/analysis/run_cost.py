"""The cost of a run: time, parameters, floating-point operations."""

from typing import Any

import jax

from kilolayer.analysis.diagnostics import replay_batch
from kilolayer.analysis.load import Run
from kilolayer.networks.arithmetic import arithmetic, parameter_counts
from kilolayer.types import UserError


def parameter_count(run: Run) -> int:
    """Parameters of all networks, counted from shapes."""
    return sum(parameter_counts(jax.eval_shape(run.agent.init, jax.random.key(0))).values())


def flops_per_update(run: Run) -> int | None:
    """Floating-point operations of the matrix products of an update, counted from shapes.

    None if the run has stored no batch."""
    try:
        batch = replay_batch(run)
    except UserError:
        return None
    state = jax.eval_shape(run.agent.init, jax.random.key(0))
    return arithmetic(run.agent.update, state, batch, jax.random.key(0)).flops


def wall_clock_seconds(events: list[dict[str, Any]]) -> float:
    """Seconds of work up to the newest checkpoint, without pauses before a resume."""
    seconds = [event["seconds"] for event in events if "seconds" in event]
    return sum(seconds[-1].values()) if seconds else 0.0
