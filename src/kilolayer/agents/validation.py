"""Checks of a user's own agent before a run starts: attributes and returned shapes.

Functions are traced on shapes only, so nothing is computed.
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
from kilolayer.replay.buffer import Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import values_of
from kilolayer.user_code import ExpectedArray, UserCode, describe, is_count

ROWS = 7
TIME, ENVS = 5, 3
SOURCES = ("steps", "dataset")


def require_valid_class(name: str, kind: type[Agent]) -> None:
    """Raises UserError for a class without defaults, or that config.json could not name."""
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
        remedy = "each field needs a default and a type that kilolayer.settings knows"
        raise OutsideError.of(f"agent = {name!r} cannot be made", error, remedy) from error
    own, sources = UserCode(f"agent = {name!r}"), kind.learns_from
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


def bind_checked(name: str, agent: Agent, problem: Problem) -> Agent:
    """The user's agent, bound to the problem; raises UserError that names the first fault."""
    own = UserCode(f"agent = {name!r}")
    agent = own.call("on", agent.on, problem)
    own.require(isinstance(agent, Agent), "on", agent, "an Agent")
    own.require(agent.problem is not None, "on", None, "an agent with its problem")
    sampling = own.attribute(agent, "sampling")
    own.require(isinstance(sampling, Sampling), "sampling", sampling, "a Sampling")
    _check_functions(own, agent, problem)
    return agent


def _check_functions(own: UserCode, agent: Agent, problem: Problem) -> None:
    task = problem.task
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = _state(own, "init", agent.init, key)
    if not hasattr(getattr(state, "parameters", None), "actor"):
        needed = "a state with `parameters.actor`, the part that acts,"
        raise own.misfit(f"init returns {describe(state)}", needed)
    observation, goal, action = (
        _numbers(ROWS, size) for size in (task.observation_dim, task.goal_dim, task.action_dim)
    )
    actions = ExpectedArray((ROWS, task.action_dim), "[batch, action]")
    rates = ExpectedArray((ROWS,), "[batch]")
    if type(agent).distribution is not Agent.distribution:
        gaussian = (actions, actions)
        own.check_traced("distribution", agent.distribution, gaussian, state, observation, goal)
    own_act: Any = agent.act
    for deterministic in (True, False):

        def act(*arguments: Any, deterministic: Any = deterministic) -> Any:
            return own_act(*arguments, deterministic)

        own.check_traced("act", act, actions, state, observation, goal, key)
    own.check_traced("explore", agent.explore, actions, state, observation, goal, key)
    own.check_traced("rate", agent.rate, rates, state, observation, action, goal)
    _check_discount(own, agent)
    terminated = jax.ShapeDtypeStruct((ROWS,), bool)
    parts: Any = (observation, action, goal, goal, goal, observation, terminated)
    batch = Batch(*parts)
    on_policy = isinstance(agent, OnPolicyAgent)
    update_batch = _prepared_batch(own, agent, state) if on_policy else batch
    _check_update(own, agent, state, update_batch, key)
    _check_networks(own, agent, state, batch, key)


def _state(own: UserCode, name: str, function: Any, *arguments: Any) -> Any:
    """The shapes of the arrays that a function returns; raises UserError for other leaves."""

    def check(found: Any) -> Any:
        for path, leaf in jax.tree_util.tree_flatten_with_path(found)[0]:
            if not isinstance(leaf, jax.Array | float | int) and not hasattr(leaf, "dtype"):
                where = jax.tree_util.keystr(path) or "it"
                what = f"{name} returns {describe(leaf)} at {where}"
                raise own.misfit(what, "a tree of arrays alone")
        return found

    return own.trace(name, function, check, *arguments)


def _prepared_batch(own: UserCode, agent: OnPolicyAgent, state: Any) -> Any:
    task = agent.bound.task
    observation, action, goal = (
        _numbers(TIME, ENVS, size)
        for size in (task.observation_dim, task.action_dim, task.goal_dim)
    )
    episode_step = jax.ShapeDtypeStruct((TIME, ENVS), jnp.int32)
    unroll: Any = Transition(observation, action, goal, goal, episode_step)  # type: ignore[arg-type]
    steps = _state(own, "prepare", agent.prepare, state, unroll)
    leaves = jax.tree.leaves(steps)
    counts = {leaf.shape[:1] for leaf in leaves}
    if len(counts) != 1 or counts == {()}:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in leaves) or "none"
        raise own.misfit(f"prepare returns arrays {shapes}", "arrays [steps, ...] of equal length")
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((ROWS, *leaf.shape[1:]), leaf.dtype), steps
    )


def _check_update(own: UserCode, agent: Agent, state: Any, batch: Any, key: Any) -> None:
    def check(found: Any) -> Any:
        if not isinstance(found, tuple) or len(found) != 2:
            raise own.misfit(f"update returns {describe(found)}", "(state, metrics)")
        metrics = found[1]
        if not isinstance(metrics, dict):
            raise own.misfit(f"update returns metrics as {describe(metrics)}", "a dictionary")
        for name, value in metrics.items():
            scalar = isinstance(value, float | int) or getattr(value, "shape", None) == ()
            if not isinstance(name, str) or not scalar:
                what = f"update returns the metric {name!r} as {describe(value)}"
                raise own.misfit(what, "one number (jnp.mean of it)")
            if not hasattr(value, "mean"):
                what = f"update returns the metric {name!r} as {describe(value)} of Python"
                raise own.misfit(what, "an array of JAX")
        return found[0]

    updated = own.trace("update", agent.update, check, state, batch, key)
    if jax.tree.structure(state) != jax.tree.structure(updated):
        raise own.misfit("update returns a state of other parts", "the state that init returns")
    before, after = (jax.tree_util.tree_flatten_with_path(each)[0] for each in (state, updated))
    for (path, old), (_, new) in zip(before, after, strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            what = f"update returns {new.dtype} {list(new.shape)} at {jax.tree_util.keystr(path)}"
            raise own.misfit(what, f"{old.dtype} {list(old.shape)} as from init")


def _check_discount(own: UserCode, agent: Agent) -> None:
    def check(found: Any) -> Any:
        if not isinstance(found, float | int) and getattr(found, "shape", None) != ():
            raise own.misfit(f"horizon_discount returns {describe(found)}", "one number")
        return found

    own.trace("horizon_discount", agent.horizon_discount, check, _numbers())


def _check_networks(own: UserCode, agent: Agent, state: Any, batch: Any, key: Any) -> None:
    def check(found: Any) -> None:
        known = isinstance(found, dict) and all(
            isinstance(each, DeepNetwork) for each in found.values()
        )
        if not known:
            raise own.misfit(f"networks returns {describe(found)}", "a dictionary of DeepNetwork")

    own.trace("networks", agent.networks, check, state, batch, key)


def _numbers(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
