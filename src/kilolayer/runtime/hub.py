"""Policies on the Hugging Face Hub (extra `hub`), named `hf:OWNER/NAME`.

`hf:OWNER/NAME@REVISION` selects a commit, tag or branch. Only the two files of a policy are
downloaded, into the cache of huggingface_hub. Nothing in them is executed.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from kilolayer.errors import UserError, bad_field

PREFIX = "hf:"
CARD, TENSORS = "policy.json", "policy.safetensors"


@cache
def download(name: str) -> Path:
    """The directory of a policy on the hub, fetched once per process.

    Raises UserError if the extra is missing, the hub cannot be reached, it has no such policy, or
    the policy's card names code that would have to be imported.
    """
    repository, _, revision = name.partition("@")
    with hub_library(name) as library:
        folder = library.snapshot_download(
            repository, revision=revision or None, allow_patterns=[CARD, TENSORS]
        )
    path = Path(folder)
    if not all((path / file).is_file() for file in (CARD, TENSORS)):
        allowed = f"this repository holds no {CARD} and {TENSORS}, as `kilolayer push` writes them"
        raise bad_field("policy", PREFIX + name, allowed)
    _require_no_code(name, path)
    return path


def hub_name(path: str | Path) -> str | None:
    """The last part of a hub policy's name, given as `hf:OWNER/NAME` or by its directory in the
    cache; else None."""
    text = str(path)
    if text.startswith(PREFIX):
        return text.removeprefix(PREFIX).partition("@")[0].rpartition("/")[2]
    folder = Path(path).parent
    cached = folder.name == "snapshots" and folder.parent.name.startswith("models--")
    return folder.parent.name.rpartition("--")[2] if cached else None


@contextmanager
def hub_library(repository: str) -> Iterator[Any]:
    """The hub's library, whose errors about the repository are raised as one sentence with a
    remedy. Raises UserError if the extra is missing."""
    name = PREFIX + repository
    try:
        library = import_module("huggingface_hub")
    except ImportError as error:
        raise UserError(
            "huggingface_hub is not installed: `pip install 'kilolayer[hub]'`."
        ) from error
    errors = import_module("huggingface_hub.errors")
    try:
        yield library
    except errors.HFValidationError as error:
        raise bad_field("policy", name, "a repository is named OWNER/NAME") from error
    except errors.RevisionNotFoundError as error:
        raise bad_field("policy", name, "the repository has no such revision") from error
    except errors.RepositoryNotFoundError as error:
        allowed = "the hub has no such repository, or it is private: `hf auth login` gives access"
        raise bad_field("policy", name, allowed) from error
    except errors.LocalTokenNotFoundError as error:
        raise UserError(_no_token(name)) from error
    except errors.HfHubHTTPError as error:
        raise UserError(_refused(name, error)) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"the hub cannot be reached for {name}: check the network, or give a policy directory "
            "of this machine."
        ) from error


def _refused(name: str, error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return _no_token(name)
    if status == 409:
        return f"{name} exists already: push to another name, or add --update to replace it there."
    return f"the hub refused {name} with status {status}: try again later."


def _no_token(name: str) -> str:
    return (
        f"the hub asks for a token to write {name}: `hf auth login` stores one, or set HF_TOKEN, "
        "with the right to write there."
    )


def _require_no_code(name: str, path: Path) -> None:
    """Raises UserError for a card that names a task or an agent as module:function, or a file."""
    try:
        config = json.loads((path / CARD).read_text())["config"]
        named = [config["task"][key] for key in ("task", "gym", "mjcf")] + [config["agent"]["name"]]
    except (ValueError, KeyError, TypeError) as error:
        raise bad_field("policy", PREFIX + name, "its card cannot be read") from error
    if any(":" in str(value) for value in named) or config["task"]["mjcf"] is not None:
        allowed = (
            "its card names code or files of its author's: fetch it with `hf download`, read them "
            "and give the folder instead"
        )
        raise bad_field("policy", PREFIX + name, allowed)
