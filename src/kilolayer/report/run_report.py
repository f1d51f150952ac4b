"""A run directory as one HTML file that opens anywhere, without a network."""

from pathlib import Path

from kilolayer.analysis.load import Run
from kilolayer.report.ledger import (
    caveat,
    config_section,
    environment_section,
    headline,
    time_section,
)
from kilolayer.report.page import Plan, page, section_html
from kilolayer.report.sections import (
    behaviour_section,
    blocks_section,
    curves_section,
    paths_section,
    trajectories_section,
    values_section,
    video_section,
)
from kilolayer.runtime.files import write_atomically

FILM = "video"

SECTIONS: tuple[Plan[Run], ...] = (
    Plan(
        FILM,
        "Film",
        "The first environments of the newest evaluation, good or bad.",
        video_section,
    ),
    Plan(
        "curves",
        "Learning curves",
        "Upper row: evaluations with the deterministic policy, higher is better except for the "
        "distance. Lower row: every round of training; a contrastive critic's accuracy is the "
        "share of state-action pairs that find their own goal in the batch.",
        curves_section,
    ),
    Plan(
        "trajectories",
        "Where the agent went",
        "The environment from above; each line is one episode, each circle a goal with its success "
        "radius.",
        trajectories_section,
    ),
    Plan(
        "paths",
        "Success by distance",
        "Share of successful episodes for each length of the shortest path; an agent that knows "
        "the way keeps its bars high to the right.",
        paths_section,
    ),
    Plan(
        "behaviour",
        "How it moves",
        "Measures of the movement in each evaluation: they tell a new way of moving from a better "
        "score. Path efficiency is the shortest way over the way taken, of successful episodes.",
        behaviour_section,
    ),
    Plan(
        "values",
        "What the critic believes",
        "Brighter places are closer to the goal (star) in the critic's view, had the body stood "
        "there; where it knows the walls, brightness fades along the corridors and not through "
        "them.",
        values_section,
    ),
    Plan(
        "blocks",
        "What each block does",
        "From the first block to the last, on a batch from the replay buffer: a rank that falls, a "
        "norm that explodes, dormant units or a vanishing gradient show depth that is not used.",
        blocks_section,
    ),
    Plan(
        "time",
        "Where the time went",
        "Seconds of the whole run; the widest part is what to speed up first.",
        time_section,
    ),
    Plan(
        "config",
        "Config",
        "What was asked for; marked rows differ from the defaults of RunConfig.",
        config_section,
    ),
    Plan(
        "environment",
        "Environment",
        "What a repeat needs: the command, versions, code and devices.",
        environment_section,
    ),
)


def write_report(run: Run) -> Path:
    """Write `report.html` into the run directory and return its path.

    An unfinished run works too. A section that cannot be drawn shows the reason in a sentence. The
    film is also kept in `media/`. Raises UserError if the file cannot be written.
    """
    title = f"{run.task.name}, depth {run.config.network.depth}"
    sections = [plan.section(run) for plan in SECTIONS]
    # The score and the film come first, before the list of contents.
    film = "".join(section_html(part) for part in sections if part.anchor == FILM)
    others = [part for part in sections if part.anchor != FILM]
    target = run.path / "report.html"
    write_atomically(target, page(title, headline(run) + film + caveat(run), others))
    return target
