"""MuJoCo on an accelerator: MJX, in its JAX implementation or, on NVIDIA, in its Warp one.

The engine steps the same compiled model as the native engine, in float32. MJX aligns the contact of
a capsule that stands steeply on a plane differently. The difference matters with a pyramidal
friction cone: see the tests.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import copy
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.errors import UserError
from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.types import Array

# Fields that a step reads besides positions, velocities and controls.
CARRIED = ("time", "act", "history", "qacc_warmstart")
# Warp allocates memory for this many contacts and constraint rows; it reports an overflow on
# standard output.
WARP_CONTACTS = 64
WARP_ROWS = 4 * WARP_CONTACTS


class MjxPhysics(Physics):
    """Steps `num_envs` copies of a world; `impl`: `jax` or `warp`.

    Derived forces and accelerations are those at the new state; the native engine has those of the
    last substep. Repeats are bit-identical in the JAX implementation; Warp on a GPU adds up
    contacts in no fixed order.

    Raises UserError if MJX is not installed or cannot express the world.
    """

    def __init__(self, world: MujocoWorld, num_envs: int, impl: str = "jax"):
        self.world = world
        self._mjx = _import_mjx(impl)
        model = copy(world.model)
        # MJX never resets a diverging environment, and Warp does not accept this flag.
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        room = {"naconmax": num_envs * WARP_CONTACTS, "njmax": WARP_ROWS}
        try:
            self._model = self._mjx.put_model(model, jax.local_devices()[0], impl)
            self._blank_data = self._mjx.make_data(
                model, jax.local_devices()[0], impl, **(room if impl == "warp" else {})
            )
        # MJX raises NotImplementedError for a feature that it lacks, AssertionError for a device.
        except (NotImplementedError, AssertionError) as error:
            raise UserError(
                f"MJX ({impl}) cannot run this task: {str(error).rstrip('.')}; "
                "use --physics native."
            ) from error
        blank = mujoco.MjData(model)
        self._shapes = {name: getattr(blank, name).shape for name in world.fields}
        self._start = jax.jit(jax.vmap(self._start_one))
        self._advance = jax.jit(jax.vmap(self._advance_one))

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        return self._start(qpos, qvel)

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        return self._advance(state, self.world.controls(control))

    def _start_one(self, qpos: Array, qvel: Array) -> PhysicsState:
        """The state of one environment at its start."""
        return self._read(self._blank_data.replace(qpos=qpos, qvel=qvel))

    def _advance_one(self, state: PhysicsState, control: Array) -> PhysicsState:
        """One control step of one environment with `control [nu]` in the actuators' own units."""
        data = self._blank_data.replace(
            qpos=state.qpos, qvel=state.qvel, ctrl=control, **state.engine
        )

        def substep(data: Any, _: None) -> tuple[Any, None]:
            return self._mjx.step(self._model, data), None

        with _patched_mjx():
            data = jax.lax.scan(substep, data, length=self.world.substeps)[0]
        return self._read(data)

    def _read(self, data: Any) -> PhysicsState:
        """The state in `data`. Its derived fields lag one substep, so they are computed again."""
        fields = {}
        if self.world.fields:
            with _patched_mjx():
                current = self._mjx.forward(self._model, data)
            for name, shape in self._shapes.items():
                owner = current if name in current.__dataclass_fields__ else current._impl
                fields[name] = jnp.asarray(getattr(owner, name), jnp.float32).reshape(shape)
        engine = {name: jnp.asarray(getattr(data, name), jnp.float32) for name in CARRIED}
        return PhysicsState(data.qpos, data.qvel, fields, engine)


def _import_mjx(impl: str) -> Any:
    """MJX's module; raises UserError if what `impl` needs is not installed."""
    extra = impl if impl == "warp" else "mjx"
    needed = ["mujoco.mjx", "warp"] if impl == "warp" else ["mujoco.mjx"]
    if not all(map(find_spec, needed)):
        raise UserError(
            f"the engine mjx ({impl}) is not installed: `pip install 'kilolayer[{extra}]'`, or use "
            "--physics native."
        )
    with redirect_stdout(io.StringIO()):  # MJX prints there that the optional Warp is missing
        from mujoco import mjx
    return mjx


@contextmanager
def _patched_mjx() -> Iterator[None]:
    """Fix two faults of MJX-JAX 3.17 while tracing."""
    from mujoco.mjx._src import derivative, math

    multiply, differentiate = math.quat_mul, derivative.deriv_smooth_vel

    def multiply_once(u: Array, v: Array) -> Array:
        # XLA fuses a chain of bodies into one kernel that recomputes the parents of every link. An
        # arm then is a hundred times slower (github.com/jax-ml/jax, issue 33761).
        return jax.lax.optimization_barrier(multiply(u, v))

    def differentiate_within_limits(model: Any, data: Any) -> Any:
        # In MuJoCo and Warp a servo at its force limit no longer damps. Without this an arm would
        # differ from theirs by 0.1 rad after one control step.
        low, high = model.actuator_forcerange.T
        force, limited = data.actuator_force, model.actuator_forcelimited.astype(bool)
        damps = jnp.where(limited & ((force <= low) | (force >= high)), 0.0, 1.0)
        gain, bias = model.actuator_gainprm, model.actuator_biasprm
        model = model.replace(
            actuator_gainprm=gain.at[:, 2].multiply(damps),
            actuator_biasprm=bias.at[:, 2].multiply(damps),
        )
        return differentiate(model, data)

    derivative.deriv_smooth_vel = differentiate_within_limits
    if jax.default_backend() == "cpu":
        math.quat_mul = multiply_once
    try:
        yield
    finally:
        math.quat_mul, derivative.deriv_smooth_vel = multiply, differentiate
