"""The manifest of a run: what it says about the code that ran."""

import subprocess

import pytest

from kilolayer.runtime import manifest


@pytest.mark.parametrize("tracked", [True, False])
def test_no_commit_of_another_project_is_named(tmp_path, monkeypatch, tracked):
    """An installed package lies inside the checkout of its user."""
    package = tmp_path / ".venv" / "kilolayer"
    package.mkdir(parents=True)
    (package / "manifest.py").touch()
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    add = ["add", "-f", "."] if tracked else ["status"]
    for command in (["init"], add, [*author, "commit", "--allow-empty", "-m", "own"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr(manifest, "__file__", str(package / "manifest.py"))
    found = manifest.describe_run(0)["git"]
    assert found is None or found.keys() == {"commit", "changed"}
    assert (found is not None) == tracked
