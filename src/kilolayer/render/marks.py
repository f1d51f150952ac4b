"""Coloured markers that are drawn on the ground."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A coloured disc that an instruction can refer to.

    colour: #rrggbb. place: x, y. place and radius are in the goal's unit.
    """

    name: str
    colour: str
    place: tuple[float, float]
    radius: float
