"""The report of a run: one HTML file that needs no network."""

from pathlib import Path

from kilolayer.analysis.load import Run
from kilolayer.report.page import SectionSpec, page, section_html
from kilolayer.report.run_metadata import (
    comparability_notice,
    config_section,
    environment_section,
    headline,
    time_section,
)
from kilolayer.report.run_sections import (
    behaviour_section,
    blocks_section,
    curves_section,
    paths_section,
    trajectories_section,
    values_section,
    video_section,
)
from kilolayer.runtime.files import write_atomically

FILM_ANCHOR = "video"

SECTIONS: tuple[SectionSpec[Run], ...] = (
    SectionSpec(
        FILM_ANCHOR,
        "Film",
        "The first environments of the newest evaluation, not selected by score.",
        video_section,
    ),
    SectionSpec(
        "curves",
        "Learning curves",
        "Upper row: evaluations with the deterministic policy. Higher is better, except for the "
        "distance. Lower row: metrics of every training round. A contrastive critic's accuracy is "
        "the share of state-action pairs with the highest energy for their own goal in the batch.",
        curves_section,
    ),
    SectionSpec(
        "trajectories",
        "Trajectories",
        "The environment from above. A line is one episode; a circle is a goal with its success "
        "radius.",
        trajectories_section,
    ),
    SectionSpec(
        "paths",
        "Success by path length",
        "Share of successful episodes for each length of the shortest path from start to goal.",
        paths_section,
    ),
    SectionSpec(
        "behaviour",
        "Movement",
        "Movement metrics of each evaluation. They show changes of behaviour that the score does "
        "not show. Path efficiency is the length of the shortest path divided by the length of "
        "the path taken, in successful episodes.",
        behaviour_section,
    ),
    SectionSpec(
        "values",
        "Value maps",
        "The critic's value with the body at each position, for the goal at the star. Brighter is "
        "higher. If the critic has learnt the walls, values fall along the corridors; otherwise "
        "they fall along the straight line through the walls.",
        values_section,
    ),
    SectionSpec(
        "blocks",
        "Residual blocks",
        "Diagnostics from the first block to the last, on a batch from the replay buffer. A "
        "falling rank, an exploding norm, dormant units or a vanishing gradient show that depth "
        "is not used.",
        blocks_section,
    ),
    SectionSpec("time", "Time", "Wall-clock seconds of the whole run, by part.", time_section),
    SectionSpec(
        "config",
        "Config",
        "The config of the run. Highlighted rows differ from the defaults of RunConfig.",
        config_section,
    ),
    SectionSpec(
        "environment",
        "Environment",
        "What is needed to reproduce the run: command, versions, code and devices.",
        environment_section,
    ),
)


def write_report(run: Run) -> Path:
    """Write `report.html` into the run directory and return its path.

    The run may be unfinished. A section that cannot be drawn shows the reason. The film is also
    stored in `media/`. Raises UserError if the file cannot be written.
    """
    title = f"{run.task.name}, depth {run.config.network.depth}"
    sections = [spec.section(run) for spec in SECTIONS]
    # Score and film come before the table of contents.
    film = "".join(section_html(part) for part in sections if part.anchor == FILM_ANCHOR)
    others = [part for part in sections if part.anchor != FILM_ANCHOR]
    target = run.path / "report.html"
    write_atomically(target, page(title, headline(run) + film + comparability_notice(run), others))
    return target
