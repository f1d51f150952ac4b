"""Films on pages: the gallery of all policies of the zoo; a missing film of a language report."""

import re

import pytest

from kilolayer.api import showing
from kilolayer.cli import main
from kilolayer.deploy.zoo_entry import zoo_entries
from kilolayer.errors import UserError
from kilolayer.report.language_report import LanguageSource, video_section
from pages import assert_alone, read_page


@pytest.fixture
def two(monkeypatch):
    """A zoo of the two fastest policies."""
    found = [each for each in zoo_entries() if each.name in ("arm_reach_easy", "point_u_maze")]
    monkeypatch.setattr("kilolayer.api.showing.zoo", lambda: found)
    return found


def test_gallery_shows_film_and_score_of_every_policy(two, tmp_path, capsys):
    out = tmp_path / "gallery.html"
    main(["gallery", "--out", str(out)])
    assert str(out) in capsys.readouterr().out
    text = out.read_text()
    page = read_page(text)
    assert_alone(text, page)
    for exhibit in two:
        section = text[text.index(f'<section id="{exhibit.name}">') :].split("</section>")[0]
        assert len(re.findall(r'<video [^>]*src="data:video/mp4;base64,.{1000}', section)) == 1
        assert f"{exhibit.score.success.value:.3f}" in section
        assert f"kilolayer play zoo:{exhibit.name}" in section
    assert list(tmp_path.iterdir()) == [out]  # the films are inside


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("gallery.txt", r"out = 'gallery.txt' .*ends in .html.*gallery.html"),
        ("no/gallery.html", "there is no such directory"),
    ],
)
def test_gallery_refuses_invalid_path_before_rendering(
    out, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(showing, "play", pytest.fail)
    with pytest.raises(SystemExit) as stop:
        main(["gallery", "--out", out])
    assert stop.value.code == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_gallery_without_zoo_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("kilolayer.api.showing.zoo", list)
    with pytest.raises(SystemExit) as stop:
        main(["gallery", "--out", str(tmp_path / "g.html")])
    assert stop.value.code == 2
    assert "has no zoo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("film", "text", "sentence"),
    [
        (False, '{"text": "reached", "width": 9}', "there is no video"),
        (True, "{", "say.json is damaged"),
        (True, '{"text": "reached", "width": "9\\" onload=\\"x"}', "say.json is damaged"),
    ],
)
def test_video_of_a_language_report_without_its_files_is_not_shown(film, text, sentence, tmp_path):
    (tmp_path / "say.json").write_text(text)
    if film:
        (tmp_path / "say.mp4").write_bytes(b"film")
    source = LanguageSource(tmp_path, evidence=None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"{sentence}.*kilolayer play RUN --say"):
        video_section(source)
