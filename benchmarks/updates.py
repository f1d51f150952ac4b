"""One update of actor and critic against depth: compile time, time and memory."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from benchmarks.measure import Program, Row, compare
from benchmarks.yardsticks import UnrolledUpdate
from kilolayer.agents.base import Problem, TaskSpec
from kilolayer.agents.crl import CRL
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay.hindsight import Batch

TASK = TaskSpec(observation_dim=29, action_dim=8, goal_dim=2)  # the ant's
UNSCALED_LAYERS = 8  # as the plan scales branches by default
LONGEST_COMPILE = 60.0  # seconds; a yardstick that would take longer is not measured


def random_batch(batch_size: int) -> Batch:
    keys = jax.random.split(jax.random.key(0), 6)
    goal = TASK.goal_dim
    sizes = (TASK.observation_dim, TASK.action_dim, goal, goal, goal, TASK.observation_dim)
    fields = [jax.random.normal(k, (batch_size, n)) for k, n in zip(keys, sizes, strict=True)]
    return Batch(*fields, terminated=jnp.zeros(batch_size, bool))


def make_agent(depth: int, width: int) -> CRL:
    """The default recipe, nothing computed again."""
    torso = TorsoSpec(depth, width, branch_scale=min(1.0, UNSCALED_LAYERS / depth))
    return CRL().on(Problem(TASK, torso, torso))


def measure(depths: Sequence[int], width: int, batch_size: int, repeats: int) -> list[Row]:
    """Rows by depth, ascending; the yardstick up to where it still compiles."""
    rows, batch, expected = [], random_batch(batch_size), 0.0
    for index, depth in enumerate(depths):
        agent = make_agent(depth, width)
        state = jax.jit(agent.init)(jax.random.key(1))
        rest = (batch, jax.random.key(2))
        ours, yardstick = Program.compile(agent.update, state, *rest), None
        if expected < LONGEST_COMPILE:
            unrolled = UnrolledUpdate(agent)
            yardstick = Program.compile(unrolled, unrolled.init(state), *rest)
            growth = depths[index + 1] / depth if index + 1 < len(depths) else 1
            expected = yardstick.compile_seconds * growth
        rows.append(compare("update", depth, ours, yardstick, repeats))
    return rows
