"""A module whose attributes fail when they are asked for."""


def __getattr__(name):
    raise RuntimeError(f"cannot load {name}")
