"""MuJoCo C on all cores, called from inside jit.

`mujoco.batch.Batch` steps the environments in C++ threads, bit-identically at any thread count. The
state of each environment is MuJoCo's float64 integration state (positions, velocities, warm start,
...). It passes through JAX as uint32 bits, so nothing is lost, and the engine keeps no state of its
own. A rollout therefore repeats exactly and can be saved and restored at any step.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import mujoco
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from mujoco.batch import Batch

from kilolayer.errors import OutsideError
from kilolayer.physics.base import PhysicsState
from kilolayer.types import Array

# Words in MuJoCo's errors about models that compile but cannot be stepped, with a remedy for each.
REMEDIES = {
    "memory": 'give the model more memory, such as <size memory="100M"/>',
    "sleep": 'remove sleep="enable" from the <flag> of its <option>',
}


@contextmanager
def engine_errors() -> Iterator[None]:
    """Raise an error of MuJoCo as one sentence with its remedy."""
    try:
        yield
    except Exception as error:
        message = str(error).lower()
        known = (remedy for word, remedy in REMEDIES.items() if word in message)
        remedy = next(known, "change in the model's file what it names")
        raise OutsideError.of("MuJoCo cannot step the model", error, remedy) from error


@dataclass(frozen=True)
class MujocoWorld:
    """A compiled model, the physics substeps of one control step and the derived fields wanted.

    fields: names of `MjData` arrays besides qpos and qvel, such as `xpos` or `sensordata`. Forces
    and accelerations among them are those of the last substep.
    """

    model: mujoco.MjModel
    substeps: int
    fields: tuple[str, ...] = ()

    @staticmethod
    def compile(
        spec: mujoco.MjSpec, control_step: float, fields: tuple[str, ...] = ()
    ) -> "MujocoWorld":
        """Compile a scene; `control_step` in seconds must be a multiple of its time step."""
        # A diverging environment then becomes NaN instead of being reset silently.
        spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        return MujocoWorld(spec.compile(), round(control_step / spec.option.timestep), fields)

    @property
    def control_step(self) -> float:
        """Seconds of simulated time per control step."""
        return self.substeps * self.model.opt.timestep

    @property
    def driven(self) -> np.ndarray:
        """Numbers of the actuators that take an action. The others hold their only value."""
        low, high = self.model.actuator_ctrlrange.T
        return np.flatnonzero(high > low)

    def controls(self, unit: Any) -> Any:
        """Actions `unit [envs, action]` in [-1, 1] as controls `[envs, nu]`, of NumPy or JAX.

        An actuator whose control range is a single value holds it and takes no action.
        """
        low, high = self.model.actuator_ctrlrange.T
        # A holding actuator may read any coordinate, because its range is zero.
        coordinate = np.maximum(np.cumsum(high > low) - 1, 0)
        return low + 0.5 * (unit[:, coordinate] + 1.0) * (high - low)


class NativePhysics:
    """Steps `num_envs` copies of a world; `threads` 0 means all cores.

    The batch is scratch space: every call writes the states of all environments into it and reads
    them back. If several devices call, each for its share of the environments, a lock runs the
    calls one after the other, each with all threads.
    """

    def __init__(self, world: MujocoWorld, num_envs: int, threads: int = 0):
        self.world = world
        self.num_envs = num_envs
        with engine_errors():
            self._batch = Batch(world.model, num_envs, threads)
        self._lock = threading.Lock()
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._control = self._batch.bind("ctrl")
        self._fields = {name: self._batch.bind(name) for name in world.fields}
        # By default derived fields lag one substep; this stage updates them at the new state.
        stages = mujoco.mjtStage
        self._stage = int(stages.mjSTAGE_VEL if world.fields else stages.mjSTAGE_NONE)
        self._shapes = jax.eval_shape(self._read)
        # Outside of any other program each call would compile a program of its own.
        self._start, self._advance, self._restart = (
            jax.jit(partial(self._call, function))
            for function in (self._host_init, self._host_step, self._host_reset)
        )

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        return self._start(qpos, qvel)

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        return self._advance(state.engine, control)

    def reset(self, state: PhysicsState, mask: Array, qpos: Array, qvel: Array) -> PhysicsState:
        return self._restart(state.engine, state.fields, mask, qpos, qvel)

    def _call(self, function: Callable[..., PhysicsState], *arguments: Any) -> PhysicsState:
        """Call the host from the program; under vmap, once for each mapped element."""
        if jax.default_backend() != "cpu":
            return jax.pure_callback(function, self._shapes, *arguments, vmap_method="sequential")

        # pure_callback copies its arguments on XLA's threads. If there is only one, as on one core,
        # that thread waits here for the copy and never makes it. Buffers need no copy.
        def in_place(_: Any, results: PhysicsState, *buffers: Any) -> None:
            state = function(*jax.tree.map(np.asarray, buffers))
            for result, array in zip(jax.tree.leaves(results), jax.tree.leaves(state), strict=True):
                np.asarray(result)[...] = array

        call = buffer_callback(in_place, self._shapes, vmap_method="sequential")
        return call(*arguments)

    def _host_init(self, qpos, qvel) -> PhysicsState:
        everything = np.ones(self.num_envs, bool)
        return self._host_reset(self._bits(), {}, everything, qpos, qvel)

    def _host_step(self, engine, control) -> PhysicsState:
        with self._lock:
            self._write(engine)
            self._control[:] = self.world.controls(np.asarray(control, np.float64))
            with engine_errors():
                self._batch.step(nstep=self.world.substeps, stage=self._stage)
            return self._read()

    def _host_reset(self, engine, fields, mask, qpos, qvel) -> PhysicsState:
        mask = np.asarray(mask)
        envs = np.flatnonzero(mask)
        with self._lock:
            self._write(engine)
            self._batch.reset(envs, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
            self._qpos[envs] = np.asarray(qpos)[envs]
            self._qvel[envs] = np.asarray(qvel)[envs]
            if self.world.fields and len(envs):
                # The whole forward pass, because no step has computed forces and accelerations yet.
                with engine_errors():
                    self._batch.forward(envs, stage=int(mujoco.mjtStage.mjSTAGE_ACC))
            state = self._read()
        # Derived fields are not part of the state rows: the other environments keep their old ones.
        for name, values in fields.items():
            state.fields[name][~mask] = np.asarray(values)[~mask]  # type: ignore[index]
        return state

    def _write(self, engine) -> None:
        self._batch.state[:] = np.asarray(engine).view(np.float64)

    def _bits(self) -> np.ndarray:
        return np.ascontiguousarray(self._batch.state).view(np.uint32)

    def _read(self) -> PhysicsState:
        """Copies, because the next call overwrites the batch's arrays."""
        with np.errstate(over="ignore"):  # a diverging environment becomes infinite, as it should
            return PhysicsState(
                qpos=self._qpos.astype(np.float32),  # type: ignore[arg-type]
                qvel=self._qvel.astype(np.float32),  # type: ignore[arg-type]
                fields={name: array.astype(np.float32) for name, array in self._fields.items()},  # type: ignore[misc]
                engine=self._bits().copy(),  # type: ignore[arg-type]
            )
