"""Things of a user's own for --task, --agent and study, each with one fault."""

from kilolayer.tasks.point import PointMaze

NUMBER = 3


def good():
    return PointMaze("u")


def raises():
    raise ZeroDivisionError("in the user's own code")


def wants(size):
    return PointMaze(size)


def nothing():
    return None


def other():
    return {"a": "dictionary"}


class NoTask:
    pass


def asserts():
    raise AssertionError


def exits():
    raise SystemExit(7)
