"""The console of the commands. Text is printed as it is: names may contain [brackets]."""

from rich.console import Console


class _Console(Console):
    """Leaves a closed pipe, as of `| head`, to the boundary; rich's own answer is exit code 1."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError


def console(width: int | None = None) -> Console:
    """A console that does not wrap lines, so that paths can be copied. width: of tables."""
    return _Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)


OUTPUT = console()
