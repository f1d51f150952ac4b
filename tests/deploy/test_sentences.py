"""The page that takes a sentence: what is typed moves the agent, and what was understood is told.

Who understands is a few lines here: the page and the session know nothing of language.
"""

import http.client
import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from browser import browser, needs_browser
from kilolayer.deploy.listener import Heard
from kilolayer.deploy.page.lane import Player
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import Session
from kilolayer.render.marks import Mark
from kilolayer.tasks.point import PointMaze
from kilolayer.types import UserError

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

    def hear(self, sentence: str) -> Heard:
        if not sentence.strip():
            raise UserError("the sentence is empty: say where to go.")
        known = sentence == self.example
        goal = np.array(self.marks[0].place if known else (2.1, 1.0))
        return Heard(goal, 0.9 if known else 0.2, known, self.example)

    def rearrange(self) -> None:
        self.turned += 1


def straight(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.clip(4 * (goal - observation[:2]), -1, 1)


@pytest.fixture
def server() -> Iterator[PageServer]:
    session = Session(MAZE, [Player("agent", "", straight)], listener=Colours())
    session.warm_up()
    session.start()
    with PageServer(session, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    session.stop()


def post(server: PageServer, path: str, body: object) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("POST", path, json.dumps(body))
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_a_sentence_sets_the_goal_and_says_what_it_was_taken_for(server):
    status, heard = post(server, "/say", {"sentence": "go to the red marker"})
    assert (status, heard.pop("nearest")) == (200, "go to the red marker")
    assert heard == {"goal": [1.0, 3.0], "moved": False, "confidence": 0.9, "familiar": True}
    assert server.session.scene()["frame"]["goal"] == [1.0, 3.0]
    # A goal in the wall between the arms goes to the nearest place, as a click does.
    status, heard = post(server, "/say", {"sentence": "sing"})
    assert heard["goal"] == [2.75, 1.0]
    assert (heard["moved"], heard["familiar"], heard["confidence"]) == (True, False, 0.2)


def test_other_marks_begin_a_new_episode_without_a_goal(server):
    post(server, "/say", {"sentence": "go to the red marker"})
    assert post(server, "/marks", {}) == (200, {})
    frame = server.session.scene()["frame"]
    assert (frame["phase"], frame["goal"]) == ("waiting", None)
    assert [mark["place"] for mark in frame["sentences"]["marks"]] == [[3.0, 3.0], [1.0, 3.0]]
    assert post(server, "/say", {"sentence": "go to the red marker"})[1]["goal"] == [3.0, 3.0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "a sentence is sent as"),
        ({"sentence": 3}, "a sentence is sent as"),
        ({"sentence": "go", "restart": 1}, "a sentence is sent as"),
        ({"sentence": "  "}, "the sentence is empty"),
        ({"sentence": "x" * 70_000}, "at most 65536 bytes"),
    ],
)
def test_wrong_sentences_get_one_sentence(server, body, words):
    status, answer = post(server, "/say", body)
    assert status in (400, 413)
    assert words in answer["error"]
    assert server.session.scene()["frame"]["goal"] is None


def test_a_page_without_a_listener_says_how_to_get_one():
    session = Session(MAZE, [Player("agent", "", straight)])
    with pytest.raises(UserError, match="kilolayer serve RUN --grounding DIR"):
        session.say("go to the red marker", True)
    with pytest.raises(UserError, match="--grounding"):
        session.rearrange()
    assert session.scene()["listens"] is False


TYPE = """(() => { const field = document.querySelector("#sentence"); field.value = %r;
  document.querySelector("#sayings").requestSubmit(); return true; })()"""


@needs_browser
def test_a_person_says_where_to_go_and_sees_it_reached(server, tmp_path):
    with browser(tmp_path / "profile") as tab:
        tab.open(server.url)
        tab.wait_for("document.querySelector('#status').textContent.startsWith('Say where')")
        assert tab.evaluate("document.querySelector('#sentence').placeholder").endswith(
            Colours.example
        )
        fills = (
            "[...document.querySelectorAll('.ground .mark')].map((dot) => dot.getAttribute('%s'))"
        )
        assert tab.evaluate(fills % "fill") == ["#d02020", "#2040d0"]
        assert tab.evaluate(fills % "cy") == ["3", "3"]
        tab.evaluate("document.querySelector('#sentence').focus()")
        tab.call("Input.insertText", text=Colours.example)
        tab.call("Input.dispatchKeyEvent", type="char", text="\r")
        heard = "document.querySelector('#heard:not([hidden])')?.innerText"
        assert tab.wait_for(heard) == "Understood: x 1.00, y 3.00 cell, confidence 90 %."
        tab.wait_for("document.querySelector('.outcome').textContent.startsWith('Reached after')")
        # What was never learnt is answered with its doubt; what is no sentence, with the reason.
        tab.evaluate(TYPE % "sing a song")
        tab.wait_for(f"{heard}.includes('confidence 20 %')")
        assert f"nearest known sentence is “{Colours.example}”" in tab.evaluate(heard)
        tab.evaluate(TYPE % "   ")
        assert tab.wait_for(f"{heard}.includes('is empty') && {heard}").startswith("the sentence")
        tab.evaluate("document.querySelector('#rearrange').click()")
        tab.wait_for("document.querySelector('#status').textContent.startsWith('Say where')")
        assert tab.evaluate(fills % "cx") == ["3", "1"]
        assert tab.evaluate("document.querySelector('#heard').hidden")
        # The one complaint is of the answer to the empty sentence.
        assert len(tab.console) == 1
        assert "400" in tab.console[0]
