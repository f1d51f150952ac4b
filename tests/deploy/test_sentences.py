"""The page that takes a sentence: what is typed moves the agent, and what was understood is told.

Who understands is a few lines here: the page and the session know nothing of language.
"""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from browser import Browser, browser, needs_browser
from kilolayer.deploy.interpreter import Interpretation
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import Session
from kilolayer.deploy.page.simulation import NamedPolicy
from kilolayer.errors import UserError
from kilolayer.render.style import Mark
from kilolayer.tasks.point import PointMaze

MAZE = PointMaze("u")
PLACES = [(1.0, 3.0), (3.0, 3.0)]


class Colours:
    """Knows `go to the red marker`, guesses at all else, and is never sure of a guess."""

    example = "go to the red marker"

    def __init__(self):
        self.turned = 0

    @property
    def marks(self) -> list[Mark]:
        places = PLACES[:: -1 if self.turned % 2 else 1]
        return [Mark("red", "#d02020", places[0], 0.3), Mark("blue", "#2040d0", places[1], 0.3)]

    def interpret(self, sentence: str) -> Interpretation:
        if not sentence.strip():
            raise UserError("the sentence is empty: say where to go.")
        known = sentence == self.example
        goal = np.array(self.marks[0].place if known else (2.1, 1.0))
        return Interpretation(goal, 0.9 if known else 0.2, known, self.example)

    def rearrange(self) -> None:
        self.turned += 1


def straight(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.clip(4 * (goal - observation[:2]), -1, 1)


@pytest.fixture
def session() -> Session:
    session = Session(MAZE, [NamedPolicy("agent", "", straight)], interpreter=Colours())
    session.warm_up()
    return session


@pytest.fixture
def server(session) -> Iterator[PageServer]:
    with PageServer(session, 0) as server:
        server.start()
        yield server


def test_sentence_sets_the_goal_and_shows_its_interpretation(session):
    interpretation, moved = session.say("go to the red marker", restart=True)
    assert (interpretation.confidence, interpretation.familiar, moved) == (0.9, True, False)
    assert session.frame().goal.tolist() == [1.0, 3.0]
    # A goal in the wall between the arms goes to the nearest place, as a click does.
    interpretation, moved = session.say("sing", restart=True)
    assert (interpretation.familiar, moved) == (False, True)
    assert session.frame().goal.tolist() == [2.75, 1.0]


def test_new_marks_start_an_episode_without_a_goal(session):
    session.say("go to the red marker", restart=True)
    session.rearrange()
    frame = session.frame()
    assert (frame.phase, frame.goal) == ("waiting", None)
    session.say("go to the red marker", restart=True)
    assert session.frame().goal.tolist() == [3.0, 3.0]


def test_invalid_sentence_keeps_the_goal(session):
    with pytest.raises(UserError, match="the sentence is empty"):
        session.say("  ", restart=True)
    assert session.frame().goal is None


def test_page_without_a_grounding_explains_how_to_add_one():
    session = Session(MAZE, [NamedPolicy("agent", "", straight)])
    with pytest.raises(UserError, match="kilolayer serve RUN --grounding DIR"):
        session.say("go to the red marker", True)
    with pytest.raises(UserError, match="--grounding"):
        session.rearrange()


FIELD = "[...document.querySelectorAll('input')].find(field => field.value == %r)"
PRESS = """[...document.querySelectorAll('button')]
  .find(button => button.textContent.trim() == %r).click()"""
SHOWS = "document.body.innerText.includes(%r)"


def type_sentence(tab: Browser, server: PageServer, old: str, new: str) -> None:
    """Replace the sentence in the text field and send it."""
    tab.wait_for(FIELD % old + " !== undefined")
    tab.evaluate(f"(() => {{ const field = {FIELD % old}; field.focus(); field.select(); }})()")
    tab.call("Input.insertText", text=new)
    # viser's page sends what was typed a little later than what was pressed.
    until = time.monotonic() + 120
    while server.view._sentence.value != new:
        tab.evaluate("1")
        assert time.monotonic() < until
    tab.evaluate(PRESS % "Go there")


@needs_browser
def test_sentence_in_the_browser_moves_the_agent(server, tmp_path):
    scene = server.view.server.scene
    with browser(tmp_path / "profile") as tab:
        tab.open(server.url, width=900, height=500)
        tab.wait_for(SHOWS % "Click on the floor")
        red, blue = (scene.get_handle_by_name(f"/agent/mark {name}") for name in ("red", "blue"))
        assert (red.color, red.position[:2].tolist()) == ((208, 32, 32), [1, 3])
        assert blue.position[:2].tolist() == [3, 3]
        # Above the floor, and above the critic's map if that is shown.
        assert red.position[2] == blue.position[2] > 0
        # The field holds a sentence that is understood.
        tab.wait_for(FIELD % Colours.example + " !== undefined")
        tab.evaluate(PRESS % "Go there")
        tab.wait_for(SHOWS % "Understood: x 1.00, y 3.00, confidence 90 %.")
        tab.wait_for(SHOWS % "Goal reached.")
        # What was never learnt is answered with its doubt; what is no sentence, with the reason.
        type_sentence(tab, server, Colours.example, "sing <b>a song</b>")
        tab.wait_for(SHOWS % "confidence 20 %")
        assert tab.evaluate(SHOWS % f"the nearest is “{Colours.example}”")
        type_sentence(tab, server, "sing <b>a song</b>", "   ")
        tab.wait_for(SHOWS % "the sentence is empty")
        assert server.session.frame().goal.tolist() == [2.75, 1.0]
        tab.evaluate(PRESS % "Other markers")
        tab.wait_for(SHOWS % "Click on the floor")
        assert scene.get_handle_by_name("/agent/mark red").position[:2].tolist() == [3, 3]
        assert not tab.evaluate(SHOWS % "Understood")
