"""The live display: what a terminal and what a log shows of a long job."""

import io

import pytest
from rich.console import Console

from kilolayer.runtime.progress import LiveDisplay, duration

FIGURES = {"steps/s": 12345.0, "success": 0.534, "evaluation": "in 35 s"}


def display(width: int, terminal: bool) -> tuple[LiveDisplay, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    return LiveDisplay(console), out


@pytest.mark.parametrize("width", [60, 80, 140])
def test_narrow_terminal_keeps_time_left_and_figures(width):
    live, out = display(width, terminal=True)
    live.phase("train")
    live.advance(25, 100, **FIGURES)
    live.close()
    lines = out.getvalue().splitlines()
    bar = next(line for line in reversed(lines) if "train" in line)
    assert "25%" in bar
    assert "left" in bar
    assert "…" not in bar
    assert "steps/s 12,345  success 0.53  evaluation in 35 s" in out.getvalue()


def test_a_log_gets_a_line_for_each_tenth_with_the_time_left():
    live, out = display(80, terminal=False)
    clock = [0.0]
    live._progress.get_time = lambda: clock[0]
    live.phase("train")
    for done in range(0, 101, 5):
        clock[0] = 2.0 * done
        live.advance(done, 100, **FIGURES)
    live.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "train ..."
    assert len(lines) == 12
    assert lines[6] == " 50%  steps/s 12,345  success 0.53  evaluation in 35 s  left 2 min"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (7200, "2.0 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
