"""Prepare policies for deployment: smaller networks, and files for other runtimes."""

import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from kilolayer.api.display import make_display
from kilolayer.api.playing import play
from kilolayer.deploy.export.folder import Folder, export_folder
from kilolayer.deploy.export.onnx_graph import DEFAULT_OPSET
from kilolayer.deploy.export.write import FILES, Exported, export_policy
from kilolayer.deploy.hub import PICTURE, require_repository, send, write_card, write_folder
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.deploy.portable import portable
from kilolayer.deploy.smaller.distil import Recipe, distil_run
from kilolayer.deploy.smaller.prune import Measure, Order, Pruned, SelectionRule, prune_run
from kilolayer.types import UserError, bad_field


def prune(
    policy: str | Path,
    keep_score: float = 0.95,
    target_latency: float | None = None,
    orders: Sequence[Order] = ("greedy",),
    measure: Measure = "divergence",
    heal: int = 0,
    episodes: int = 128,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> Pruned:
    """Remove blocks from a trained policy and return the smallest policy that keeps its score.

    policy: a run directory, a policy directory or zoo:NAME. keep_score: share of the unpruned
    policy's time at goal to keep. target_latency: milliseconds of one action on this machine; if
    given, the best score within this latency is chosen instead. heal: environment steps of
    distillation after every removal. Raises UserError for a policy that cannot be pruned or a
    directory that exists.
    """
    wish = SelectionRule(keep_score, target_latency)
    with closing(make_display(progress)) as display:
        return prune_run(policy, wish, orders, measure, heal, episodes, seed, out, display=display)


def distil(
    policy: str | Path,
    depths: Sequence[int] = (4,),
    widths: Sequence[int] = (),
    seeds: Sequence[int] = (0,),
    recipe: Recipe | None = None,
    episodes: int = 128,
    out: str | Path | None = None,
    progress: bool = True,
) -> list[DeployedPolicy]:
    """Train a student of each depth, width and seed to imitate a policy.

    policy: a run directory, a policy directory or zoo:NAME. widths: by default the teacher's.
    Raises UserError for invalid arguments before any work.
    """
    with closing(make_display(progress)) as display:
        return distil_run(policy, depths, widths, seeds, recipe, episodes, out, display=display)


def export(
    policy: DeployedPolicy | str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] = tuple(FILES),
    opset: int = DEFAULT_OPSET,
    progress: bool = True,
) -> Exported:
    """Write a policy as ONNX, StableHLO and safetensors files, each loaded back and compared.

    Raises UserError if the directory exists, a package is missing, or a file gives other actions.
    """
    with closing(make_display(progress)) as display:
        return export_policy(policy, out, formats, opset, display)


def export_robot(
    policy: str | Path,
    to: str | Path,
    planner: Literal["waypoints"] | None = None,
    nodes: int = 64,
    weights: Literal["float32", "float16", "int8"] = "float32",
    episodes: int = 0,
    opset: int = DEFAULT_OPSET,
    progress: bool = True,
) -> Folder:
    """Write the folder that `kilolayer-robot run` takes: an ONNX graph and its card."""
    with closing(make_display(progress)) as display:
        return export_folder(policy, Path(to), planner, nodes, weights, episodes, opset, display)


def push(
    policy: str | Path,
    repository: str,
    private: bool = False,
    update: bool = False,
    licence: str = "Apache-2.0",
    episodes: int = 128,
    progress: bool = True,
) -> str:
    """Upload a policy to the Hugging Face Hub with a generated model card; returns its address.

    policy: a run directory, a policy directory or zoo:NAME, of one of this package's tasks.
    repository: OWNER/NAME. update: replace the files of a repository that exists. episodes: number
    of episodes for the score; a policy of the zoo keeps the score of its card. Raises UserError for
    a policy or a name that cannot be pushed, without a token, and if the hub cannot be reached.
    """
    if episodes < 1:
        raise bad_field("episodes", episodes, "it must be at least 1", 1)
    repository = repository.removeprefix("hf:")  # as it is written to open one
    require_repository(repository)
    opened = open_policy(policy)
    portable(opened.config)
    with tempfile.TemporaryDirectory() as place, closing(make_display(progress)) as display:
        folder = Path(place) / "policy"
        display.phase("score")
        score = write_folder(opened, folder, episodes)
        display.phase("picture")
        # A machine that cannot draw pushes a card without a picture.
        with suppress(UserError):
            play(opened, out=folder / PICTURE)
        write_card(opened, score, repository, licence, folder)
        display.phase("upload")
        return send(folder, repository, private, update)
