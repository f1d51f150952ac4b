"""Coloured markers that are drawn on the ground."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A coloured disc on the ground, for instructions such as "go to the red disc".

    colour: #rrggbb. place: position x, y. place and radius are in the goal's unit.
    """

    name: str
    colour: str
    place: tuple[float, float]
    radius: float
