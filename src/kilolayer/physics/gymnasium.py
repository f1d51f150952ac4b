"""Gymnasium environments as a physics engine.

A Gymnasium environment hides its state, so this engine cannot be pure like the others. It makes two
promises instead. The seed of the reset and the actions determine an episode, if the environment
itself is deterministic. A state that differs from the environment's current one, as after a resume,
truncates the episode instead of continuing from another state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import io_callback

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.gymnasium_group import Group, Processes, find_environment, process_count
from kilolayer.types import Array


@dataclass(frozen=True)
class GymnasiumWorld:
    """A registered environment and the arguments with which it is made.

    environment: its id, or `package:id` if a package must be imported first. control_step: seconds
    per step.
    """

    environment: str
    control_step: float
    arguments: Mapping[str, Any] = field(default_factory=dict)


class GymnasiumPhysics:
    """Steps `num_envs` environments, in several processes where that is faster.

    processes: their number, by default one per core; the results are the same for any number.

    An environment has no generalised positions. At a start, `qpos [envs, 1]` is the seed of the
    reset, an unsigned integer, and `qvel [envs, goal]` is the commanded goal, NaN for the
    environment's own goal. A state has neither; its fields are `observation`, `achieved_goal`,
    `goal`, `terminated` and `truncated`. engine `[envs, 2]`: the seed of the episode and its steps
    so far. Raises UserError if the processes cannot start.
    """

    def __init__(self, world: GymnasiumWorld, num_envs: int, processes: int | None = None):
        self.world = world
        specification = find_environment(world.environment)
        number = process_count(specification, num_envs, processes)
        make_group = partial(Group, world.environment, specification, world.arguments)
        group = make_group(num_envs)
        if number == 1:
            self._group: Group | Processes = group
        else:
            self._group = Processes(world.environment, make_group, num_envs, number)
            group.close()  # only its spaces are needed
        self._low, self._high = group.control.low, group.control.high
        self._commanded_goals = np.zeros(group.observation_space["desired_goal"].shape, np.float32)
        self._episode = np.zeros((num_envs, 2), np.uint32)
        # Environments whose state differs from the state that a step should continue from.
        self._desynchronised = np.zeros(num_envs, bool)
        self._no_control = np.zeros((num_envs, *self._low.shape), self._low.dtype)
        self._store(group.reset()[0])
        self._shapes = jax.eval_shape(self._read)

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        everything = np.ones(len(self._desynchronised), bool)
        return io_callback(self._host_reset, self._shapes, everything, qpos, qvel, ordered=True)

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        return io_callback(self._host_step, self._shapes, state.engine, control, ordered=True)

    def reset(self, state: PhysicsState, mask: Array, qpos: Array, qvel: Array) -> PhysicsState:
        return io_callback(self._host_reset, self._shapes, mask, qpos, qvel, ordered=True)

    def _host_reset(self, mask, seeds, goals) -> PhysicsState:
        mask, seeds, goals = np.asarray(mask), np.asarray(seeds, np.uint32), np.asarray(goals)
        seeds = seeds[:, 0]
        self._episode[mask] = np.stack([seeds, np.zeros_like(seeds)], -1)[mask]
        self._commanded_goals[mask], self._desynchronised[mask] = goals[mask], False
        return self._advance(
            restart=mask, advance=np.zeros_like(mask), seed=seeds, control=self._no_control
        )

    def _host_step(self, engine, control) -> PhysicsState:
        unit = np.clip(np.asarray(control), -1.0, 1.0)
        actions = self._low + 0.5 * (unit + 1.0) * (self._high - self._low)
        self._desynchronised |= (np.asarray(engine) != self._episode).any(-1)
        # An environment whose episode has ended does not move until it is reset.
        running = ~(self._fields["terminated"] | self._fields["truncated"] | self._desynchronised)
        self._episode[running, 1] += 1
        return self._advance(
            restart=np.zeros_like(running),
            advance=running,
            seed=self._episode[:, 0],
            control=actions,
        )

    def _advance(self, **action: np.ndarray) -> PhysicsState:
        self._store(self._group.step(action)[0])
        return self._read()

    def _store(self, found: Mapping[str, np.ndarray]) -> None:
        own = found["desired_goal"]
        draws_own = np.isnan(self._commanded_goals).any(-1, keepdims=True)
        self._fields = {
            "observation": found["observation"],
            "achieved_goal": found["achieved_goal"],
            "goal": np.where(draws_own, own, self._commanded_goals),
            "terminated": found["terminated"].astype(bool),
            "truncated": found["truncated"].astype(bool) | self._desynchronised,
        }

    def _read(self) -> PhysicsState:
        """Copies, because the next call overwrites the arrays."""
        empty = np.zeros((len(self._desynchronised), 0), np.float32)
        fields = {name: array.copy() for name, array in self._fields.items()}
        return PhysicsState(empty, empty, fields, self._episode.copy())  # type: ignore[arg-type]
