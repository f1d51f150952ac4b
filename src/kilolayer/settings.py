"""Groups of settings: frozen dataclasses whose annotations are their checks and their help.

A field's type defines its allowed values: `Count`, for instance, is a whole number from 1 on. The
text below a field is the option's help on the command line. Each package declares its own group.
"""

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from kilolayer.errors import UserError, bad_field, nearest

MAX_INT32 = 2**31 - 1  # array indices have 32 bits
Count = Annotated[int, Interval(ge=1, le=MAX_INT32)]
# The host counts environment steps, so they may exceed 32 bits.
Steps = Annotated[int, Interval(ge=1, le=2**53)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
PositiveShare = Annotated[float, Interval(gt=0, le=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]

MAX_SEED = 2**32

# Metadata of a dataclass field that is not a setting.
NOT_A_SETTING = {"setting": False}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checks every field at construction; raises UserError that names the first wrong field."""

    def __post_init__(self) -> None:
        for name, adapter in _adapters(type(self)).items():
            value = getattr(self, name)
            try:
                checked = adapter.validate_python(value)
            except ValidationError as error:
                raise _wrong(type(self), name, value, error) from None
            if checked is not value:  # a whole number where a float is declared, or a former name
                object.__setattr__(self, name, checked)
        self.check()

    def check(self) -> None:
        """Raises UserError for fields that do not fit together."""


def settings_of(group: type | Settings) -> list[str]:
    """The names of a group's settings."""
    return [f.name for f in dataclasses.fields(group) if f.metadata.get("setting", True)]


def values_of(group: Settings) -> dict[str, Any]:
    """A group's settings and their values."""
    return {name: getattr(group, name) for name in settings_of(group)}


@cache
def _adapters(group: type) -> dict[str, TypeAdapter]:
    hints = get_type_hints(group, include_extras=True)
    config = ConfigDict(strict=True, allow_inf_nan=False)
    return {name: TypeAdapter(hints[name], config=config) for name in settings_of(group)}


def _wrong(group: type, name: str, value: Any, error: ValidationError) -> UserError:
    hint = get_type_hints(group, include_extras=True)[name]
    kinds = {each["type"] for each in error.errors()}
    default = next(f.default for f in dataclasses.fields(group) if f.name == name)
    if "literal_error" in kinds:
        choices = [str(each) for each in _choices(hint)]
        return bad_field(name, value, f"one of {', '.join(choices)}", nearest(str(value), choices))
    if kinds & {"int_type", "int_from_float"}:
        return bad_field(name, value, "it must be a whole number")
    if kinds & {"float_type", "finite_number"}:
        return bad_field(name, value, "it must be a finite number")
    bounds = _bounds(hint)
    if bounds:
        return bad_field(name, value, _describe(bounds, value), _nearest(bounds, value, default))
    # A type of the user's own agent may have parts without a name: tuple[int, ...].
    parts = [getattr(each, "__name__", None) for each in get_args(hint) or (hint,)]
    kind = " or ".join(map(str, parts if all(parts) else [hint]))
    return bad_field(name, value, f"it must be of type {kind.replace('NoneType', 'None')}")


def _choices(hint: Any) -> tuple:
    inner = [each for each in get_args(hint) if get_args(each)]
    return _choices(inner[0]) if inner else get_args(hint)


def _bounds(hint: Any) -> dict[str, float]:
    """`ge`, `gt`, `le` and `lt` of an annotated number, or of one in a union."""
    if get_origin(hint) is not Annotated:
        return next((found for each in get_args(hint) if (found := _bounds(each))), {})
    found: dict[str, float] = {}
    for mark in hint.__metadata__:
        for each in mark if isinstance(mark, Interval) else (mark,):
            if isinstance(each, Ge | Gt | Le | Lt):
                found |= dataclasses.asdict(each)
    return found


def _describe(bounds: dict[str, float], value: float) -> str:
    if bounds.get("le", 0) >= MAX_INT32:  # a limit this large is named only if it is exceeded
        above = value > bounds["le"]
        bounds = {kind: end for kind, end in bounds.items() if (kind == "le") == above}
    low, high = ("ge" in bounds or "gt" in bounds), ("le" in bounds or "lt" in bounds)
    if low and high:
        left = f"[{bounds['ge']}" if "ge" in bounds else f"({bounds['gt']}"
        right = f"{bounds['le']}]" if "le" in bounds else f"{bounds['lt']})"
        return f"it must lie in {left}, {right}"
    words = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}
    kind, value = next(iter(bounds.items()))
    return f"it must be {words[kind]} {value}"


def _nearest(bounds: dict[str, float], value: float, default: Any) -> Any:
    if "ge" in bounds and value < bounds["ge"]:
        return bounds["ge"]
    if "le" in bounds and value > bounds["le"]:
        return bounds["le"]
    return None if default is dataclasses.MISSING else default
