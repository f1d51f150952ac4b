"""The one error that a user may see."""


class UserError(Exception):
    """A user's request that cannot be fulfilled; the message gives the reason and a remedy.

    The command line prints only the message and exits with code 2.
    """


def bad_field(field: str, value: object, allowed: str, nearest: object | None = None) -> UserError:
    """The error for a field: its name, its value, what is allowed, and the nearest valid choice."""
    hint = "" if nearest is None else f"; the nearest valid choice is {nearest}"
    return UserError(f"{field} = {value!r} is not allowed: {allowed}{hint}.")
