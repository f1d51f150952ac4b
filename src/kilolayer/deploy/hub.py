"""Upload to the Hugging Face Hub: a policy's two files, a picture and a generated model card.

Config and commands lose the directories of this machine.
"""

import dataclasses
import json
import platform
import shlex
from importlib import import_module, metadata
from pathlib import Path

from kilolayer.config import RunConfig
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.deploy.zoo_entry import SECTION, Score, interval_text, open_zoo_entry, score_policy
from kilolayer.errors import bad_field
from kilolayer.replay.minari_format import PREFIX as MINARI
from kilolayer.runtime import hub

PICTURE = "picture.png"
SEED = 12345  # different from the evaluation seeds of runs
PACKAGES = ("kilolayer", "jax", "mujoco")
# Options of `train` that name directories, and the replacement value; None drops the option.
PATH_OPTIONS = {"--out": None, "--start-from": "RUN", "--resume": "RUN"}
# Options of `train` that name files, of which the name is kept.
FILE_OPTIONS = ("--dataset", "--config")


def write_folder(policy: DeployedPolicy, folder: Path, episodes: int) -> Score:
    """Write the policy directory to upload, and return the policy's score.

    A policy of the zoo has its score in its card; any other policy plays `episodes` here. Raises
    UserError for a task that does not exist on other machines.
    """
    details = dict(policy.details)
    if "teacher" in details:
        details["teacher"] = Path(details["teacher"]).name
    config = portable(policy.config)
    dataclasses.replace(policy, config=config, details=details).save(folder)
    return (
        open_zoo_entry(folder).score if SECTION in details else score_policy(policy, episodes, SEED)
    )


def write_card(
    policy: DeployedPolicy, score: Score, repository: str, licence: str, folder: Path
) -> None:
    """Write README.md, the model card. It shows the picture if the folder contains one."""
    task, torso = policy.task, policy.spec.torso
    unit = task.goal.coordinates[0].unit
    shown = (folder / PICTURE).is_file()
    picture = f"![A few moments of four episodes]({PICTURE})\n\n" if shown else ""
    commands = "\n".join(_commands(policy))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    text = f"""---
license: {licence.lower()}
library_name: kilolayer
pipeline_tag: reinforcement-learning
tags:
- reinforcement-learning
- goal-conditioned
- {task.name}
---

# {task.name}, depth {torso.depth}

{picture}A policy that reaches commanded goals in the task `{task.name}`, trained with Kilolayer.
Its network has {torso.depth} layers inside its residual blocks, {torso.width} units wide.

```
pip install 'kilolayer[hub]'
kilolayer play {hub.PREFIX}{repository}
kilolayer evaluate {hub.PREFIX}{repository}
```

## Score

{score.episodes} episodes with the task's evaluation goals, deterministic actions. 95 % intervals
over the episodes. They do not cover the variation between training seeds.

| measure | value |
|---|---|
| success, share of episodes | {interval_text(score.success, 3)} |
| time at goal, of {task.episode_length} control steps | {interval_text(score.time_at_goal, 1)} |
| final distance, {unit} | {interval_text(score.final_distance, 3)} |

## How it was made

```
{commands}
```

Method: {policy.method}. Pushed with Python {platform.python_version()}, {versions}.
The whole config is in `policy.json`. Licence: {licence}.
"""
    (folder / "README.md").write_text(text)


def send(folder: Path, repository: str, private: bool, update: bool) -> str:
    """Create the repository, upload the folder as one commit, and return the page's URL.

    private: make the repository private before the upload, also one that exists.
    Raises UserError if the repository exists and `update` is false, if there is no token, and if
    the hub cannot be reached.
    """
    with hub.hub_library(repository) as library:
        interface = library.HfApi()
        url = interface.create_repo(repository, private=private, exist_ok=update)
        if private and update:
            # A repository that exists already stayed as it was, perhaps public.
            interface.update_repo_settings(repository, private=True)
        interface.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="A policy of Kilolayer"
        )
    return str(url)


def require_repository(repository: str) -> None:
    """Raises UserError if the extra `hub` is missing or the repository name is invalid."""
    with hub.hub_library(repository):
        import_module("huggingface_hub.utils").validate_repo_id(repository)
    if repository.count("/") != 1:
        raise bad_field("repository", repository, "the name of a repository is OWNER/NAME")


def _commands(policy: DeployedPolicy) -> list[str]:
    zoo = policy.details.get(SECTION)
    if zoo is not None:
        return list(zoo["training"]["commands"])
    manifest = policy.path / "manifest.json"
    if manifest.is_file():
        return [without_paths(json.loads(manifest.read_text())["command"])]
    return [f"# a policy made by `kilolayer {policy.method}`; its command is not recorded"]


def portable(config: RunConfig) -> RunConfig:
    """The config without this machine's directories.

    Raises UserError unless the task is one of this package's.
    """
    if config.task.gym is not None or config.task.mjcf is not None or ":" in config.task.task:
        allowed = "only a policy of one of this package's tasks can be opened elsewhere"
        raise bad_field("task", config.task.name, allowed)
    names = {
        field: None if (value := config.flat()[field]) is None else _file_name(value)
        for field in ("start_from", "dataset")
    }
    return config.having(**names)


def without_paths(command: str) -> str:
    """The command for another machine: without --out, with RUN for other directories, and files
    without their directories."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        written, joined, value = word.partition("=")
        option = written.replace("_", "-")  # the command line accepts both
        if option not in (*PATH_OPTIONS, *FILE_OPTIONS):
            kept.append(word)
            continue
        value = value if joined else next(words, "")
        if option in FILE_OPTIONS:
            kept += [option, _file_name(value)]
        elif PATH_OPTIONS[option] is not None:
            kept += [option, "None" if value == "None" else str(PATH_OPTIONS[option])]
    return shlex.join(kept)


def _file_name(value: str) -> str:
    """The name without its directories; the name of a Minari data set may have slashes."""
    return value if value.startswith(MINARI) else Path(value).name
