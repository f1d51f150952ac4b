"""The card of an exported policy: names, units and ranges of its numbers.

A policy folder holds `card.json` and `policy.onnx`; with recorded waypoints also `value.onnx` and
`waypoints.npz`. The card names the files with their SHA-256 checksums.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from kilolayer_robot.errors import UserError

CARD = "card.json"
FORMAT, VERSION = "kilolayer-robot", 1
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Coordinate:
    """One number of an observation, a goal or an action.

    low, high: for an action the bounds of every sent action; for an observation or a goal the
    recorded range, or None if nothing was recorded.
    """

    name: str
    unit: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Card:
    """The facts about a policy that the loop needs.

    radius: a goal counts as reached within this Euclidean distance, in the goal's unit.
    control_step: seconds of a control step in training.
    safe_action `[action]`: the action to send without a valid observation or plan, for robots
    without a better one. files: SHA-256 by file name. made_by: versions and options of the export.
    """

    name: str
    observation: tuple[Coordinate, ...]
    goal: tuple[Coordinate, ...]
    action: tuple[Coordinate, ...]
    radius: float
    control_step: float
    safe_action: tuple[float, ...]
    files: dict[str, str] = field(default_factory=dict)
    made_by: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in self.action:
            if not (_is_number(each.low) and _is_number(each.high) and each.low < each.high):
                raise UserError(
                    f"the card of {self.name} has no finite bounds low < high for its action "
                    f"{each.name!r}: export the policy again with `kilolayer export --to FOLDER`."
                )
        if not (self.observation and self.goal and self.action):
            raise UserError(f"the card of {self.name} names no observation, goal or action.")
        for name in ("radius", "control_step"):
            value = getattr(self, name)
            if not (_is_number(value) and value > 0):
                raise UserError(
                    f"the card of {self.name} has {name} = {value!r}: the value must be above 0."
                )
        problem = self.action_problem(self.safe_action)
        if problem is not None:
            raise UserError(f"the safe action on the card of {self.name} {problem}.")

    @property
    def low(self) -> np.ndarray:
        """Lowest action, `[action]`."""
        return np.array([each.low for each in self.action], np.float32)

    @property
    def high(self) -> np.ndarray:
        """Highest action, `[action]`."""
        return np.array([each.high for each in self.action], np.float32)

    def action_problem(self, action: Any) -> str | None:
        """Why `action` is not an action within the bounds; None if it is one."""
        try:
            found = as_float32(action)
        except Exception:  # an array of another library may raise anything
            return "is not an array of numbers"
        if found.shape != (len(self.action),):
            return f"has shape {found.shape} and the policy's actions have ({len(self.action)},)"
        if not np.isfinite(found).all():
            return "is not finite"
        if (found < self.low).any() or (found > self.high).any():
            return "is outside the bounds of the policy's actions"
        return None

    def reached(self, achieved_goal: np.ndarray, goal: np.ndarray) -> bool:
        """Whether `achieved_goal [goal]` is within the radius of `goal [goal]`."""
        return bool(np.linalg.norm(np.asarray(achieved_goal) - goal) < self.radius)

    def parse_goal(self, text: str) -> np.ndarray:
        """The goal `[goal]` in a text such as `8,0`; raises UserError unless it fits."""
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        return self.checked_goal(values, text)

    def checked_goal(
        self, values: Sequence[float] | np.ndarray, given: object = None
    ) -> np.ndarray:
        """The goal `[goal]` in float32; raises UserError unless it is one finite number per
        coordinate."""
        try:
            # In float64 first: a number too large for float32 would be warned about.
            wide = np.asarray(values, np.float64)
        except (TypeError, ValueError, OverflowError):
            wide = np.empty(0)
        if wide.shape != (len(self.goal),) or not (np.abs(wide) <= FLOAT32_MAX).all():
            names = ", ".join(f"{each.name} ({each.unit})" for each in self.goal)
            given = given if given is not None else getattr(values, "tolist", lambda: values)()
            raise UserError(
                f"goal = {given!r} is not allowed: {self.name} takes {len(self.goal)} numbers "
                f"separated by commas, {names}."
            )
        return wide.astype(np.float32)

    @staticmethod
    def plain(observation: int, goal: int, action: int, radius: float = 0.1) -> "Card":
        """A card with sizes only: actions in [-1, 1] at 100 Hz, and zeros as the safe action."""

        def coordinates(kind: str, count: int, *bounds: float) -> tuple[Coordinate, ...]:
            return tuple(Coordinate(f"{kind} {index}", "", *bounds) for index in range(count))

        return Card(
            "policy",
            coordinates("observation", observation),
            coordinates("goal", goal),
            coordinates("action", action, -1.0, 1.0),
            radius,
            0.01,
            (0.0,) * action,
        )

    def to_json(self) -> str:
        return json.dumps(
            {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}, indent=2
        )

    @staticmethod
    def from_json(text: str, path: Path | str = CARD) -> "Card":
        """Raises UserError for text that is not a card, another version, and missing bounds."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not JSON: {error}.") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise UserError(
                f"{path} is not the card of a robot policy: `kilolayer export POLICY --to FOLDER` "
                "makes one."
            )
        version = values.pop("version", None)
        if version != VERSION:
            raise UserError(
                f"{path} has version {version!r} and this kilolayer-robot reads version {VERSION}: "
                "export the policy again, or install the kilolayer-robot of the same release."
            )
        try:
            for name in ("observation", "goal", "action"):
                values[name] = tuple(map(_coordinate, values[name]))
            values["safe_action"] = tuple(values["safe_action"])
            if not (isinstance(values["name"], str) and isinstance(values.get("files", {}), dict)):
                raise TypeError("name is not text, or files is not an object")
            return Card(**values)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged or incomplete: {error}.") from error

    @staticmethod
    def read(folder: Path) -> "Card":
        """The card in a policy folder; raises UserError if there is none."""
        path = folder / CARD
        try:
            return Card.from_json(path.read_text(encoding="utf-8"), path)
        except OSError as error:
            raise UserError(
                f"{folder} is not a policy folder ({CARD}: {error.strerror}): "
                "`kilolayer export POLICY --to FOLDER` makes one."
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not JSON: {error}.") from error


def as_float32(values: Any) -> np.ndarray:
    """A copy in float32; raises TypeError or ValueError for what is no array of real numbers, such
    as text or complex numbers, which numpy would convert."""
    with np.errstate(over="ignore"):  # a number too large becomes infinite, which is checked for
        return np.array(values).astype(np.float32, casting="same_kind")


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a number that float32 can hold."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool) and bool(abs(value) <= FLOAT32_MAX)


def _coordinate(fields: Any) -> Coordinate:
    """Raises TypeError for fields of other types than a card's."""
    found = Coordinate(**fields)
    if not (isinstance(found.name, str) and isinstance(found.unit, str)):
        raise TypeError(f"a name or a unit is not text in {fields}")
    if not all(each is None or _is_number(each) for each in (found.low, found.high)):
        raise TypeError(f"{found.name} has a bound that is no number")
    if (found.low is None) != (found.high is None):
        raise TypeError(f"{found.name} has one bound of two")
    return found
