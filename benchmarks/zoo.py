"""Put a trained policy into the zoo, or replace one there, and write the zoo's page anew.

python -m benchmarks.zoo RUN zoo/NAME --machine "one core of an AMD EPYC"   # add or replace
python -m benchmarks.zoo                                                    # the page alone

Opens the newest checkpoint of a run, or a policy directory; scores it in 512 evaluation episodes;
writes its network and card to zoo/NAME. A policy directory does not know how it was trained:
say it with --command (again for every step) and --minutes.
"""

import argparse
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kilolayer.analysis.load import Run, load
from kilolayer.config import RunConfig
from kilolayer.deploy.hub import portable, without_paths
from kilolayer.deploy.policy import DeployedPolicy, is_policy, open_policy
from kilolayer.deploy.zoo_entry import (
    Training,
    ZooEntry,
    interval_text,
    open_zoo_entry,
    score_policy,
    section,
    size_of,
    zoo_entries,
)
from kilolayer.errors import UserError
from kilolayer.runtime.manifest import describe_run

ZOO = Path(__file__).parents[1] / "zoo"
PAGE = "README.md"
MOST_BYTES = 2_000_000
LICENCE = "Apache-2.0"
EPISODES, SEED = 512, 12345  # a seed that no run is evaluated with
PACKAGES = ("kilolayer", "jax", "mujoco")


def add(source: Path, place: Path, training: Training, episodes: int = EPISODES) -> ZooEntry:
    """Score the policy of a run or policy directory and write it to `place`, which it replaces.

    Raises UserError for a task that others cannot make, or for more than 2 MB.
    """
    policy = open_policy(source)
    config = portable(policy.config)
    writing = place.with_name(f".adding-{place.name}")
    shutil.rmtree(writing, ignore_errors=True)
    try:
        _saved(policy, config, writing, {})
        if size_of(writing) > MOST_BYTES:
            raise UserError(
                f"the policy of {source} has {size_of(writing) / 1e6:.2f} MB, and the zoo takes "
                f"{MOST_BYTES / 1e6:g} at most: make a smaller one of it with `kilolayer distil "
                f"{source} --width {policy.spec.torso.width // 2}` and add that."
            )
        shutil.rmtree(writing)
        score = score_policy(policy, episodes, SEED)
        _saved(policy, config, writing, section(score, training, LICENCE))
        shutil.rmtree(place, ignore_errors=True)
        writing.rename(place)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return open_zoo_entry(place)


def _saved(
    policy: DeployedPolicy, config: RunConfig, place: Path, facts: dict[str, Any]
) -> DeployedPolicy:
    details = {**policy.details, **facts}
    if "teacher" in details:
        details["teacher"] = Path(details["teacher"]).name
    return dataclasses.replace(policy, config=config, details=details).save(place)


def training_of(run: Run, machine: str) -> Training:
    """How a run was trained, and the run that it started from, as far as that is still there."""
    earlier = run.config.start_from
    chain = [run]
    while earlier is not None and (Path(earlier) / "manifest.json").is_file():
        chain.insert(0, load(earlier))
        earlier = chain[0].config.start_from
    manifest = _manifest(run)
    return Training(
        commands=tuple(without_paths(_manifest(each)["command"]) for each in chain),
        seed=run.config.seed,
        env_steps=sum(_counted(each, "env_steps") for each in chain),
        updates=sum(_counted(each, "updates") for each in chain),
        minutes=round(sum(each.wall_clock_seconds for each in chain) / 60, 1),
        machine=machine,
        versions=versions_in(manifest),
    )


def versions_in(manifest: dict[str, Any]) -> dict[str, str]:
    return {"python": manifest["python"]} | {name: manifest["versions"][name] for name in PACKAGES}


def _counted(run: Run, name: str) -> int:
    """`env_steps` or `updates` at the newest checkpoint."""
    return [event for event in run.events if event["event"] == "checkpoint"][-1][name]


def _manifest(run: Run) -> dict[str, Any]:
    return json.loads((run.path / "manifest.json").read_text())


def page(found: Sequence[ZooEntry]) -> str:
    """zoo/README.md."""
    rows = [
        f"| `zoo:{each.name}` | {each.task} | {each.depth} x {each.width} "
        f"| {interval_text(each.score.success, 3)} | {interval_text(each.score.time_at_goal, 0)} "
        f"| {interval_text(each.score.final_distance, 2)} | {each.bytes / 1e6:.2f} MB |"
        for each in found
    ]
    return TEXT + "\n".join(rows) + "\n" + AFTER + "".join(map(_made, found))


def _made(each: ZooEntry) -> str:
    training = each.training
    counts = (
        f"{training.env_steps:,} environment steps and {training.updates:,} updates in "
        if training.env_steps is not None and training.updates is not None
        else ""
    )
    versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
    commands = "\n".join(training.commands)
    return (
        f"\n### {each.name}\n\n```\n{commands}\n```\n\n"
        f"Seed {training.seed}; {counts}{training.minutes:g} minutes on {training.machine}.\n"
        f"Versions: {versions}.\n"
    )


TEXT = """# The zoo: trained policies

One policy for each task that was learned, wholly or in part, under 2 MB each, shipped with the
package. `zoo:NAME` works wherever a command takes a policy:

```
kilolayer zoo                                        # this table
kilolayer play zoo:ant --goal 8,0                    # a video, play_ant.mp4
kilolayer evaluate zoo:ant --episodes 64
kilolayer serve zoo:ant --open                       # click a goal in the browser
kilolayer distil zoo:ant --width 128                 # train a smaller policy that imitates it
kilolayer export zoo:ant                             # ONNX, StableHLO, safetensors
kilolayer control zoo:ant --seconds 30               # in a control loop
```

In Python: `kilolayer.open_policy("zoo:ant")`. Files that a command would write into a run's
directory go to the current directory. A policy has no critic: `--samples`, the critic's map,
waypoint planners and `--critic-weighted` need a run.

Scores cover 512 episodes with the task's evaluation goals and deterministic actions, with 95 %
intervals over the episodes (Wilson's for success, Student's for means). Success: share of episodes
that reach their goal at any step. Time at goal: control steps within the success radius. Final
distance: in the goal's unit. **Caveat**: one training seed each; the intervals do not cover other
seeds.

| policy | task | depth x width | success | time at goal | final distance | size |
|---|---|---|---|---|---|---|
"""
AFTER = """
## How each was made

The card `policy.json` of each policy holds these facts, the whole config and the score. Settings
that a command does not name are those of the task when it ran; the config has them. Scores
differ a little on another machine, because physics rounds differently there. Licence of all:
Apache-2.0. `--preset NAME` in a command refers to an earlier commit: see
[results](../results/README.md#versions).
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, nargs="?", help="a run or policy directory")
    parser.add_argument("place", type=Path, nargs="?", help="such as zoo/ant")
    parser.add_argument("--machine", help="what it was trained on, in words")
    parser.add_argument("--command", action="append", default=[], help="how it was made")
    parser.add_argument("--minutes", type=float, help="how long that took")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    arguments = parser.parse_args()
    if arguments.source is not None:
        if arguments.place is None or arguments.machine is None:
            parser.error("a policy to add needs a place, such as zoo/ant, and --machine")
        training = _training_record(arguments, parser)
        added = add(arguments.source, arguments.place, training, arguments.episodes)
        print(
            f"{added.path}  success {interval_text(added.score.success, 3)}, {added.bytes:,} bytes"
        )
    (ZOO / PAGE).write_text(page(zoo_entries()))


def _training_record(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Training:
    if not is_policy(arguments.source):
        found = training_of(load(arguments.source), arguments.machine)
        minutes = found.minutes if arguments.minutes is None else arguments.minutes
        commands = tuple(arguments.command) or found.commands
        return dataclasses.replace(found, minutes=minutes, commands=commands)
    if not arguments.command or arguments.minutes is None:
        parser.error("a policy directory needs --command and --minutes: it does not know them")
    seed = open_policy(arguments.source).details.get("seed", 0)
    return Training(
        commands=tuple(arguments.command),
        seed=seed,
        env_steps=None,
        updates=None,
        minutes=arguments.minutes,
        machine=arguments.machine,
        versions=versions_in(describe_run(seed)),
    )


if __name__ == "__main__":
    main()
