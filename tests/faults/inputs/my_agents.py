"""Agents of a user's own, each wrong in one place, named by `module:Class`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from examples.behaviour_cloning import BehaviourCloning, Parameters, State
from kilolayer.agents.base import Agent, OnPolicyAgent


def having(**changed):
    """The example's agent with other attributes or methods."""
    return dataclass(frozen=True, kw_only=True)(type("Changed", (BehaviourCloning,), changed))


def returning(method, value):
    return having(**{method: lambda self, *args: value(*args) if callable(value) else value})


def fine(self, state, batch, key):
    return BehaviourCloning.update(self, state, batch, key)


Good = having()
Unfinished = type("Unfinished", (Agent,), {"init": lambda self, key: 0})
an_instance = BehaviourCloning()


def a_function():
    return BehaviourCloning()


@dataclass(frozen=True, kw_only=True)
class NoDefault(BehaviourCloning):
    size: int


@dataclass(frozen=True, kw_only=True)
class UnknownType(BehaviourCloning):
    size: "NoSuchType" = 3  # noqa: F821


@dataclass(frozen=True, kw_only=True)
class WrongDefault(BehaviourCloning):
    size: int = "three"


@dataclass(frozen=True, kw_only=True)
class FunctionField(BehaviourCloning):
    activation: object = jnp.tanh


class OwnInit(BehaviourCloning):
    def __init__(self, size):
        pass


LearnsFromText = having(learns_from="videos")
LearnsFromNothing = having(learns_from=())
OnNothing = returning("on", None)
OnForgotten = returning("on", lambda problem: BehaviourCloning())
OnFails = returning("on", lambda problem: 1 / 0)
SamplingText = having(sampling="geometric")
DepthsList = having(own_depths=["4"])
InitFails = returning("init", lambda key: 1 / 0)
InitBare = returning("init", lambda key: {"weights": jnp.zeros(3)})
InitText = returning("init", lambda key: {"name": "actor"})
ActWide = returning("act", lambda state, seen, goal, key, d: jnp.zeros((len(seen), 9)))
ActOne = returning("act", lambda state, seen, goal, key, d: jnp.zeros(2))
ActNone = returning("act", None)
ActByIf = returning(
    "act",
    lambda state, seen, goal, key, d: jnp.zeros((len(seen), 2)) if seen[0, 0] > 0 else None,
)
ActWantsLess = having(act=lambda self, state, seen: seen)
DrawsWide = returning(
    "act", lambda state, seen, goal, key, d: jnp.zeros((len(seen), 2 if d else 3))
)
ExploreInt = returning("explore", lambda state, seen, goal, key: jnp.zeros((len(seen), 2), int))
RateColumn = returning("rate", lambda state, seen, action, goal: seen[:, :1])
RateNone = returning("rate", None)
DistributionOne = returning("distribution", lambda state, seen, goal: jnp.zeros((len(seen), 2)))
DiscountText = returning("horizon_discount", "high")
UpdateOne = having(update=lambda self, state, batch, key: fine(self, state, batch, key)[0])
UpdateNone = returning("update", None)
UpdateKey = returning("update", lambda state, batch, key: (state, {"loss": batch.rewards.mean()}))
MetricsList = having(update=lambda self, state, batch, key: (state, [1.0]))
MetricVector = having(update=lambda self, state, batch, key: (state, {"loss": batch.goal[:, 0]}))
MetricText = having(update=lambda self, state, batch, key: (state, {"loss": "small"}))
MetricPlain = having(update=lambda self, state, batch, key: (state, {"loss": 0.5}))
StateOther = having(update=lambda self, state, batch, key: ((state, state), {}))
StateWider = having(
    update=lambda self, state, batch, key: (
        jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state),
        {},
    )
)
StateHalf = having(
    update=lambda self, state, batch, key: (
        jax.tree.map(lambda leaf: leaf.astype(jnp.float16), state),
        {},
    )
)
NetworksList = returning("networks", [])
NetworksArrays = returning("networks", lambda state, batch, key: {"actor": batch.goal})


SizesTuple = dataclass(frozen=True, kw_only=True)(
    type(
        "SizesTuple",
        (BehaviourCloning,),
        {"sizes": (64, 64), "__annotations__": {"sizes": tuple[int, ...]}},
    )
)


@dataclass(frozen=True, kw_only=True)
class OnPolicy(OnPolicyAgent):
    """Learns nothing, from the newest unroll."""

    def init(self, key):
        parameters = Parameters(jnp.zeros(3))
        return State(parameters, parameters)

    def act(self, state, observation, goal, key, deterministic):
        return jnp.zeros((len(observation), self.bound.task.action_dim))

    def rate(self, state, observation, action, goal):
        return jnp.zeros(len(observation))

    def prepare(self, state, unroll):
        return {"seen": unroll.observation.reshape(-1, unroll.observation.shape[-1])}

    def update(self, state, batch, key):
        return state, {"loss": batch["seen"].mean()}


PreparesNothing = type("PreparesNothing", (OnPolicy,), {"prepare": lambda *_: {}})
PreparesUnequal = type(
    "PreparesUnequal",
    (OnPolicy,),
    {"prepare": lambda self, state, unroll: (jnp.zeros(4), jnp.zeros(5))},
)
PreparesOther = type(
    "PreparesOther", (OnPolicy,), {"prepare": lambda self, state, unroll: {"other": jnp.zeros(4)}}
)


# As if each had been defined by a class statement, but for the last.
for _name, _value in list(globals().items()):
    if isinstance(_value, type) and _value.__name__ in ("Changed", "abc"):
        _value.__module__, _value.__qualname__ = __name__, _name
for _value in (PreparesNothing, PreparesUnequal, PreparesOther, Unfinished, SizesTuple):
    _value.__module__ = __name__
MadeByAFunction = having()
