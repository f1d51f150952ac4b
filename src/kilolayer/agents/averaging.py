"""The running average of an actor's weights, which acts where nothing is learnt from its actions.

Gradient steps of a constant size keep a policy moving about a good one; the average over many of
them stays close to it (Polyak and Juditsky 1992, SIAM J. Control and Optimization 30, 838-855; with
exponential weights, as here, arXiv 1806.04498).
"""

from typing import Any

import equinox as eqx

from kilolayer.types import bad_field


class Averaged(eqx.Module):
    """An agent state with the average of its actor, as a checkpoint keeps them."""

    agent: Any
    average: Any


def actor_of(state: Any) -> Any:
    """The actor among the parameters of an agent state.

    Raises UserError for an agent of the user's own that has none there.
    """
    actor = getattr(getattr(state, "parameters", None), "actor", None)
    if actor is None:
        allowed = "the agent's state has no `parameters.actor` to average"
        raise bad_field("average_decay", "above 0", allowed, 0.0)
    return actor


def with_actor(state: Any, actor: Any) -> Any:
    """The agent state with another actor in place of its own."""
    return eqx.tree_at(lambda state: state.parameters.actor, state, actor)
