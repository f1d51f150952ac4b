"""What a page or a loop asks of someone who understands sentences, whoever that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kilolayer.render.marks import Mark


@dataclass(frozen=True)
class Heard:
    """What was understood: goal `[goal]`, how sure that is, in 0 to 1, whether the sentence is like
    those that were learnt from, and the one of these that is nearest to it."""

    goal: np.ndarray
    confidence: float
    familiar: bool
    nearest: str


class Listener(Protocol):
    """Someone who understands sentences about the marks that lie on the ground.

    example: a sentence about them that will be understood.
    """

    @property
    def marks(self) -> Sequence[Mark]: ...
    @property
    def example(self) -> str: ...

    def hear(self, sentence: str) -> Heard:
        """Raises UserError for what is no sentence."""
        ...

    def rearrange(self) -> None:
        """Other marks at other places."""
        ...
