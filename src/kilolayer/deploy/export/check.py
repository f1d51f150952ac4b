"""Comparison of an exported file with its policy, against the float32 noise of the policy.

Float32 noise is the change of a policy's outputs due to rounding. No export can be closer.
A rounded float32 product is the exact product of slightly changed factors. The noise is measured by
changing every weight and input at random, by up to one unit in the last place. It grows with depth,
and two correct runtimes differ by as much.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.deploy.score import visited
from kilolayer.errors import UserError
from kilolayer.networks.actor import Actor
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.types import Array

ROWS = 256
DRAWS = 4
# An export may differ by FACTOR times the noise, and always by FLOOR.
FACTOR, FLOOR = 4.0, 1e-5

# (observation [batch, o], goal [batch, g])
Inputs = tuple[np.ndarray, np.ndarray]
# (observation [batch, o], goal [batch, g]) -> (action, log_std), each [batch, a]
Function = Callable[[np.ndarray, np.ndarray], Any]


def act(actor: Actor, observation: Array, goal: Array) -> tuple[Array, Array]:
    """The outputs of an exported policy: deterministic action and log_std, `[batch, a]` each."""
    mean, log_std = actor(observation, goal)
    return jnp.tanh(mean), log_std


def sizes_of(policy: DeployedPolicy) -> dict[str, int]:
    """Numbers in an observation, a goal and an action."""
    task = policy.spec.task
    return {
        "observation": task.observation_dim,
        "goal": task.goal_dim,
        "action": task.action_dim,
    }


def check_inputs(policy: DeployedPolicy, display: ProgressDisplay) -> dict[str, Inputs]:
    """Observations and goals for the comparison: random ones, and ones visited in the task."""
    display.phase("rollout")
    observation, goal = visited(policy.task, policy.config, policy.agent, policy.agent_state, ROWS)
    generator = np.random.default_rng(0)

    def sampled(like: np.ndarray) -> np.ndarray:
        """Normal, with the mean of the visited values and twice their deviation (at least 0.1)."""
        noise = generator.normal(size=like.shape)
        return (like.mean(0) + 2 * np.maximum(like.std(0), 0.1) * noise).astype(np.float32)

    return {
        "random observations": (sampled(observation), sampled(goal)),
        "observations of the task": (observation, goal),
    }


def in_float32(actor: Actor) -> Actor:
    """The actor with its blocks computing in float32, as the ONNX graph does."""
    encoder = actor.encoder
    torso = dataclasses.replace(encoder.stack.torso, compute_dtype="float32")
    stack = dataclasses.replace(encoder.stack, torso=torso)
    return Actor(dataclasses.replace(encoder, stack=stack))


def reference(actor: Actor) -> Function:
    """The actor's outputs, computed by JAX on the CPU."""
    cpu = jax.devices("cpu")[0]
    actor, compiled = jax.device_put(actor, cpu), jax.jit(act)

    def run(observation: np.ndarray, goal: np.ndarray) -> Any:
        with jax.default_device(cpu):
            return compiled(actor, observation, goal)

    return run


def difference(
    function: Function, reference: Function, observation: np.ndarray, goal: np.ndarray
) -> float:
    """The largest absolute difference of any output, over a full batch and a batch of 1."""
    expected = [np.asarray(output) for output in reference(observation, goal)]
    batched = function(observation, goal)
    single = function(observation[:1], goal[:1])
    differences = [
        np.abs(np.asarray(output) - target[: len(output)]).max()
        for outputs in (batched, single)
        for output, target in zip(outputs, expected, strict=True)
    ]
    # Not Python's `max`, which passes over NaN.
    return float(np.max(differences))


def require_close(file: str, differences: dict[str, float], noise: float) -> None:
    """Raises UserError if outputs differ by more than the policy's float32 noise allows."""
    allowed = tolerance(noise)
    for inputs, value in differences.items():
        # Not `value > allowed`, which NaN would pass.
        if not value <= allowed:
            raise UserError(
                f"nothing was written: {file} differs from the policy by {value:.1e} on {inputs}, "
                f"and {allowed:.1e} is allowed (rounding alone changes the actions by {noise:.1e})."
            )


def differences_text(differences: dict[str, float]) -> str:
    """The differences between a file and the policy, for a line of text."""
    each = ", ".join(f"{value:.1e} on {inputs}" for inputs, value in differences.items())
    return f"differs by at most {each}"


def float32_noise(function: Callable[..., Any], parameters: Any, inputs: Inputs) -> float:
    """The largest change of any output of `function(parameters, *inputs)` in four random draws."""

    @jax.jit
    def perturbed(key: Array, parameters: Any, *inputs: Array) -> Any:
        leaves, structure = jax.tree.flatten((parameters, inputs))
        keys = jax.random.split(key, len(leaves))
        leaves = [_perturb(*pair) for pair in zip(keys, leaves, strict=True)]
        parameters, inputs = structure.unflatten(leaves)
        return function(parameters, *inputs)

    with jax.default_device(jax.devices("cpu")[0]):
        exact = jax.jit(function)(parameters, *inputs)
        draws = [perturbed(jax.random.key(seed), parameters, *inputs) for seed in range(DRAWS)]
    changes = [
        jax.tree.map(lambda output, target: float(jnp.abs(output - target).max()), draw, exact)
        for draw in draws
    ]
    return max(jax.tree.leaves(changes))


def tolerance(noise: float) -> float:
    """The largest allowed difference of an output whose float32 noise is `noise`."""
    return max(FLOOR, FACTOR * noise)


def _perturb(key: Array, leaf: Array) -> Array:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    share = jax.random.uniform(key, leaf.shape, jnp.float32, -1.0, 1.0)
    return leaf * (1 + jnp.finfo(jnp.float32).eps * share).astype(leaf.dtype)


def policy_noise(actor: Actor, inputs: dict[str, Inputs]) -> float:
    """The largest float32 noise of an actor's outputs over these inputs."""
    actor = in_float32(actor)
    return max(float32_noise(act, actor, each) for each in inputs.values())
