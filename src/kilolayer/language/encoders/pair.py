"""An encoder that combines one encoder for sentences with another for pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilolayer.language.base import Encoder, Features
from kilolayer.language.encoders.checks import reads_nothing, sees_nothing


@dataclass(frozen=True)
class Pair:
    """An Encoder that takes sentences with `texts` and pictures with `images`.

    Raises UserError if `texts` takes no sentences or `images` takes no pictures.
    """

    texts: Encoder
    images: Encoder

    def __post_init__(self) -> None:
        if not self.texts.reads:
            raise reads_nothing(self.texts.name)
        if not self.images.sees:
            raise sees_nothing(self.images.name)

    @property
    def name(self) -> str:
        return f"{self.texts.name}+{self.images.name}"

    @property
    def reads(self) -> bool:
        return True

    @property
    def sees(self) -> bool:
        return True

    def fingerprint(self) -> str:
        both = f"{self.texts.fingerprint()}+{self.images.fingerprint()}"
        return hashlib.sha256(both.encode()).hexdigest()

    def text(self, sentences: Sequence[str]) -> Features:
        return self.texts.text(sentences)

    def image(self, pictures: np.ndarray) -> Features:
        return self.images.image(pictures)
