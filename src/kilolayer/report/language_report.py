"""A grounding or an action module as one HTML file: what it understands, and where it fails."""

import json
from dataclasses import dataclass
from pathlib import Path

from kilolayer.config import RunConfig
from kilolayer.language.evidence import BOUND, Evidence, RouterUse, Score
from kilolayer.report.film import embedded_file
from kilolayer.report.language_plots import (
    failure_pictures,
    latency_plot,
    router_plot,
    success_plot,
)
from kilolayer.report.ledger import entries
from kilolayer.report.page import Plan, bullets, cards, heading, page, paragraph, table
from kilolayer.runtime.files import write_atomically
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.types import UserError

FILM, FILM_ABOUT = "say.mp4", "say.json"
LARGEST_FILM = 1_500_000  # bytes
NAMES = {"grounding": "from a sentence to a goal", "module": "from a sentence to actions"}
MEANING = {
    "seen": "wording, goal and combination were all trained on, never in this picture",
    "unseen-paraphrase": "a wording that training never had",
    "unseen-goal": "a goal square that training never had",
    "unseen-combination": "a relation and a colour that training never had together",
}


@dataclass(frozen=True)
class Source:
    """A directory and its evidence."""

    path: Path
    evidence: Evidence

    @property
    def task(self) -> Task:
        config = RunConfig.from_json(json.dumps(self.evidence.config), str(self.path))
        return task_of(config.task)


def is_language(path: Path) -> bool:
    """Whether there is a grounding or an action module to report on."""
    return any((path / f"{kind}.json").is_file() for kind in NAMES)


def write_language_report(path: Path) -> Path:
    """Write `report.html` into the directory and return its path.

    Raises UserError if it has no evidence yet or the file cannot be written.
    """
    source = Source(path, Evidence.read(path))
    title = f"{source.evidence.task}, {NAMES[source.evidence.kind]}"
    # A grounding has no experts.
    without = {"routers"} if source.evidence.kind == "grounding" else set()
    sections = [plan.section(source) for plan in SECTIONS if plan.anchor not in without]
    target = path / "report.html"
    write_atomically(target, page(title, headline(source), sections))
    return target


def headline(source: Source) -> str:
    """A description in a sentence, and success by split in large figures."""
    evidence = source.evidence
    own, about = evidence.actors[0], evidence.about
    text = (
        f"{about['acts']}, acts; sentences and pictures through {_short(about['encoder'])}, which "
        f"stayed as it was to the bit. {about['episodes of each split']} episodes of each split, "
        f"from the task's own starts. Directory: {source.path.name}."
    )
    figures = [
        (f"{evidence.score(own, split).share.value:.0%}", f"success, {split.replace('-', ' ')}")
        for split in MEANING
    ]
    bound = evidence.score(BOUND, "seen").share.value
    figures.append((f"{bound:.0%}", f"seen, {BOUND}"))
    advice = paragraph(evidence.advice, "notice") if evidence.advice else ""
    return paragraph(text[0].upper() + text[1:], "how") + advice + cards(figures)


def _short(encoder: str) -> str:
    """The name of an encoder without the paths of its directories."""
    return "+".join(half.rstrip("/").rsplit("/", 1)[-1] for half in encoder.split("+"))


def success_section(source: Source) -> str:
    evidence, splits = source.evidence, list(MEANING)
    rows = [
        [who, *(_share(evidence.score(who, split)) for split in splits)] for who in evidence.actors
    ]
    header = ("success (95 % interval)", *(split.replace("-", " ") for split in splits))
    meanings = [f"{split.replace('-', ' ')}: {text}" for split, text in MEANING.items()]
    return success_plot(evidence, splits) + table(header, rows) + bullets(meanings)


def kinds_section(source: Source) -> str:
    """Success by kind of instruction, of this grounding or module alone."""
    evidence = source.evidence
    own = evidence.actors[0]
    kinds = list(dict.fromkeys(score.kind for score in evidence.scores))
    rows = [
        [kind, *(_share(evidence.score(own, split, kind)) for split in MEANING)]
        for kind in sorted(kinds)
    ]
    return table(("instruction", *(split.replace("-", " ") for split in MEANING)), rows)


def _share(score: Score) -> str:
    if not score.episodes:
        return "none"
    share = score.share
    return f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})"


def failures_section(source: Source) -> str:
    failures = source.evidence.failures
    if not failures:
        raise UserError("all instructions that were tried were followed.")
    grounds = source.evidence.kind == "grounding"
    rows = [
        [
            str(number),
            failure.sentence,
            _place(failure.goal),
            _place(failure.place),
            *([f"{failure.confidence:.0%}"] if grounds else []),
            "; ".join(f"{text} ({cosine:.3f})" for text, cosine in failure.nearest),
        ]
        for number, failure in enumerate(failures, 1)
    ]
    answers = ["understood", "confidence"] if grounds else ["ended at"]
    header = ["", "sentence", "meant", *answers, "nearest in training (cosine)"]
    return failure_pictures(source.task, failures) + table(header, rows)


def _place(goal: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in goal)


def routers_section(source: Source) -> str:
    routers = source.evidence.routers
    if not routers:
        raise UserError("the trunk is dense, so there is no router.")
    by: dict[str, list[RouterUse]] = {}
    for router in routers:
        by.setdefault(router.by, []).append(router)
    return "".join(
        heading(f"By {by_what}") + router_plot(group, f"{index}")
        for index, (by_what, group) in enumerate(by.items())
    )


def latency_section(source: Source) -> str:
    evidence = source.evidence
    rows = [
        (part, f"{1e3 * timing.median:.3g}", f"{1e3 * timing.p99:.3g}")
        for part, timing in evidence.latency.items()
    ]
    header = ("part", "median, ms", "99th percentile, ms")
    return latency_plot(evidence) + table(header, rows)


def video_section(source: Source) -> str:
    about = source.path / FILM_ABOUT
    if not about.is_file():
        raise UserError("no video was made: `kilolayer play RUN --say SENTENCE` makes one.")
    said = json.loads(about.read_text(encoding="utf-8"))
    return paragraph(said["text"]) + embedded_file(source.path / FILM, said["width"], LARGEST_FILM)


def config_section(source: Source) -> str:
    return table(("what", "value"), list(entries(source.evidence.about)))


def environment_section(source: Source) -> str:
    return table(("what", "value"), list(entries(source.evidence.manifest)))


SECTIONS: tuple[Plan[Source], ...] = (
    Plan(
        "success",
        "Success by split",
        "Each split withholds one thing from training. The bound is the same agent told the true "
        "goal: what is missing to it was lost in understanding. Who hears another instruction must "
        "fall to chance, or words do not matter. Intervals are of the episodes, not of seeds.",
        success_section,
    ),
    Plan(
        "kinds",
        "By kind of instruction",
        "Absolute: a place by its name. Marker: by the colour of what lies there. Relative: beside "
        "a marker, or between two.",
        kinds_section,
    ),
    Plan(
        "failures",
        "What went wrong",
        "The picture as the encoder saw it, veiled where the sentence did not look. Full green "
        "ring: the goal that was meant. Dashed orange ring: the goal understood, or where the "
        "agent of a module ended. Of the nearest sentences of training, look for the word that "
        "they miss.",
        failures_section,
    ),
    Plan(
        "routers",
        "Which experts are used",
        "Mean gate of every expert; a row adds up to one in each layer. Rows that differ say that "
        "experts have parted the work; equal rows, that the router looks at nothing of this.",
        routers_section,
    ),
    Plan(
        "video",
        "Video",
        "What `kilolayer play RUN --say` films: markers, the goal understood, the agent's way.",
        video_section,
    ),
    Plan(
        "latency",
        "Latency by part",
        "One sentence and one picture, on this machine. An encoder runs only when sentence or "
        "picture is new, at the rate of plans; what acts runs at every control step.",
        latency_section,
    ),
    Plan("config", "Config", "What was trained, and on what.", config_section),
    Plan(
        "environment",
        "Environment",
        "What a repeat needs: the command, versions, code and devices.",
        environment_section,
    ),
)
