"""The action module: maps an observation and an instruction to a chunk of actions.

The frozen features of sentence and picture become one vector per instruction, its embedding. Every
chunk is made from the embedding and the newest observation. The first few actions of a chunk are
executed before the next chunk is made.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.base import TaskSpec
from kilolayer.errors import bad_field
from kilolayer.language.base import Context
from kilolayer.language.fusion import ContextScale
from kilolayer.language.goal_head import GoalHead, GoalScale, HeadSpec
from kilolayer.language.grounding import Grounding
from kilolayer.networks.block import Dense, NormedLayer
from kilolayer.networks.config import UNSCALED_BLOCKS
from kilolayer.networks.mixture import Mixture, MixtureSpec, RoutingStatistics
from kilolayer.networks.stack import Stack
from kilolayer.settings import NOT_A_SETTING, Count, Settings
from kilolayer.types import Array

Trunk = Literal["mixture", "dense-parameters", "dense-operations"]


@dataclass(frozen=True)
class ModuleSpec(Settings):
    """The network of an action module.

    embedding_dim: size of an instruction embedding. trunk: a mixture, or one dense stack with as
    many parameters or as many operations per row. chunk: actions made at once. execute: actions of
    a chunk that are executed before the next chunk.
    """

    task: TaskSpec = field(metadata=NOT_A_SETTING)
    embedding_dim: Count
    trunk: Trunk = "mixture"
    mixture: MixtureSpec = field(default=MixtureSpec(width=64), metadata=NOT_A_SETTING)
    chunk: Count = 4
    execute: Count = 1

    def check(self) -> None:
        if self.execute > self.chunk:
            allowed = f"it must lie in 1 to chunk = {self.chunk}"
            raise bad_field("execute", self.execute, allowed, self.chunk)

    def init(self, key: Array) -> "ActionModule":
        keys = jax.random.split(key, 3)
        width, task = self.mixture.width, self.task
        return ActionModule(
            inputs=NormedLayer.init(keys[0], task.observation_dim + self.embedding_dim, width),
            trunk=self._trunk(keys[1]),
            outputs=Dense.init(keys[2], width, self.chunk * task.action_dim),
            centre=jnp.zeros(task.observation_dim),
            spread=jnp.ones(task.observation_dim),
            chunk=self.chunk,
            execute=self.execute,
        )

    def _trunk(self, key: Array) -> Mixture | Stack:
        spec = self.mixture
        if self.trunk == "mixture":
            return Mixture.init(key, spec, self._branch_scale(spec.depth_per_row))
        depth = spec.depth_of_equal_operations
        if self.trunk == "dense-parameters":
            depth = spec.depth_of_equal_parameters
        return spec.dense(key, depth, self._branch_scale(depth))

    def _branch_scale(self, depth: int) -> float:
        """The branch scale by this package's usual rule, from the depth that a row passes."""
        return min(1.0, UNSCALED_BLOCKS * self.mixture.layers_per_block / depth)

    def to_json(self) -> dict[str, Any]:
        """JSON values, in which `embedding_dim` has the name `reading`."""
        values = dataclasses.asdict(self)
        return {"reading" if name == "embedding_dim" else name: values[name] for name in values}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "ModuleSpec":
        changed = {
            "task": TaskSpec(**values["task"]),
            "embedding_dim": values["reading"],
            "mixture": MixtureSpec(**values["mixture"]),
        }
        return ModuleSpec(**{n: v for n, v in values.items() if n != "reading"} | changed)


class Carry(eqx.Module):
    """State between two control steps.

    actions: the newest chunks, `[rows, chunk, action]`. executed: number of executed actions of
    each chunk, `[rows]`. gates: router gates of the newest chunks, `[layers, rows, experts]`.
    """

    actions: Array
    executed: Array
    gates: Array


class ActionModule(eqx.Module):
    """`(observation, embedding) -> chunk of actions`; see `ModuleSpec`.

    `centre` and `spread`, `[observation]`, standardise the observations. They are measured before
    training and never trained. Without them the embedding, a hundred numbers near 1, would drown a
    cube's few centimetres.
    """

    inputs: NormedLayer
    trunk: Mixture | Stack
    outputs: Dense
    centre: Array
    spread: Array
    chunk: int = eqx.field(static=True)
    execute: int = eqx.field(static=True)

    @property
    def action_dim(self) -> int:
        return self.outputs.bias.shape[0] // self.chunk

    def __call__(
        self, observation: Array, embedding: Array, training: bool = False
    ) -> tuple[Array, RoutingStatistics | None]:
        """`([rows, observation], [rows, embedding]) ->` actions in (-1, 1) `[rows, chunk, action]`,
        and the routers' output, or None without routers."""
        centre, spread = jax.lax.stop_gradient((self.centre, self.spread))
        standardised = (observation - centre) / spread
        x, routed = self.inputs(jnp.concatenate([standardised, embedding], -1)), None
        if isinstance(self.trunk, Mixture):
            x, routed = self.trunk(x, training)
        else:
            x = self.trunk(x)
        return jnp.tanh(self.outputs(x)).reshape(len(x), self.chunk, -1), routed

    def initial_carry(self, rows: int) -> Carry:
        """The carry before the first step; every row needs a chunk."""
        shape = (0, rows, 0)
        if isinstance(self.trunk, Mixture):
            layers, _, experts = self.trunk.layers.router.kernel.shape
            shape = (layers, rows, experts)
        actions = jnp.zeros((rows, self.chunk, self.action_dim))
        return Carry(actions, jnp.full(rows, self.execute, jnp.int32), jnp.zeros(shape))

    def act(self, carry: Carry, observation: Array, embedding: Array) -> tuple[Array, Carry]:
        """The actions `[rows, action]` of one control step, and the carry after it.

        A row whose chunk was executed gets a new one, made from its observation. The network is not
        computed while no row needs a chunk.
        """
        due = carry.executed >= self.execute

        def new_chunks() -> tuple[Array, Array]:
            actions, routed = self(observation, embedding)
            gates = carry.gates if routed is None else routed.use
            return (
                jnp.where(due[:, None, None], actions, carry.actions),
                jnp.where(due[:, None], gates, carry.gates),
            )

        actions, gates = jax.lax.cond(due.any(), new_chunks, lambda: (carry.actions, carry.gates))
        executed = jnp.where(due, 0, carry.executed)
        action = jnp.take_along_axis(actions, executed[:, None, None], axis=1)[:, 0]
        return action, Carry(actions, executed + 1, gates)


class InstructionEncoder(eqx.Module):
    """Encodes an instruction once for an action module, with the head of a grounding.

    `context -> instruction embedding [rows, embedding]`: the head's certainty features, and the
    mean of its most likely Gaussian in standard deviations of goals.

    It is trained with the grounding and frozen while a module is trained. Actions alone carry
    little information about the goal, so an encoder trained with them could settle for what all
    goals share.
    """

    head: GoalHead
    features: ContextScale
    scale: GoalScale
    spec: HeadSpec = eqx.field(static=True)

    @staticmethod
    def of(grounding: Grounding) -> "InstructionEncoder":
        arrays = grounding.arrays
        head = dataclasses.replace(arrays.head, point=None)
        return InstructionEncoder(head, arrays.features, arrays.scale, grounding.spec)

    @property
    def embedding_dim(self) -> int:
        return self.spec.size.width + len(self.spec.varying)

    def __call__(self, context: Context) -> Array:
        mixture, features = self.head.predict(self.features(context), self.scale)
        best = mixture.log_weight.argmax(-1)[:, None, None]
        mean = jnp.take_along_axis(mixture.mean, best, axis=1)[:, 0]
        goal = (mean - self.scale.select_varying(self.scale.centre)) / self.scale.spread
        return jnp.concatenate([features, goal], -1)

    def attention(self, context: Context) -> Array:
        """Attention of the sentence over the picture's patches, `[rows, heads, patches]`."""
        return self.head.fusion.attend(self.features(context))[1]


def control_step(module: ActionModule) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A stateful function `(observation [observation], embedding [embedding]) -> action [action]`.

    Call it once per control step. The first actions of a chunk are executed before the next chunk
    is made.
    """
    carry = module.initial_carry(1)
    # Pass the arrays as an argument: XLA would fold constants into the program.
    act = jax.jit(lambda module, *rows: module.act(*rows))

    def step(observation: np.ndarray, embedding: np.ndarray) -> np.ndarray:
        nonlocal carry
        action, carry = act(module, carry, observation[None], embedding[None])
        return np.asarray(action)[0]

    return step
