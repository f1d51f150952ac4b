"""The zoo: trained policies that ship with the package, each known as `zoo:NAME`.

In an installed package they lie in `kilolayer/zoo`, in a checkout in `zoo/` at its root.
"""

from importlib import resources
from pathlib import Path

from kilolayer.errors import bad_field, nearest
from kilolayer.runtime import hub

PREFIX = "zoo:"
CARD = "policy.json"


def zoo_directories() -> dict[str, Path]:
    """The policy directory of every policy in the zoo, by its name, in alphabetical order."""
    root = _root()
    if root is None:
        return {}
    return {card.parent.name: card.parent for card in sorted(root.glob(f"*/{CARD}"))}


def resolve(path: str | Path) -> Path:
    """The directory that `zoo:NAME` or `hf:OWNER/NAME` stands for; any other path as it is.

    Raises UserError with the nearest name and a list of all if the zoo has no such policy, and as
    `hub.download` does.
    """
    if str(path).startswith(hub.PREFIX):
        return hub.download(str(path).removeprefix(hub.PREFIX))
    name = _name_after_prefix(path)
    if name is None:
        return Path(path)
    found = zoo_directories()
    if name in found:
        return found[name]
    likely = nearest(name, found) if name else None
    names = ", ".join(PREFIX + each for each in found)
    allowed = f"it is one of {names}" if found else "this installation has no zoo"
    raise bad_field("policy", str(path), allowed, PREFIX + likely if likely else None)


def beside(path: str | Path, inside: str) -> Path:
    """Where a command writes by default: `inside` the directory of the run or policy.

    For a policy of the zoo or the hub it is the current directory instead, since those directories
    are not the user's: `media/play.mp4` of `zoo:ant` is `play_ant.mp4`.
    """
    name = zoo_name(path) or hub.hub_name(path)
    if name is None:
        return Path(path) / inside
    last = Path(inside)
    return Path(f"{last.stem}_{name}{last.suffix}")


def zoo_name(path: str | Path) -> str | None:
    """The name of a policy of the zoo, given as `zoo:NAME` or by its directory; else None."""
    name, root = _name_after_prefix(path), _root()
    if name is None and root is not None and Path(path).resolve().parent == root.resolve():
        return Path(path).resolve().name
    return name


def _name_after_prefix(path: str | Path) -> str | None:
    return str(path).removeprefix(PREFIX) if str(path).startswith(PREFIX) else None


def _root() -> Path | None:
    package = Path(str(resources.files("kilolayer")))
    installed, checkout = package / "zoo", package.parents[1]
    if installed.is_dir():
        return installed
    inside_checkout = (checkout / "pyproject.toml").is_file() and (checkout / "zoo").is_dir()
    return checkout / "zoo" if inside_checkout else None
