"""Prepare policies for deployment: smaller networks, files for other runtimes, and the hub."""

import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from kilolayer.api.playing import play
from kilolayer.deploy.export.folder import export_robot as export_robot
from kilolayer.deploy.export.write import export as export
from kilolayer.deploy.hub import (
    PICTURE,
    portable,
    require_repository,
    send,
    write_card,
    write_folder,
)
from kilolayer.deploy.names import Measure, Order
from kilolayer.deploy.policy import open_policy
from kilolayer.deploy.smaller.distil import distil as distil
from kilolayer.deploy.smaller.prune import Pruned, SelectionRule, prune_policy
from kilolayer.errors import UserError, require_at_least
from kilolayer.runtime.progress import make_display
from kilolayer.runtime.zoo import default_output


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

    policy: a run directory, a policy directory or zoo:NAME. keep_score, target_latency: see
    `SelectionRule`. orders: orders of removal, one curve for each; see
    `kilolayer.deploy.smaller.influence`. measure: the influence that sorts the one-shot order.
    heal: environment steps of a distillation after pruning; if not 0, the curve has each pruned
    point with and without it. out: the policy directory to write, with the curve as prune.json and
    prune.png. Default: `policies/prune` in the given directory. Raises UserError for a policy that
    cannot be pruned, a directory that exists, or if no point meets the rule.
    """
    from kilolayer.report.prune_plot import write_plot

    path, wish = Path(policy), SelectionRule(keep_score, target_latency)
    out = Path(out) if out is not None else default_output(path, "policies") / "prune"
    with closing(make_display(progress)) as display:
        pruned = prune_policy(path, wish, orders, measure, heal, episodes, seed, out, display)
    write_plot(pruned.curve, pruned.policy.path / "prune.png")
    return pruned


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
    require_at_least(1, episodes=episodes)
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
