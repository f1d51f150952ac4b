"""Gymnasium environments, stepped one after the other in this process.

Such an environment keeps its state to itself, so an engine of them cannot be pure as the others
are. What it promises instead: an episode is determined by the seed of its reset and the actions,
as far as the environment itself is; and a state that is not where its environment stands, as after
a resume, truncates its episode instead of going on from somewhere else.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from jax.experimental import io_callback

from kilolayer.errors import OutsideError
from kilolayer.lookup import current_directory_importable
from kilolayer.physics.base import PhysicsState
from kilolayer.types import Array, UserError, bad_field, nearest

MISSING = "Gymnasium is not installed: `pip install 'kilolayer[gym]'`."
OBSERVED = ("observation", "achieved_goal", "desired_goal")
# Seen with gymnasium-robotics 1.4.2 and MuJoCo 3.17 and 4.0: it compares types of joints in a way
# that fails, with an assertion that says nothing.
ROBOTICS = (
    "the Fetch, Hand and Kitchen environments of gymnasium-robotics 1.4.2 do not understand the "
    "enumerations of MuJoCo 3.17 and later; PointMaze_UMaze-v3 and the other mazes work"
)
# Packages whose environments are found without naming them, if they are installed.
PACKAGES = ("gymnasium_robotics",)


@dataclass(frozen=True)
class GymnasiumWorld:
    """A registered environment and the arguments it is made with.

    environment: its id, or `package:id` where a package must be imported first. control_step:
    seconds per step.
    """

    environment: str
    control_step: float
    arguments: Mapping[str, Any] = field(default_factory=dict)


class GymnasiumPhysics:
    """Steps `num_envs` environments.

    An environment has no generalised positions: the `qpos [envs, 1]` that a world starts from is
    the seed of its reset, an unsigned integer, and `qvel [envs, goal]` the goal it is told, NaN
    for the environment's own. A state has none; its fields are `observation`, `achieved_goal`,
    `goal`, `terminated` and `truncated`. engine `[envs, 2]`: the seed of the episode and the
    steps since.
    """

    def __init__(self, world: GymnasiumWorld, num_envs: int):
        self.world = world
        self._environments = [
            make_environment(world.environment, **world.arguments) for _ in range(num_envs)
        ]
        space, actions = self._environments[0].observation_space, self._environments[0].action_space
        self._low, self._high, self._dtype = actions.low, actions.high, actions.dtype
        self._told = np.zeros((num_envs, *space["desired_goal"].shape), np.float32)
        self._episode = np.zeros((num_envs, 2), np.uint32)
        self._fields = {
            "observation": np.zeros((num_envs, *space["observation"].shape), np.float32),
            "achieved_goal": np.zeros_like(self._told),
            "goal": np.zeros_like(self._told),
            "terminated": np.zeros(num_envs, bool),
            "truncated": np.zeros(num_envs, bool),
        }
        self._shapes = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), self._read()
        )

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        return io_callback(self._host_init, self._shapes, qpos, qvel, ordered=True)

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        return io_callback(self._host_step, self._shapes, state.engine, control, ordered=True)

    def reset(self, state: PhysicsState, mask: Array, qpos: Array, qvel: Array) -> PhysicsState:
        return io_callback(self._host_reset, self._shapes, mask, qpos, qvel, ordered=True)

    def _host_init(self, seeds, goals) -> PhysicsState:
        return self._host_reset(np.ones(len(self._environments), bool), seeds, goals)

    def _host_reset(self, mask, seeds, goals) -> PhysicsState:
        seeds, goals = np.asarray(seeds), np.asarray(goals)
        for world in np.flatnonzero(np.asarray(mask)).tolist():
            seed = int(seeds[world, 0])
            observation = reset(self.world.environment, self._environments[world], seed)
            self._episode[world], self._told[world] = (seed, 0), goals[world]
            self._record(world, observation, terminated=False, truncated=False)
        return self._read()

    def _host_step(self, engine, control) -> PhysicsState:
        unit = np.clip(np.asarray(control), -1.0, 1.0)
        actions = (self._low + 0.5 * (unit + 1.0) * (self._high - self._low)).astype(self._dtype)
        # An environment that left, or was left by, the state that it is asked to go on from.
        self._fields["truncated"] |= (np.asarray(engine) != self._episode).any(-1)
        ended = self._fields["terminated"] | self._fields["truncated"]
        # One that has ended stands still until it is reset.
        for world in np.flatnonzero(~ended).tolist():
            with outside(self.world.environment, "step"):
                outcome = self._environments[world].step(actions[world])
            if not isinstance(outcome, tuple) or len(outcome) != 5:
                raise _old(self.world.environment, "step", "five values")
            observation, _, terminated, truncated, _ = outcome
            self._episode[world, 1] += 1
            self._record(world, observation, terminated, truncated)
        return self._read()

    def _record(
        self, world: int, observation: Mapping[str, Any], terminated: bool, truncated: bool
    ) -> None:
        fields, told = self._fields, self._told[world]
        check_observation(self.world.environment, self._environments[world], observation)
        fields["observation"][world] = observation["observation"]
        fields["achieved_goal"][world] = observation["achieved_goal"]
        own = observation["desired_goal"]
        fields["goal"][world] = own if np.isnan(told).any() else told
        fields["terminated"][world], fields["truncated"][world] = terminated, truncated

    def _read(self) -> PhysicsState:
        """Copies: the arrays are overwritten by the next call."""
        nothing = np.zeros((len(self._environments), 0), np.float32)
        fields = {name: array.copy() for name, array in self._fields.items()}
        return PhysicsState(nothing, nothing, fields, self._episode.copy())  # type: ignore[arg-type]


@contextmanager
def outside(environment: str, function: str) -> Iterator[None]:
    """What the environment's own code raises inside becomes a sentence that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        what = f"gym = {environment!r}: its {function} fails"
        raise OutsideError.of(what, error, "correct the environment") from error


def reset(environment: str, made: Any, seed: int) -> Mapping[str, Any]:
    """The first observation of an episode; raises UserError unless reset is Gymnasium's own."""
    with outside(environment, "reset"):
        outcome = made.reset(seed=seed)
    if not isinstance(outcome, tuple) or len(outcome) != 2:
        raise _old(environment, "reset", "an observation and a dictionary")
    check_observation(environment, made, outcome[0])
    return outcome[0]


def check_observation(environment: str, made: Any, observation: Any) -> None:
    """Raises UserError unless the observation is as the environment declares it."""
    if not isinstance(observation, Mapping):
        raise UserError(
            f"gym = {environment!r} returns an observation of type {type(observation).__name__} "
            "where it declares a dictionary: return the dictionary."
        )
    for key in OBSERVED:
        declared = made.observation_space[key].shape
        found = np.shape(observation[key]) if key in observation else None
        if found != declared:
            told = "lacks" if found is None else f"has the shape {found} in"
            raise UserError(
                f"gym = {environment!r} returns an observation that {told} its {key!r}, which it "
                f"declares with the shape {declared}: make the two agree."
            )


def _old(environment: str, function: str, returns: str) -> UserError:
    return UserError(
        f"gym = {environment!r} has the interface of older Gym: its {function} must return "
        f"{returns}. Wrap it for Gymnasium, such as with shimmy's GymV21CompatibilityV0."
    )


def make_environment(environment: str, **arguments: Any) -> Any:
    """The environment called `environment`, without a limit of its own to an episode's length.

    Raises UserError with the nearest name if there is none, or if it cannot be made.
    """
    specification = find_environment(environment)
    try:
        return import_module("gymnasium").make(
            # The episodes' length is counted by whoever steps the environments.
            specification, max_episode_steps=-1, disable_env_checker=True, **arguments
        )  # fmt: skip
    # The code of an environment may fail in any way: a missing driver, asset or package, ...
    except Exception as error:
        way_out = "install what it asks for, or choose another with --gym"
        robotics = str(specification.entry_point).startswith("gymnasium_robotics")
        if robotics and isinstance(error, AssertionError):
            way_out = ROBOTICS
        raise OutsideError.of(
            f"the environment {environment} cannot be made", error, way_out
        ) from error


def find_environment(environment: str) -> Any:
    """Gymnasium's specification of a registered environment.

    Raises UserError if Gymnasium is missing or knows no such environment.
    """
    try:
        gymnasium = import_module("gymnasium")
    except ImportError as error:
        raise UserError(MISSING) from error
    package, _, name = environment.rpartition(":")
    if package:
        _import_package(environment, package)
    for known in PACKAGES:
        if name not in gymnasium.registry and find_spec(known):
            import_module(known)
    if name not in gymnasium.registry:
        raise bad_field(
            "gym",
            environment,
            "no environment of this name is registered (`pip install gymnasium-robotics` brings "
            "mazes and arms; package:name imports a package first)",
            nearest(name, gymnasium.registry),
        )
    return gymnasium.registry[name]


def _import_package(environment: str, package: str) -> None:
    try:
        with current_directory_importable():
            import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.split(".")[0]:
            raise _broken(environment, package, error) from error
        raise UserError(
            f"gym = {environment!r} cannot be found: {error}; install the package that registers "
            "it, or name the right one before the colon."
        ) from error
    except Exception as error:
        raise _broken(environment, package, error) from error


def _broken(environment: str, package: str, error: Exception) -> OutsideError:
    what = f"gym = {environment!r}: the package {package} cannot be imported"
    return OutsideError.of(what, error, "correct the package, or install what it asks for")
