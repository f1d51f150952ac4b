"""Registered Gymnasium environments, made and stepped in groups: here, or one group per process.

This module loads neither JAX nor Gymnasium before they are needed, because every process imports
it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from kilolayer.errors import OutsideError, UserError, bad_field, nearest
from kilolayer.lookup import FAILURES, current_directory_importable, require_module_name

MISSING = "Gymnasium is not installed: `pip install 'kilolayer[gym]'`."
# Seen with gymnasium-robotics 1.4.2 and MuJoCo 3.17 and 4.0: its comparison of joint types fails,
# with an assertion error that does not name the cause.
ROBOTICS = (
    "the Fetch, Hand and Kitchen environments of gymnasium-robotics 1.4.2 do not understand the "
    "enumerations of MuJoCo 3.17 and later; PointMaze_UMaze-v3 and the other mazes work"
)
# If one of these packages is installed, its environments are found without naming the package.
PACKAGES = ("gymnasium_robotics",)
# A process takes a second to start and 100 MB, so it must step at least this many environments.
MIN_PER_PROCESS = 4
OBSERVED = ("observation", "achieved_goal", "desired_goal")


class Group:
    """`count` environments that are stepped together. Gymnasium sees them as one environment.

    Observation: the arrays `observation`, `achieved_goal` and `desired_goal`, `[count, size]`
    float32, and `terminated` and `truncated`, `[count]`. Action: `control [count, action]`, the
    flags `restart` and `advance`, and the `seed` of a restart, each `[count]`. An environment with
    neither flag does not move.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012, as Gymnasium declares it
    render_mode = None

    def __init__(self, name: str, specification: Any, arguments: Mapping[str, Any], count: int):
        self._name = name
        self._make = partial(make_specified, specification, **arguments)
        self._first, self._count = self._make(), count
        spaces = import_module("gymnasium.spaces")
        space, self.control = self._first.observation_space, self._first.action_space
        flags = spaces.MultiBinary(count)
        observed = {key: unbounded((count, *space[key].shape)) for key in OBSERVED}
        self.observation_space = spaces.Dict(**observed, terminated=flags, truncated=flags)
        control = unbounded((count, *self.control.shape))
        seed = spaces.Box(0, 2**32 - 1, (count,), np.uint32)
        self.action_space = spaces.Dict(
            {"control": control, "restart": flags, "advance": flags, "seed": seed}
        )
        self._latest = {
            key: np.zeros(each.shape, each.dtype) for key, each in self.observation_space.items()
        }

    @cached_property
    def _environments(self) -> list[Any]:
        """The environments, made on first use: some groups are asked for their spaces only."""
        return [self._first, *(self._make() for _ in range(self._count - 1))]

    def reset(self, **options: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Gymnasium requires this call before the first step. Episodes begin with `restart`."""
        return self._latest, {}

    def step(
        self, action: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        for index in np.flatnonzero(action["restart"]).tolist():
            made, seed = self._environments[index], int(action["seed"][index])
            observation = reset(self._name, made, seed)
            self._record(index, observation, terminated=False, truncated=False)
        for index in np.flatnonzero(action["advance"]).tolist():
            control = action["control"][index].astype(self.control.dtype)
            made = self._environments[index]
            observation, terminated, truncated = step(self._name, made, control)
            self._record(index, observation, terminated, truncated)
        return self._latest, 0.0, False, False, {}

    def close(self) -> None:
        made = self.__dict__.get("_environments", [self._first])
        for environment in made:
            environment.close()

    def _record(
        self, index: int, observation: Mapping[str, Any], terminated: bool, truncated: bool
    ) -> None:
        for key in OBSERVED:
            self._latest[key][index] = observation[key]
        self._latest["terminated"][index] = terminated
        self._latest["truncated"][index] = truncated


class Processes:
    """Groups of equal size, each in a process of its own, stepped by Gymnasium's AsyncVectorEnv.

    Raises UserError if the processes cannot start.
    """

    def __init__(self, name: str, make_group: Callable[[int], Group], count: int, number: int):
        make = partial(make_group, count // number)
        vector = import_module("gymnasium.vector")
        try:
            # Not forked: JAX's threads in this process can deadlock a forked copy.
            self._vector = vector.AsyncVectorEnv(
                [make] * number,
                context="spawn",
                copy=False,
                autoreset_mode=vector.AutoresetMode.DISABLED,
            )
            self._vector.reset()
        except (EOFError, ConnectionError) as error:
            raise UserError(
                "the processes that step the Gymnasium environments did not start: put the code of "
                "your script below `if __name__ == '__main__':`, or step them in this process with "
                "gym_processes = 1."
            ) from error
        self._name, self._shape = name, (number, count // number)

    def step(self, action: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Any]:
        shared = {
            key: array.reshape(*self._shape, *array.shape[1:]) for key, array in action.items()
        }
        try:
            found = self._vector.step(shared)[0]
        # An error in the environment's own code has another type, see `environment_errors`.
        except (EOFError, ConnectionError) as error:
            raise UserError(
                f"a process that steps gym = {self._name!r} was killed, perhaps because the memory "
                "is used up: give fewer --gym-processes or --num-envs; a run goes on with "
                "`kilolayer train --resume`."
            ) from error
        return {key: array.reshape(-1, *array.shape[2:]) for key, array in found.items()}, None


def process_count(specification: Any, count: int, asked: int | None) -> int:
    """How many processes step `count` environments: a divisor of `count`, at most the number asked
    for, by default at most one per core. If only this process has the environment's code, 1."""
    if not isinstance(specification.entry_point, str):
        return 1
    cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1  # the former since Python 3.13
    most = min(asked or cores, count // MIN_PER_PROCESS)
    return max((number for number in range(1, most + 1) if count % number == 0), default=1)


def make_specified(specification: Any, **arguments: Any) -> Any:
    """The environment of a specification, without its own limit on the length of an episode."""
    return import_module("gymnasium").make(
        # The caller counts the steps of an episode.
        specification, max_episode_steps=-1, disable_env_checker=True, **arguments
    )  # fmt: skip


def make_environment(environment: str, **arguments: Any) -> Any:
    """The environment called `environment`, without its own limit on the length of an episode.

    Raises UserError with the nearest name if there is none, or if it cannot be made.
    """
    specification = find_environment(environment)
    try:
        return make_specified(specification, **arguments)
    # The code of an environment may fail in any way: a missing driver, asset or package, ...
    except FAILURES as error:
        remedy = "install what it asks for, or choose another with --gym"
        robotics = str(specification.entry_point).startswith("gymnasium_robotics")
        if robotics and isinstance(error, AssertionError):
            remedy = ROBOTICS
        raise OutsideError.of(
            f"the environment {environment} cannot be made", error, remedy
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
        require_module_name("gym", environment, package, name, "package:name")
        _import_package(environment, package)
    for known in PACKAGES:
        if name not in gymnasium.registry and find_spec(known):
            import_module(known)
    if name not in gymnasium.registry:
        close = nearest(name, _names_of(package, gymnasium.registry))
        raise bad_field(
            "gym",
            environment,
            "no environment of this name is registered (`pip install gymnasium-robotics` brings "
            "mazes and arms; package:name imports a package first)",
            f"{package}:{close}" if package and close else close,
        )
    return gymnasium.registry[name]


def _names_of(package: str, registry: Mapping[str, Any]) -> list[str]:
    """The environments of a package; without one, all but Gymnasium's own, which have no goals."""
    roots = {name: _root_of(specification) for name, specification in registry.items()}
    if package:
        return [name for name, root in roots.items() if root == package.split(".")[0]]
    return [name for name, root in roots.items() if root not in ("gymnasium", "shimmy")]


def _root_of(specification: Any) -> str:
    """The package that an environment's code is in."""
    made = specification.entry_point
    module = made if isinstance(made, str) else getattr(made, "__module__", "")
    return module.split(":")[0].split(".")[0]


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
    except FAILURES as error:
        raise _broken(environment, package, error) from error


def _broken(environment: str, package: str, error: BaseException) -> OutsideError:
    what = f"gym = {environment!r}: the package {package} cannot be imported"
    return OutsideError.of(what, error, "correct the package, or install what it asks for")


@contextmanager
def environment_errors(environment: str, function: str) -> Iterator[None]:
    """Turn an error in the environment's own code into a sentence that names the environment."""
    try:
        yield
    except UserError:
        raise
    except FAILURES as error:
        what = f"gym = {environment!r}: its {function} fails"
        raise OutsideError.of(what, error, "correct the environment") from error


def reset(environment: str, made: Any, seed: int) -> Mapping[str, Any]:
    """The first observation of an episode; raises UserError if `reset` is not as in Gymnasium."""
    with environment_errors(environment, "reset"):
        outcome = made.reset(seed=seed)
    if not isinstance(outcome, tuple) or len(outcome) != 2:
        raise _old_interface(environment, "reset", "an observation and a dictionary")
    check_observation(environment, made, outcome[0])
    for key in OBSERVED:
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(outcome[0][key], np.float32)).all()
        # An environment that diverges in a step is reset. No reset can mend this.
        if not finite:
            raise UserError(
                f"gym = {environment!r}: its reset returns nan or infinity in {key!r}: correct the "
                "environment."
            )
    return outcome[0]


def step(environment: str, made: Any, control: np.ndarray) -> tuple[Mapping[str, Any], bool, bool]:
    """Observation, terminated and truncated; raises UserError if `step` is not as in Gymnasium."""
    with environment_errors(environment, "step"):
        outcome = made.step(control)
    if not isinstance(outcome, tuple) or len(outcome) != 5:
        raise _old_interface(environment, "step", "five values")
    observation, _, terminated, truncated, _ = outcome
    check_observation(environment, made, observation)
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if _mismatch(flag, ()):
            raise UserError(
                f"gym = {environment!r}: its step returns {flag!r} as {name!r}: return a bool."
            )
    return observation, terminated, truncated


def check_observation(environment: str, made: Any, observation: Any) -> None:
    """Raises UserError if the observation differs from what the environment declares."""
    if not isinstance(observation, Mapping):
        raise UserError(
            f"gym = {environment!r} returns an observation of type {type(observation).__name__} "
            "where it declares a dictionary: return the dictionary."
        )
    for key in OBSERVED:
        declared = made.observation_space[key].shape
        mismatch = _mismatch(observation[key], declared) if key in observation else "lacks"
        if mismatch:
            raise UserError(
                f"gym = {environment!r} returns an observation that {mismatch} its {key!r}, which "
                f"it declares with the shape {declared}: make the two agree."
            )


def _mismatch(value: Any, declared: tuple[int, ...]) -> str:
    """What is wrong with an array of an observation, empty if nothing is."""
    try:
        found = np.asarray(value)
    except ValueError:  # lists of unequal length
        return "has no array in"
    if found.dtype.kind not in "fiub":
        return f"has no real numbers ({found.dtype}) in"
    return "" if found.shape == declared else f"has the shape {found.shape} in"


def _old_interface(environment: str, function: str, returns: str) -> UserError:
    return UserError(
        f"gym = {environment!r} has the interface of older Gym: its {function} must return "
        f"{returns}. Wrap it for Gymnasium, such as with shimmy's GymV21CompatibilityV0."
    )


def unbounded(shape: tuple[int, ...]) -> Any:
    """Gymnasium's space of float32 arrays of this shape."""
    return import_module("gymnasium.spaces").Box(-np.inf, np.inf, shape, np.float32)
