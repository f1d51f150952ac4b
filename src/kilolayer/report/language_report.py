"""The report of a grounding or an action module: success by split, failures, latency."""

import json
from dataclasses import dataclass
from pathlib import Path

from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.language.evidence import BOUND, Evidence, RouterUse, Score
from kilolayer.report.film import embed_video
from kilolayer.report.language_plots import (
    failure_pictures,
    latency_plot,
    router_plot,
    success_plot,
)
from kilolayer.report.page import SectionSpec, bullet_list, cards, heading, page, paragraph, table
from kilolayer.report.run_report import entries
from kilolayer.runtime.files import read_json, write_atomically
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of

FILM, FILM_METADATA = "say.mp4", "say.json"
LARGEST_FILM = 1_500_000  # bytes
TITLES = {"grounding": "language grounding", "module": "language-conditioned action module"}
SPLIT_DESCRIPTIONS = {
    "seen": "wording, goal and combination occur in training; the pictures are new",
    "unseen-paraphrase": "a wording that does not occur in training",
    "unseen-goal": "a goal square that does not occur in training",
    "unseen-combination": "a relation and a colour whose combination does not occur in training",
}
SPLIT_NAMES = [split.replace("-", " ") for split in SPLIT_DESCRIPTIONS]


@dataclass(frozen=True)
class LanguageSource:
    """A directory and its evidence."""

    path: Path
    evidence: Evidence

    @property
    def task(self) -> Task:
        config = RunConfig.from_json(json.dumps(self.evidence.config), str(self.path))
        return task_of(config.task)


def is_language_directory(path: Path) -> bool:
    """Whether the directory holds a grounding or an action module."""
    return any((path / f"{kind}.json").is_file() for kind in TITLES)


def write_language_report(path: Path) -> Path:
    """Write `report.html` into the directory and return its path.

    Raises UserError if it has no evidence yet or the file cannot be written.
    """
    source = LanguageSource(path, Evidence.read(path))
    title = f"{source.evidence.task}, {TITLES[source.evidence.kind]}"
    # A grounding has no experts.
    excluded = {"routers"} if source.evidence.kind == "grounding" else set()
    sections = [spec.section(source) for spec in SECTIONS if spec.anchor not in excluded]
    target = path / "report.html"
    write_atomically(target, page(title, headline(source), sections))
    return target


def headline(source: LanguageSource) -> str:
    """A description, and success by split as headline figures."""
    evidence = source.evidence
    actor, about = evidence.actors[0], evidence.about
    text = (
        f"Acting network: {about['acts']}. Encoder of sentences and pictures: "
        f"{_encoder_name(about['encoder'])}, with frozen weights. "
        f"{about['episodes of each split']} episodes per split, from the task's start "
        f"distribution. Directory: {source.path.name}."
    )
    figures = [
        (f"{evidence.score(actor, split).share.value:.0%}", f"success, {split.replace('-', ' ')}")
        for split in SPLIT_DESCRIPTIONS
    ]
    bound = evidence.score(BOUND, "seen").share.value
    figures.append((f"{bound:.0%}", f"seen, {BOUND}"))
    advice = paragraph(evidence.advice, "notice") if evidence.advice else ""
    return paragraph(text, "caption") + advice + cards(figures)


def _encoder_name(encoder: str) -> str:
    """The name of an encoder without the paths of its directories."""
    return "+".join(half.rstrip("/").rsplit("/", 1)[-1] for half in encoder.split("+"))


def success_section(source: LanguageSource) -> str:
    evidence, splits = source.evidence, list(SPLIT_DESCRIPTIONS)
    rows = [
        [actor, *(_share(evidence.score(actor, split)) for split in splits)]
        for actor in evidence.actors
    ]
    header = ("success (95 % interval)", *SPLIT_NAMES)
    texts = zip(SPLIT_NAMES, SPLIT_DESCRIPTIONS.values(), strict=True)
    descriptions = [f"{split}: {text}" for split, text in texts]
    return success_plot(evidence, splits) + table(header, rows) + bullet_list(descriptions)


def kinds_section(source: LanguageSource) -> str:
    """Success by kind of instruction, of the evaluated grounding or module."""
    evidence = source.evidence
    rows = [
        [kind, *(_share(evidence.score(evidence.actors[0], s, kind)) for s in SPLIT_DESCRIPTIONS)]
        for kind in sorted({score.kind for score in evidence.scores})
    ]
    return table(("instruction", *SPLIT_NAMES), rows)


def _share(score: Score) -> str:
    if not score.episodes:
        return "none"
    share = score.share
    return f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})"


def failures_section(source: LanguageSource) -> str:
    failures = source.evidence.failures
    if not failures:
        raise UserError("no instruction of the evaluation failed.")
    is_grounding = source.evidence.kind == "grounding"
    rows = [
        [
            str(number),
            failure.sentence,
            _coordinates(failure.goal),
            _coordinates(failure.place),
            *([f"{failure.confidence:.0%}"] if is_grounding else []),
            "; ".join(f"{text} ({cosine:.3f})" for text, cosine in failure.nearest),
        ]
        for number, failure in enumerate(failures, 1)
    ]
    outcome = ["predicted goal", "confidence"] if is_grounding else ["final position"]
    header = ["", "sentence", "true goal", *outcome, "nearest training sentences (cosine)"]
    return failure_pictures(source.task, failures) + table(header, rows)


def _coordinates(goal: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in goal)


def routers_section(source: LanguageSource) -> str:
    routers = source.evidence.routers
    if not routers:
        raise UserError("the network has no experts, so there is no router.")
    by_criterion: dict[str, list[RouterUse]] = {}
    for router in routers:
        by_criterion.setdefault(router.by, []).append(router)
    return "".join(
        heading(f"By {criterion}") + router_plot(group, f"{index}")
        for index, (criterion, group) in enumerate(by_criterion.items())
    )


def latency_section(source: LanguageSource) -> str:
    evidence = source.evidence
    rows = [
        (part, f"{1e3 * timing.median:.3g}", f"{1e3 * timing.p99:.3g}")
        for part, timing in evidence.latency.items()
    ]
    header = ("part", "median, ms", "99th percentile, ms")
    return latency_plot(evidence) + table(header, rows)


def video_section(source: LanguageSource) -> str:
    file, remedy = source.path / FILM_METADATA, "`kilolayer play RUN --say SENTENCE` records one"
    if not (file.is_file() and (source.path / FILM).is_file()):
        raise UserError(f"there is no video: {remedy}.")
    film = read_json(file, remedy)
    text, width = (film.get("text"), film.get("width")) if isinstance(film, dict) else (None, None)
    if not (isinstance(text, str) and isinstance(width, int)):
        raise UserError(f"{file} is damaged: {remedy}.")
    return paragraph(text) + embed_video(source.path / FILM, width, LARGEST_FILM)


def config_section(source: LanguageSource) -> str:
    return table(("entry", "value"), list(entries(source.evidence.about)))


def environment_section(source: LanguageSource) -> str:
    return table(("entry", "value"), list(entries(source.evidence.manifest)))


SECTIONS: tuple[SectionSpec[LanguageSource], ...] = (
    SectionSpec(
        "success",
        "Success by split",
        "Each split other than `seen` contains one kind of instruction that training lacks. The "
        "agent with the true goal is an upper bound: the difference to it is the error of the "
        "language part. The agent with a wrong instruction is a control: if its success is above "
        "chance, the words are ignored. Intervals are over episodes, not over seeds.",
        success_section,
    ),
    SectionSpec(
        "kinds",
        "Success by kind of instruction",
        "Absolute: a named place. Marker: the place of a marker of a named colour. Relative: "
        "beside a marker, or between two markers.",
        kinds_section,
    ),
    SectionSpec(
        "failures",
        "Failures",
        "The encoder's input picture; grey areas have low attention. Solid green ring: the true "
        "goal. Dashed orange ring: the predicted goal of a grounding, or the final position of a "
        "module's agent. The nearest training sentences show which words training lacks.",
        failures_section,
    ),
    SectionSpec(
        "routers",
        "Use of experts",
        "Mean gate of every expert; the gates of a row add up to one in each layer. Different rows "
        "show that experts specialise by this criterion; equal rows show that they do not.",
        routers_section,
    ),
    SectionSpec(
        "video",
        "Video",
        "The film of `kilolayer play RUN --say`: markers, predicted goal and trajectory.",
        video_section,
    ),
    SectionSpec(
        "latency",
        "Latency by part",
        "One sentence and one picture, on the machine of the evaluation. The encoder runs only for "
        "a new sentence or picture; the acting network runs at every control step.",
        latency_section,
    ),
    SectionSpec(
        "config", "Config", "Settings of the training and of the evaluation.", config_section
    ),
    SectionSpec(
        "environment",
        "Environment",
        "What is needed to reproduce the run: command, versions, code and devices.",
        environment_section,
    ),
)
