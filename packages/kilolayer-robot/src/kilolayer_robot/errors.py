"""The one error that a user may see."""


class UserError(Exception):
    """Something the user asked for cannot be done; the message says why and the way out.

    The command line prints the message alone and exits with code 2.
    """


def bad_field(field: str, value: object, allowed: str, nearest: object | None = None) -> UserError:
    """Build the error for a field: its name, its value, what is allowed, what is nearest."""
    hint = "" if nearest is None else f"; the nearest valid choice is {nearest}"
    return UserError(f"{field} = {value!r} is not allowed: {allowed}{hint}.")
