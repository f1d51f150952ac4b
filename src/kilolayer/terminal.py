"""The console of the commands. It prints text unchanged: names may contain [brackets] or
:colons:."""

from rich.console import Console


def console(width: int | None = None, stderr: bool = False) -> Console:
    """A console that does not wrap lines, so that paths can be copied. width: of tables."""
    return Console(
        highlight=False, soft_wrap=True, markup=False, emoji=False, width=width, stderr=stderr
    )


OUTPUT = console()
