"""The action module: what the agent senses and what it was told, to a chunk of actions.

The frozen features of sentence and picture are reading once for an instruction; every chunk is then
made from that one vector and the newest observation. Of a chunk the first few actions are done
before the next is asked for.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.agents.base import TaskSpec
from kilolayer.networks.block import Dense, NormedLayer
from kilolayer.networks.config import UNSCALED_BLOCKS
from kilolayer.networks.mixture import Mixture, MixtureSpec, Routed
from kilolayer.networks.stack import Stack
from kilolayer.types import Array, bad_field

Trunk = Literal["mixture", "dense-parameters", "dense-operations"]
TRUNKS: tuple[Trunk, ...] = ("mixture", "dense-parameters", "dense-operations")


@dataclass(frozen=True)
class ModuleSpec:
    """What a module's arrays are the parameters of.

    reading: numbers of an instruction's reading. trunk: a mixture, or one dense stack with
    as many parameters or as many operations for a row. chunk: actions that are made at once.
    execute: how many of them are done before the next chunk. Raises UserError
    for what cannot be.
    """

    task: TaskSpec
    reading: int
    trunk: Trunk = "mixture"
    mixture: MixtureSpec = dataclasses.field(default_factory=lambda: MixtureSpec(width=64))
    chunk: int = 4
    execute: int = 1

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise bad_field("trunk", self.trunk, f"it is one of {', '.join(TRUNKS)}", TRUNKS[0])
        if self.chunk < 1:
            raise bad_field("chunk", self.chunk, "a chunk holds at least one action", 1)
        if not 1 <= self.execute <= self.chunk:
            nearest = min(max(1, self.execute), self.chunk)
            allowed = f"it must lie in 1 to chunk = {self.chunk}"
            raise bad_field("execute", self.execute, allowed, nearest)

    def init(self, key: Array) -> "ActionModule":
        keys = jax.random.split(key, 3)
        width, task = self.mixture.width, self.task
        return ActionModule(
            inputs=NormedLayer.init(keys[0], task.observation_dim + self.reading, width),
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
            return Mixture.init(key, spec, self._branch_scale(spec.depth_passed))
        depth = spec.depth_of_equal_operations
        if self.trunk == "dense-parameters":
            depth = spec.depth_of_equal_parameters
        return spec.dense(key, depth, self._branch_scale(depth))

    def _branch_scale(self, depth: int) -> float:
        """By the rule of all networks here, from the blocks on a row's way."""
        return min(1.0, UNSCALED_BLOCKS * self.mixture.layers_per_block / depth)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "ModuleSpec":
        task, mixture = TaskSpec(**values["task"]), MixtureSpec(**values["mixture"])
        return ModuleSpec(**{**values, "task": task, "mixture": mixture})


class Carry(eqx.Module):
    """Between two control steps: actions made, `[rows, chunk, action]`, and how many of them are
    done, `[rows]`. use: the gates of the newest chunks, `[layers, rows, experts]`."""

    actions: Array
    done: Array
    use: Array


class ActionModule(eqx.Module):
    """`(observation, reading) -> chunk of actions`; see `ModuleSpec`.

    Observations are standardised by `centre` and `spread`, `[observation]`, which were measured
    before the teaching and are never trained: the reading beside them is a hundred numbers about 1,
    among which a cube's few centimetres would be lost.
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
        self, observation: Array, reading: Array, training: bool = False
    ) -> tuple[Array, Routed | None]:
        """`([rows, observation], [rows, reading]) ->` actions in (-1, 1), `[rows, chunk, action]`,
        and what the routers did, None without any."""
        centre, spread = jax.lax.stop_gradient((self.centre, self.spread))
        standard = (observation - centre) / spread
        x, routed = self.inputs(jnp.concatenate([standard, reading], -1)), None
        if isinstance(self.trunk, Mixture):
            x, routed = self.trunk(x, training)
        else:
            x = self.trunk(x)
        return jnp.tanh(self.outputs(x)).reshape(len(x), self.chunk, -1), routed

    def begin(self, rows: int) -> Carry:
        """Before the first step: a chunk is due everywhere."""
        shape = (0, rows, 0)
        if isinstance(self.trunk, Mixture):
            layers, _, experts = self.trunk.layers.router.kernel.shape
            shape = (layers, rows, experts)
        actions = jnp.zeros((rows, self.chunk, self.action_dim))
        return Carry(actions, jnp.full(rows, self.execute, jnp.int32), jnp.zeros(shape))

    def act(self, carry: Carry, observation: Array, reading: Array) -> tuple[Array, Carry]:
        """The actions `[rows, action]` of one control step, and the carry after it.

        A row whose chunk is used up gets another, made from its observation; nothing is computed
        while no row needs one.
        """
        due = carry.done >= self.execute

        def anew() -> tuple[Array, Array]:
            actions, routed = self(observation, reading)
            use = carry.use if routed is None else routed.use
            return (
                jnp.where(due[:, None, None], actions, carry.actions),
                jnp.where(due[:, None], use, carry.use),
            )

        actions, use = jax.lax.cond(due.any(), anew, lambda: (carry.actions, carry.use))
        done = jnp.where(due, 0, carry.done)
        action = jnp.take_along_axis(actions, done[:, None, None], axis=1)[:, 0]
        return action, Carry(actions, done + 1, use)
