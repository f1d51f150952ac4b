"""A learned planner: predicts the goals that an agent achieves some steps later.

The behaviour-cloned form of HIQL's high-level policy (arXiv 2307.11949). From recorded steps with
hindsight goals it learns a Gaussian of the achieved goals `interval`, 2 `interval`, ... steps
ahead.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kilolayer.agents.base import TaskSpec
from kilolayer.agents.optimiser import network_optimiser
from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Run
from kilolayer.deploy.planning.planners import Proposal
from kilolayer.deploy.planning.recorded import RecordedSteps, recorded_steps
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy, open_policy
from kilolayer.networks.actor import Actor
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.run_directory import TASK_KEY
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.types import Array

TORSO = TorsoSpec(depth=4, width=256)
UPDATES, BATCH, LEARNING_RATE = 2_000, 256, 1e-3
# Updates between two progress reports.
UPDATES_PER_REPORT = 50
# A coordinate that never changes would divide by zero.
SMALLEST_SPREAD = 1e-3


@dataclasses.dataclass(frozen=True)
class Chunks:
    """The prediction target: `chunk` achieved goals, `interval` control steps apart.

    discount: hindsight goals lie k steps ahead with probability proportional to discount^k.
    """

    chunk: int
    interval: int
    discount: float


def proposal_of(run: Run, chunk: int, interval: int, display: ProgressDisplay) -> Proposal:
    """The proposal for the run's newest checkpoint, trained once and kept in the run directory."""
    newest = checkpoint.latest(run.directory.checkpoints)
    path = run.path / f"proposal-{newest}-{chunk}x{interval}"
    if path.exists():
        kept = open_policy(path)
        spread = jnp.asarray(kept.details["spread"], jnp.float32)
        return Proposal(kept.agent_state, spread.reshape(chunk, -1))
    steps = recorded_steps(run, display)
    chunks = Chunks(chunk, interval, float(run.config.agent.horizon_discount(1.0)))
    spec = proposal_spec(task_spec(run.task), chunk)
    proposal = train_proposal(spec, steps, chunks, display, seed=run.config.seed)
    spread = np.asarray(proposal.spread).tolist()
    details = {"spread": spread, "interval": interval, "updates": UPDATES}
    trained_on = run.directory.recorded(TASK_KEY)
    made = DeployedPolicy(path, run.config, spec, proposal.actor, "propose", details, trained_on)
    made.save(path)
    return proposal


def proposal_spec(task: TaskSpec, chunk: int, torso: TorsoSpec = TORSO) -> ActorSpec:
    """An actor whose action is the changes of a whole chunk."""
    return ActorSpec(dataclasses.replace(task, action_dim=chunk * task.goal_dim), torso)


def train_proposal(
    spec: ActorSpec,
    steps: RecordedSteps,
    chunks: Chunks,
    display: ProgressDisplay,
    updates: int = UPDATES,
    seed: int = 0,
    learning_rate: float = LEARNING_RATE,
) -> Proposal:
    """Minimise the negative log likelihood of the achieved goals."""
    display.phase("proposal")
    generator = np.random.default_rng(seed)
    _, _, change = draw_chunks(steps, chunks, 4096, generator)
    spread = np.maximum(change.std(0), SMALLEST_SPREAD)
    optimiser = network_optimiser(learning_rate)

    def update(carry: tuple, batch: tuple[Array, ...]) -> tuple[tuple, Array]:
        actor, moments = carry
        loss, gradient = jax.value_and_grad(negative_log_likelihood)(actor, *batch)
        change, moments = optimiser.update(gradient, moments, actor)
        return (optax.apply_updates(actor, change), moments), loss

    learn = jax.jit(lambda carry, batches: jax.lax.scan(update, carry, batches))
    actor: Any = spec.init(jax.random.key(seed))
    carry = (actor, optimiser.init(actor))
    for done in range(0, updates, UPDATES_PER_REPORT):
        count = min(UPDATES_PER_REPORT, updates - done)
        observation, goal, change = draw_chunks(steps, chunks, count * BATCH, generator)
        target = (change / spread).reshape(len(change), -1)
        batches = (
            array.reshape(count, BATCH, -1).astype(np.float32)
            for array in (observation, goal, target)
        )
        carry, loss = learn(carry, tuple(batches))
        display.advance(done + count, updates, loss=float(loss[-1]))
    return Proposal(carry[0], jnp.asarray(spread, jnp.float32))


def draw_chunks(
    steps: RecordedSteps, chunks: Chunks, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(observation [count, observation], hindsight goal [count, goal], change [count, chunk,
    goal])`.

    change: difference of later achieved goals from the present one, at most up to the hindsight
    goal.
    """
    times, envs = np.nonzero(steps.remaining)
    drawn = generator.integers(0, len(times), count)
    time, env = times[drawn], envs[drawn]
    longest = steps.remaining[time, env]
    offset = np.minimum(generator.geometric(1 - min(chunks.discount, 1 - 1e-6), count), longest)
    ahead = chunks.interval * np.arange(1, chunks.chunk + 1)
    later = time[:, None] + np.minimum(ahead, offset[:, None])
    achieved = steps.achieved_goal
    change = achieved[later, env[:, None]] - achieved[time, env][:, None]
    return steps.observation[time, env], achieved[time + offset, env], change


def negative_log_likelihood(actor: Actor, observation: Array, goal: Array, target: Array) -> Array:
    """Mean negative log likelihood of `target [batch, chunk * goal]` under the actor's Gaussian,
    without the constant term."""
    mean, log_std = actor(observation, goal)
    return jnp.mean(log_std + 0.5 * jnp.square((target - mean) * jnp.exp(-log_std)))
