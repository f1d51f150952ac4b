"""Which PRNG keys a program draws from: a recorder for tests of independence."""

import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest

DRAWS = ("bits", "uniform", "normal", "randint", "categorical", "permutation", "truncated_normal")


class Record:
    """drawn: by key, where it was drawn from. split: the keys that others were made of."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[int, ...], list[str]] = defaultdict(list)
        self.split: set[tuple[int, ...]] = set()
        self.inside = False  # a function of jax.random calls others: only the outermost counts

    def assert_independent(self) -> None:
        jax.effects_barrier()
        assert len(self.drawn) > 0
        twice = {tuple(at) for at in self.drawn.values() if len(at) > 1}
        assert not twice, twice
        # A draw's numbers are those that its key's children are made of.
        both = {tuple(at) for key, at in self.drawn.items() if key in self.split}
        assert not both, both


@contextmanager
def recorded_draws() -> Iterator[Record]:
    """Record what the functions of `jax.random` are given, also inside compiled programs."""
    record = Record()

    def wrap(name: str, function: Any) -> Any:
        def recorded(key: jax.Array, *arguments: Any, **options: Any) -> Any:
            if record.inside:
                return function(key, *arguments, **options)
            caller = traceback.extract_stack(limit=2)[0]
            site = f"{name} in {caller.name}, line {caller.lineno} of {caller.filename}"

            def keep(data: np.ndarray) -> None:
                number = tuple(np.asarray(data).tolist())
                if name in DRAWS:
                    record.drawn[number].append(site)
                else:
                    record.split.add(number)

            record.inside = True
            try:
                jax.debug.callback(keep, jax.random.key_data(key))
                return function(key, *arguments, **options)
            finally:
                record.inside = False

        return recorded

    with pytest.MonkeyPatch.context() as patch:
        for name in (*DRAWS, "split", "fold_in"):
            patch.setattr(jax.random, name, wrap(name, getattr(jax.random, name)))
        yield record
        jax.effects_barrier()
