"""Interface of objects that interpret instructions, for the page and the control loop."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kilolayer.render.style import Mark


@dataclass(frozen=True)
class Interpretation:
    """The meaning of a sentence.

    goal `[goal]`. confidence: in 0 to 1. familiar: whether the sentence is like the training
    sentences. nearest: the nearest training sentence.
    """

    goal: np.ndarray
    confidence: float
    familiar: bool
    nearest: str


class Interpreter(Protocol):
    """Understands instructions about the marks on the ground.

    example: an instruction about these marks that it understands.
    """

    @property
    def marks(self) -> Sequence[Mark]: ...
    @property
    def example(self) -> str: ...

    def interpret(self, sentence: str) -> Interpretation:
        """Interpret a sentence; raises UserError for an invalid one."""
        ...

    def rearrange(self) -> None:
        """Replace the marks by others at other places."""
        ...
