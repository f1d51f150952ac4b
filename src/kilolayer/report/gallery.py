"""The zoo as one HTML file: film and score of every policy."""

from collections.abc import Sequence
from pathlib import Path

from kilolayer.deploy.zoo_entry import ZooEntry, interval_text
from kilolayer.report.film import GOAL_LEGEND, embed_video
from kilolayer.report.page import Section, page, paragraph, table
from kilolayer.runtime.files import write_atomically
from kilolayer.tasks.registry import make_task

FILM_PIXELS = 480
LARGEST_FILM = 5_000_000  # bytes


def write_gallery(films: Sequence[tuple[ZooEntry, Path]], target: Path) -> Path:
    """Write a page of policies, each with the .mp4 of its film, and return its path; raises
    UserError if the file cannot be written."""
    top = paragraph(
        "Every policy of the zoo in four evaluation episodes, not selected by score. "
        f"{GOAL_LEGEND}",
        "caption",
    )
    sections = [_section(exhibit, film) for exhibit, film in films]
    write_atomically(target, page("Trained policies", top, sections))
    return target


def _section(exhibit: ZooEntry, film: Path) -> Section:
    score, task = exhibit.score, make_task(exhibit.task)
    unit = task.goal.coordinates[0].unit
    rows = [
        ("success", interval_text(score.success, 3)),
        (
            f"time at goal, of {task.episode_length} control steps",
            interval_text(score.time_at_goal, 0),
        ),
        (f"final distance, {unit}", interval_text(score.final_distance, 2)),
        ("depth x width", f"{exhibit.depth} x {exhibit.width}"),
        ("size", f"{exhibit.bytes / 1e6:.2f} MB"),
        ("training time", f"{exhibit.training.minutes:g} minutes on {exhibit.training.machine}"),
        ("command", f"kilolayer play zoo:{exhibit.name}"),
    ]
    video = embed_video(film, FILM_PIXELS, LARGEST_FILM)
    body = f'<div class="films">{video}<div>{table(("", ""), rows)}</div></div>'
    caption = f"Task {exhibit.task}. Mean of {score.episodes} episodes, with its 95 % interval."
    return Section(exhibit.name, f"zoo:{exhibit.name}", caption, body)
