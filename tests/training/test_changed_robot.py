"""A user's robot whose file changed since the run began: refused on resume, told elsewhere."""

import json
import warnings
from pathlib import Path

import pytest

from kilolayer.analysis.load import load
from kilolayer.api import prune
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import open_policy
from kilolayer.deploy.smaller.distil import distil
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.training.loop import resume_run, start_run
from training.test_divergence import config

pytestmark = pytest.mark.slow

TOLD = "was trained on another robot: the file of cart has changed since"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    place = tmp_path_factory.mktemp("own")
    return start_run(config(place, gear=0.01), place / "run", SilentDisplay())


@pytest.fixture
def change(trained):
    """`change(old, new)`: edits the robot's file for one test."""
    file = Path(trained.config.task.mjcf)
    before = file.read_text()

    def change(old: str, new: str) -> None:
        assert old in before
        file.write_text(before.replace(old, new))

    yield change
    file.write_text(before)


def resume(run: RunDirectory) -> None:
    (run.path / "DONE").unlink(missing_ok=True)
    resume_run(run.path, SilentDisplay())


def warned(action) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(each.message) for each in caught]


def test_resume_refuses_a_changed_robot(trained, change) -> None:
    change('gear="0.01"', 'gear="0.02"')
    with pytest.raises(UserError, match=r"cart.xml has changed since .*--config .* --start-from"):
        resume(trained)
    change("<worldbody>", "<!-- the same robot --><worldbody>")
    resume(trained)


def test_its_policy_is_used_with_a_warning(trained, change, tmp_path) -> None:
    saved = open_policy(trained.path).save(tmp_path / "policy")
    assert saved.trained_on["sha256"]
    uses = {
        trained.path: lambda: load(trained.path).task,
        saved.path: lambda: open_policy(saved.path).task,
    }
    for path, use in uses.items():
        assert warned(use) == []
        change('gear="0.01"', 'gear="0.02"')
        assert warned(use) == [f"{path} {TOLD}"]
        change('gear="0.01"', 'gear="0.01"')


def test_smaller_policies_keep_the_mark_of_the_robot(trained, tmp_path) -> None:
    mark = trained.recorded("task")
    pruned = prune(trained.path, episodes=64, out=tmp_path / "pruned", progress=False).policy
    (student,) = distil(
        trained.path, (4,), recipe=Recipe(steps=2_000), episodes=4, out=tmp_path / "student"
    )
    for policy in (pruned, student):
        assert open_policy(policy.path).trained_on == mark


def test_another_mujoco_says_nothing_of_the_file(trained, change) -> None:
    file = trained.path / "manifest.json"
    manifest = file.read_text()
    values = json.loads(manifest)
    values["task"]["mujoco"] = "3.0.0"
    change('gear="0.01"', 'gear="0.02"')
    for text in (json.dumps(values), "{}", "no JSON"):
        file.write_text(text)
        assert warned(lambda: load(trained.path).task) == []
    file.write_text(manifest)


def test_config_starts_a_new_run_with_the_changed_robot(trained, change, tmp_path) -> None:
    change('gear="0.01"', 'gear="0.02"')
    own = RunConfig.read(trained.path / "config.json").having(start_from=str(trained.path))
    began = start_run(own, tmp_path / "new", SilentDisplay())
    assert began.recorded("task") != trained.recorded("task")
    assert began.finished
