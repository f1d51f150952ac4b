"""A policy, an encoder and a grounding in seconds: what tests of commands with words share.

All are drawn at random or barely trained.
"""

import contextlib
import io
from pathlib import Path

import jax
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.language.encoders.open import own_directory
from kilolayer.language.encoders.own import OwnEncoder, OwnNetwork, Sizes, Vocabulary
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.tasks.registry import make_task

MAZE = "point_u_maze"
QUICK = "--text own --examples 32 --updates 2 --depth 4 --width 16 --episodes 2"


def write_policy(path: Path, task: str = MAZE) -> Path:
    spec = ActorSpec(TaskSpec(4, 2, 2), TorsoSpec(depth=4, width=16))
    actor = jax.jit(spec.init)(jax.random.key(0))
    return DeployedPolicy(path, run_config(task=task), spec, actor, "distil", {}).save(path).path


def ground(directory: Path) -> tuple[Path, Path, str]:
    """A policy, its grounding, and what `kilolayer ground` printed."""
    run = write_policy(directory / "small")
    words = Vocabulary(["go", "marker", "red", "the", "to"])
    network = jax.jit(lambda key: OwnNetwork.init(key, Sizes(), len(words.words)))(
        jax.random.key(1)
    )
    OwnEncoder("", network, words, Sizes()).save(own_directory(run, make_task(MAZE)))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(["ground", str(run), *QUICK.split()])
    return run, run / "groundings" / "own-seed0", printed.getvalue()


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    return last
