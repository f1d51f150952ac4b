"""Colours, lines and marks: Okabe and Ito's palette, distinct with any colour vision."""

from dataclasses import dataclass
from typing import Literal

Dash = Literal["-", "--", "-.", ":"]

INK, PAPER, WALL, GRID = "#1B1F24", "#FFFFFF", "#6B7785", "#E3E6EA"
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#999999"
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW, GREY)
# For lines and points on white, where yellow is invisible. Up to 28 lines differ in colour or dash.
LINES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SUCCESS, FAILURE = GREEN, ORANGE


@dataclass(frozen=True)
class Mark:
    """A coloured disc on the ground, for instructions such as "go to the red disc".

    colour: #rrggbb. place: position x, y. place and radius are in the goal's unit.
    """

    name: str
    colour: str
    place: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class LineStyle:
    """Colour, dash and marker of a line, so that lines also differ in black and white."""

    colour: str
    dash: Dash
    marker: str


def line_style(index: int) -> LineStyle:
    """Colour, dash and marker of line number `index`."""
    return LineStyle(
        LINES[index % len(LINES)], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
    )


def rgb(colour: str) -> tuple[float, float, float]:
    """`#RRGGBB` as red, green and blue in 0 to 1."""
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def luminance(colour: str) -> float:
    """Perceived lightness of `#RRGGBB`, in 0 to 1 (the luma of Rec. 709)."""
    red, green, blue = rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
