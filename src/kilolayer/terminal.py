"""What commands print to: text as it is, for a name may hold [brackets] and :colons:."""

from rich.console import Console


def console(width: int | None = None, stderr: bool = False) -> Console:
    """Lines are not wrapped, so that a path or a command can be copied. width: of tables."""
    return Console(
        highlight=False, soft_wrap=True, markup=False, emoji=False, width=width, stderr=stderr
    )


OUTPUT = console()
