"""The zoo: trained policies that ship with the package, named `zoo:NAME`.

An installed package has them in `kilolayer/zoo`, a checkout in `zoo/` at its root.
"""

from importlib import resources
from pathlib import Path

from kilolayer.errors import bad_field, nearest
from kilolayer.runtime import hub
from kilolayer.runtime.hub import CARD

PREFIX = "zoo:"


def zoo_directories() -> dict[str, Path]:
    """The policy directory of every policy in the zoo, by its name, in alphabetical order."""
    root = _root()
    if root is None:
        return {}
    return {card.parent.name: card.parent for card in sorted(root.glob(f"*/{CARD}"))}


def resolve(path: str | Path) -> Path:
    """The directory of `zoo:NAME` or `hf:OWNER/NAME`; any other path is returned unchanged.

    Raises UserError with the nearest name and a list of all if the zoo has no such policy, and as
    `hub.download` does.
    """
    if str(path).startswith(hub.PREFIX):
        return hub.download(str(path).removeprefix(hub.PREFIX))
    name = _prefixed_name(path)
    if name is None:
        return Path(path)
    found = zoo_directories()
    if name in found:
        return found[name]
    likely = nearest(name, found) if name else None
    names = ", ".join(PREFIX + each for each in found)
    allowed = f"it is one of {names}" if found else "this installation has no zoo"
    raise bad_field("policy", str(path), allowed, PREFIX + likely if likely else None)


def default_output(path: str | Path, inside: str) -> Path:
    """Default output path of a command: `inside` the directory of the run or policy.

    For a policy of the zoo or the hub, the output goes to the current directory, because those
    directories are not the user's: `media/play.mp4` of `zoo:ant` is `play_ant.mp4`.
    """
    name = zoo_name(path) or hub.hub_name(path)
    if name is None:
        return Path(path) / inside
    last = Path(inside)
    return Path(f"{last.stem}_{name}{last.suffix}")


def zoo_name(path: str | Path) -> str | None:
    """The name of a policy of the zoo, given as `zoo:NAME` or by its directory; else None."""
    name, root = _prefixed_name(path), _root()
    if name is None and root is not None and Path(path).resolve().parent == root.resolve():
        return Path(path).resolve().name
    return name


def _prefixed_name(path: str | Path) -> str | None:
    return str(path).removeprefix(PREFIX) if str(path).startswith(PREFIX) else None


def _root() -> Path | None:
    package = Path(str(resources.files("kilolayer")))
    installed, checkout = package / "zoo", package.parents[1]
    if installed.is_dir():
        return installed
    inside_checkout = (checkout / "pyproject.toml").is_file() and (checkout / "zoo").is_dir()
    return checkout / "zoo" if inside_checkout else None
