"""What all commands share: the console, which prints text as it is, and how numbers are read."""

from typing import Any

from rich.console import Console
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec


class _Console(Console):
    """Leaves a closed pipe, as of `| head`, to the boundary; rich's own answer is exit code 1."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError


def console(width: int | None = None) -> Console:
    """A console that takes [brackets] as they are and does not wrap lines, so that paths can be
    copied. width: of tables."""
    return _Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)


OUTPUT = console()
READERS = ConstructorRegistry()


def whole_number(text: str) -> int:
    """A whole number, also as 1e6; raises ValueError for other text."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


@READERS.primitive_rule
def _read_whole_numbers(info: Any) -> PrimitiveConstructorSpec | None:
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda texts: whole_number(texts[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )
