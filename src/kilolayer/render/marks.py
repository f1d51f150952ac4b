"""What is drawn on the ground beside a task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A disc that sentences speak of: its name, its colour as #rrggbb, its place x, y and radius in
    the goal's unit."""

    name: str
    colour: str
    place: tuple[float, float]
    radius: float
