"""An agent of the user's own, tried before a run is made of it: what it returns must fit.

All on shapes: nothing is computed.
"""

import inspect
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.agents.base import Agent, DeepNetwork, OnPolicyAgent, Problem, Sampling
from kilolayer.errors import OutsideError, UserError
from kilolayer.lookup import FAILURES
from kilolayer.own_code import OwnCode, Wanted, described, is_count
from kilolayer.replay.buffer import Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import values_of

ROWS = 7
TIME, ENVS = 5, 3
SOURCES = ("steps", "dataset")


def require_usable(name: str, kind: type[Agent]) -> None:
    """Raises UserError for a class that cannot be made with its defaults, or not be found and made
    again from a run's config.json."""
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if inspect.isabstract(kind):
        raise UserError(f"agent = {name!r} lacks {', '.join(missing)}: write these functions.")
    known_as = f"{kind.__module__}:{kind.__qualname__}"
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        raise UserError(
            f"agent = {name!r} calls itself {known_as}, where no run could find it again: define "
            "it by a class statement at the top level of its module."
        )
    try:
        made = kind()
    except UserError:
        raise
    except FAILURES as error:
        way_out = "each field needs a default and a type that kilolayer.settings knows"
        raise OutsideError.of(f"agent = {name!r} cannot be made", error, way_out) from error
    own, sources = OwnCode(f"agent = {name!r}"), kind.learns_from
    known = isinstance(sources, tuple | list) and len(sources) > 0 and set(sources) <= set(SOURCES)
    own.require(known, "learns_from", sources, f"a tuple of {' or '.join(SOURCES)}")
    depths = own.attribute(made, "own_depths")
    whole = isinstance(depths, tuple) and all(is_count(depth, 1) for depth in depths)
    own.require(whole, "own_depths", depths, "a tuple of whole numbers from 1 on")
    for field, value in values_of(made).items():
        try:
            kept = kind(**{field: json.loads(json.dumps(value, allow_nan=False))})
            same = getattr(kept, field) == value
        except (UserError, TypeError, ValueError):
            same = False
        own.require(
            same is True, field, value, "a number, a text or None, as config.json keeps it,"
        )


def on_problem(name: str, agent: Agent, problem: Problem) -> Agent:
    """The user's agent, ready to learn the problem; UserError naming what of it cannot work."""
    own = OwnCode(f"agent = {name!r}")
    agent = own.call("on", agent.on, problem)
    own.require(isinstance(agent, Agent), "on", agent, "an Agent")
    own.require(agent.problem is not None, "on", None, "an agent with its problem")
    sampling = own.attribute(agent, "sampling")
    own.require(isinstance(sampling, Sampling), "sampling", sampling, "a Sampling")
    _check_functions(own, agent, problem)
    return agent


def _check_functions(own: OwnCode, agent: Agent, problem: Problem) -> None:
    task = problem.task
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = _state(own, "init", agent.init, key)
    seen, goal, taken = (
        _numbers(ROWS, size) for size in (task.observation_dim, task.goal_dim, task.action_dim)
    )
    actions = Wanted((ROWS, task.action_dim), "[batch, action]")
    rates = Wanted((ROWS,), "[batch]")
    if type(agent).distribution is not Agent.distribution:
        own.traced("distribution", agent.distribution, (actions, actions), state, seen, goal)
    for deterministic in (True, False):

        def act(
            state: Any, seen: Any, goal: Any, key: Any, deterministic: bool = deterministic
        ) -> Any:
            return agent.act(state, seen, goal, key, deterministic)

        own.traced("act", act, actions, state, seen, goal, key)
    own.traced("explore", agent.explore, actions, state, seen, goal, key)
    own.traced("rate", agent.rate, rates, state, seen, taken, goal)
    _check_discount(own, agent)
    terminated = jax.ShapeDtypeStruct((ROWS,), bool)
    batch: Any = Batch(seen, taken, goal, goal, goal, seen, terminated)  # type: ignore[arg-type]
    drawn = batch
    if isinstance(agent, OnPolicyAgent):
        drawn = _prepared(own, agent, state)
    _check_update(own, agent, state, drawn, key)
    _check_networks(own, agent, state, batch, key)


def _state(own: OwnCode, name: str, function: Any, *arguments: Any) -> Any:
    """Shapes of a tree of arrays that a function returns."""

    def inside(*arguments: Any) -> Any:
        found = own.call(name, function, *arguments)
        for path, leaf in jax.tree_util.tree_flatten_with_path(found)[0]:
            if not isinstance(leaf, jax.Array | float | int) and not hasattr(leaf, "dtype"):
                where = jax.tree_util.keystr(path) or "it"
                what = f"{name} returns {described(leaf)} at {where}"
                raise own.unfit(what, "a tree of arrays alone")
        return found

    return jax.eval_shape(inside, *arguments)


def _prepared(own: OwnCode, agent: OnPolicyAgent, state: Any) -> Any:
    task = agent.bound.task
    seen, taken, goal = (
        jax.ShapeDtypeStruct((TIME, ENVS, size), jnp.float32)
        for size in (task.observation_dim, task.action_dim, task.goal_dim)
    )
    ages = jax.ShapeDtypeStruct((TIME, ENVS), jnp.int32)
    unroll: Any = Transition(seen, taken, goal, goal, ages)  # type: ignore[arg-type]
    steps = _state(own, "prepare", agent.prepare, state, unroll)
    leaves = jax.tree.leaves(steps)
    counts = {leaf.shape[:1] for leaf in leaves}
    if len(counts) != 1 or counts == {()}:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in leaves) or "none"
        raise own.unfit(f"prepare returns arrays {shapes}", "arrays [steps, ...] of equal length")
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((ROWS, *leaf.shape[1:]), leaf.dtype), steps
    )


def _check_update(own: OwnCode, agent: Agent, state: Any, batch: Any, key: Any) -> None:
    def inside(state: Any, batch: Any, key: Any) -> Any:
        found = own.call("update", agent.update, state, batch, key)
        if not isinstance(found, tuple) or len(found) != 2:
            raise own.unfit(f"update returns {described(found)}", "(state, metrics)")
        metrics = found[1]
        if not isinstance(metrics, dict):
            raise own.unfit(f"update returns metrics as {described(metrics)}", "a dictionary")
        for name, value in metrics.items():
            scalar = isinstance(value, float | int) or getattr(value, "shape", None) == ()
            if not isinstance(name, str) or not scalar:
                what = f"update returns the metric {name!r} as {described(value)}"
                raise own.unfit(what, "one number (jnp.mean of it)")
            if not hasattr(value, "mean"):
                what = f"update returns the metric {name!r} as {described(value)} of Python"
                raise own.unfit(what, "an array of JAX")
        return found[0]

    after = jax.eval_shape(inside, state, batch, key)
    kinds = [jax.tree_util.tree_structure(each) for each in (state, after)]
    if kinds[0] != kinds[1]:
        raise own.unfit("update returns a state of other parts", "the state that init returns")
    before, now = (jax.tree_util.tree_flatten_with_path(each)[0] for each in (state, after))
    for (path, old), (_, new) in zip(before, now, strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            what = f"update returns {new.dtype} {list(new.shape)} at {jax.tree_util.keystr(path)}"
            raise own.unfit(what, f"{old.dtype} {list(old.shape)} as from init")


def _check_discount(own: OwnCode, agent: Agent) -> None:
    def inside(done: Any) -> Any:
        found = own.call("horizon_discount", agent.horizon_discount, done)
        if not isinstance(found, float | int) and getattr(found, "shape", None) != ():
            raise own.unfit(f"horizon_discount returns {described(found)}", "one number")
        return found

    jax.eval_shape(inside, jax.ShapeDtypeStruct((), jnp.float32))


def _check_networks(own: OwnCode, agent: Agent, state: Any, batch: Any, key: Any) -> None:
    def inside(state: Any, batch: Any, key: Any) -> None:
        found = own.call("networks", agent.networks, state, batch, key)
        known = isinstance(found, dict) and all(
            isinstance(each, DeepNetwork) for each in found.values()
        )
        if not known:
            raise own.unfit(f"networks returns {described(found)}", "a dictionary of DeepNetwork")

    jax.eval_shape(inside, state, batch, key)


def _numbers(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
