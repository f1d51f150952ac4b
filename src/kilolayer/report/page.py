"""The HTML page: one style sheet, tables, cards and sections. All text is escaped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Generic, TypeVar

from kilolayer.errors import UserError

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px; background: #fff; color: #1b1f24;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 26px; }
h2 { margin: 40px 0 4px; padding-top: 12px; border-top: 1px solid #e3e6ea; font-size: 19px; }
p { margin: 6px 0; max-width: 85ch; }
nav { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 12px 0; font-size: 14px; }
nav a { color: #0072b2; }
svg { display: block; width: 100%; height: auto; margin: 8px 0; }
video { display: block; max-width: 100%; margin: 8px 0; border: 1px solid #e3e6ea; }
.caption { color: #57606a; }
.notice { padding: 8px 12px; background: #fff8e5; border-left: 4px solid #e69f00; }
.verdicts { list-style: none; margin: 14px 0; padding: 0; }
.verdicts li { display: flex; gap: 14px; margin: 8px 0; padding: 10px 14px; font-size: 17px;
  border: 1px solid #e3e6ea; border-left: 6px solid #6b7785; border-radius: 4px; }
.verdicts b { flex: 0 0 196px; font-size: 14px; line-height: 1.8; font-weight: 600; }
.verdicts li.strong { border-left-color: #0072b2; background: #eef6fb; }
.verdicts li.moderate { border-left-color: #0072b2; }
.verdicts li.weak { border-left-color: #56b4e9; }
.films { display: flex; gap: 14px; }
.films figure { flex: 0 1 auto; min-width: 0; margin: 0; }
.films figcaption { font-weight: 600; font-size: 14px; }
h3 { margin: 22px 0 2px; font-size: 16px; }
details pre { margin: 4px 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; }
.cards { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
.card { flex: 1 1 110px; padding: 8px 12px; border: 1px solid #e3e6ea; border-radius: 6px; }
.card b { display: block; font-size: 22px; font-weight: 600; }
.card span { color: #57606a; font-size: 13px; }
table { display: block; overflow-x: auto;
  border-collapse: collapse; margin: 8px 0; font-size: 14px; }
th, td { padding: 3px 14px 3px 0; border-bottom: 1px solid #eef0f2; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { color: #57606a; font-weight: 500; }
td.number, th.number { text-align: right; }
th, td.short { white-space: nowrap; }
td.number { font-variant-numeric: tabular-nums; }
tr.changed td { font-weight: 600; background: #eef6fb; }
@media print { body { max-width: none; } h2 { break-after: avoid; } }
"""


MAX_NOWRAP_LENGTH = 28  # characters of a cell that stays on one line


@dataclass(frozen=True)
class Section:
    """A part of the page. caption: how to read it; body: HTML."""

    anchor: str
    title: str
    caption: str
    body: str


Source = TypeVar("Source")


@dataclass(frozen=True)
class SectionSpec(Generic[Source]):
    """A section before it is drawn. draw: returns the body or raises UserError."""

    anchor: str
    title: str
    caption: str
    draw: Callable[[Source], str]

    def section(self, source: Source) -> Section:
        """The section with its body, or with the reason why it cannot be drawn."""
        try:
            body = self.draw(source)
        except UserError as error:
            body = paragraph(f"Not shown: {error}", "notice")
        return Section(self.anchor, self.title, self.caption, body)


def page(title: str, top: str, sections: Sequence[Section]) -> str:
    """The whole document, which needs no other file.

    top: HTML between the title and the links to the sections.
    """
    links = "".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in sections)
    body = "\n".join(map(section_html, sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{top}
<nav>{links}</nav>
{body}
</body>
</html>
"""


def section_html(part: Section) -> str:
    """A section as HTML."""
    return (
        f'<section id="{part.anchor}">\n<h2>{escape(part.title)}</h2>\n'
        f'<p class="caption">{escape(part.caption)}</p>\n{part.body}\n</section>'
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; kind: its class in the style sheet."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def notices(texts: Iterable[str]) -> str:
    """A highlighted paragraph for each text."""
    return "".join(paragraph(text, "notice") for text in texts)


def cards(figures: Sequence[tuple[str, str]]) -> str:
    """Headline figures, each `(figure, label)`."""
    inner = "".join(
        f'<div class="card"><b>{escape(figure)}</b><span>{escape(label)}</span></div>'
        for figure, label in figures
    )
    return f'<div class="cards">{inner}</div>'


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def bullet_list(texts: Sequence[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def verdict_list(verdicts: Sequence[tuple[str, str, str]]) -> str:
    """Findings, each `(kind, strength, sentence)`; kind: its class in the style sheet."""
    items = "".join(
        f'<li class="{kind}"><b>{escape(strength)}</b><span>{escape(sentence)}</span></li>'
        for kind, strength, sentence in verdicts
    )
    return f'<ul class="verdicts">{items}</ul>'


def video_row(videos: Sequence[tuple[str, str]]) -> str:
    """Videos side by side, each `(caption, HTML of the video)`."""
    figures = "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{video}</figure>"
        for caption, video in videos
    )
    return f'<div class="films">{figures}</div>'


def collapsible(summary: str, text: str) -> str:
    """Long text that a click on its summary shows."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], changed: Sequence[bool] | None = None
) -> str:
    """A table of plain text. Numeric columns are right-aligned; `changed` rows are highlighted."""
    highlights = changed or [False] * len(rows)
    numeric = [
        bool(rows) and all(_is_number(row[index]) or not row[index] for row in rows)
        for index in range(len(header))
    ]
    head = "".join(
        f"<th{' class=number' if number else ''}>{escape(name)}</th>"
        for name, number in zip(header, numeric, strict=True)
    )
    lines = [
        f"<tr{' class=changed' if highlight else ''}>{''.join(map(_cell, row, numeric))}</tr>"
        for row, highlight in zip(rows, highlights, strict=True)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _cell(text: str, number: bool) -> str:
    kind = "number" if number else "short" if len(text) <= MAX_NOWRAP_LENGTH else ""
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%").replace(",", ""))
    except ValueError:
        return False
    return True
