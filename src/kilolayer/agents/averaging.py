"""The running average of an actor's weights. Evaluations use it, and policies are saved with it.

With a constant learning rate, a policy keeps moving around a good one. The average over many
updates stays close to the good one (Polyak and Juditsky 1992, SIAM J. Control and Optimization 30,
838-855; with exponential weights, as here, arXiv 1806.04498).
"""

from typing import Any

import equinox as eqx

from kilolayer.types import bad_field


class AveragedAgent(eqx.Module):
    """An agent state and the average of its actor, as a checkpoint stores them."""

    agent: Any
    average: Any


def actor_of(state: Any) -> Any:
    """The actor among the parameters of an agent state.

    Raises UserError for a user's own agent whose state has no `parameters.actor`.
    """
    actor = getattr(getattr(state, "parameters", None), "actor", None)
    if actor is None:
        allowed = "the agent's state has no `parameters.actor` to average"
        raise bad_field("average_decay", "above 0", allowed, 0.0)
    return actor


def with_actor(state: Any, actor: Any) -> Any:
    """The agent state with another actor in place of its own."""
    return eqx.tree_at(lambda state: state.parameters.actor, state, actor)
