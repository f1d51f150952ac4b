"""Inspecting a task: ranges, shares and pictures with known answers."""

import re
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from kilolayer import api
from kilolayer.cli import main
from kilolayer.errors import UserError
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.kinematic import PointWorld
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.settings import settings_of
from kilolayer.tasks.base import Coordinate, GoalSpec, Task
from kilolayer.tasks.choice import TaskChoice
from kilolayer.tasks.inspect import inspect_task
from kilolayer.types import Array


@dataclass(frozen=True)
class Line(Task):
    """A point in a room: the goal of world 0 is 0, of world 1 it is 1, and so on; all start at 3,
    3.

    ends: the last coordinate beyond which an episode ends. bad: environments that sense a NaN.
    """

    radius: float = 0.5
    ends: float = np.inf
    bad: int = 0

    name = "line"
    world = PointWorld(walls=((True,) * 7, *((True, *(False,) * 5, True),) * 5, (True,) * 7))
    observation = (Coordinate("y", "cell"), Coordinate("constant", "1"))
    action_dim = 2
    episode_length = 50

    @property
    def goal(self) -> GoalSpec:
        return GoalSpec((Coordinate("y", "cell"),), self.radius, 2 * self.radius)

    def sample_goal(self, key: Array, num_envs: int, split: str) -> Array:
        return jnp.arange(num_envs, dtype=jnp.float32)[:, None]

    def reset(self, key: Array, goal: Array, split: str) -> tuple[Array, Array]:
        return jnp.full((len(goal), 2), 3.0), jnp.zeros((len(goal), 2))

    def observe(self, state: PhysicsState) -> Array:
        y = state.qpos[:, 1]
        world = jnp.arange(len(y))
        return jnp.stack([y, jnp.where(world < self.bad, jnp.nan, 7.0)], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, 1:]

    def terminated(self, state: PhysicsState) -> Array:
        return state.qpos[:, 1] > self.ends


def test_inspection_ranges_under_random_actions():
    """The walls' faces are at 0.6 and 5.4 for a point of radius 0.1."""
    found = inspect_task(Line(), SilentDisplay())
    assert (found.envs, found.steps, found.diverged) == (128, 50, 0)
    assert found.actions == ("action 0", "action 1")
    low, high = found.observation
    assert 0.6 - 1e-5 <= low[0] < 3 < high[0] <= 5.4 + 1e-5
    np.testing.assert_array_equal([low[1], high[1]], [7, 7])
    np.testing.assert_array_equal(found.achieved[:, 0], found.observation[:, 0])
    np.testing.assert_array_equal(found.commanded[:, 0], [0, 127])
    assert found.ended_early == 0
    assert found.steps_per_second > 0


def test_success_is_the_share_ever_within_the_radius():
    # World 3 starts at its goal; environments 0 and 6 upwards cannot come within 0.1 through the
    # walls.
    found = inspect_task(Line(radius=0.1), SilentDisplay())
    assert 1 / 128 <= found.success <= 5 / 128
    assert inspect_task(Line(radius=200.0), SilentDisplay()).success == 1
    assert inspect_task(Line(radius=1e-6), SilentDisplay()).success <= 1 / 128


def test_steps_after_termination_do_not_count():
    found = inspect_task(Line(ends=3.2), SilentDisplay())
    assert 0.2 < found.ended_early < 0.9
    assert found.observation[1, 0] <= 3.2
    at_once = inspect_task(Line(ends=-1.0, radius=200.0), SilentDisplay())
    assert at_once.ended_early == 1
    assert at_once.success == 0
    # One step of 0.1 s from rest at an acceleration of 6 moves by 0.06 at most.
    np.testing.assert_allclose(at_once.observation[:, 0], [2.94, 3.06], atol=2e-3)


def test_diverged_environments_are_counted_and_excluded():
    found = inspect_task(Line(bad=5), SilentDisplay())
    assert found.diverged == 5
    assert np.isfinite(found.observation).all()
    with pytest.raises(
        UserError, match="task line diverges under random actions in every environment"
    ):
        inspect_task(Line(bad=128), SilentDisplay())


def test_the_command_prints_names_units_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["inspect", "point_u_maze"])
    printed = capsys.readouterr().out
    for text in ("y velocity", "cell/s", "0.1 s", "200 control steps", "control steps/s"):
        assert text in printed
    assert "picture  inspect_point_u_maze.png" in printed
    picture = np.asarray(Image.open("inspect_point_u_maze.png"))
    assert picture.shape == (480, 480, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3


def test_inspection_without_rendering_shows_the_rest(tmp_path, monkeypatch, capsys):
    def no_driver() -> None:
        raise ImportError("no EGL")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kilolayer.render.scene.context_class", no_driver)
    main(["inspect", "--task", "reacher", "--out", "picture.png"])
    printed = capsys.readouterr().out
    assert "tip x" in printed
    assert "no picture: this machine cannot render MuJoCo (ImportError: no EGL)" in printed
    assert not (tmp_path / "picture.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["antt"], "task = 'antt' is not allowed"),
        (["--goal-site", "tip"], "goal_site = 'tip' is not allowed: it needs a robot"),
        (["ant", "--out", "ant.jpg"], "out = 'ant.jpg' is not allowed.*ant.png"),
        (["ant", "--out", "no/such/ant.png"], "out = 'no/such/ant.png' .*no such directory"),
    ],
)
def test_invalid_input_is_refused(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["inspect", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(sentence, error)


def test_inspect_accepts_every_task_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["inspect", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in settings_of(TaskChoice):
        assert f"--{name.replace('_', '-')}" in text
    assert "kilolayer inspect TASK" in text


def test_python_api_matches_the_command():
    found = api.inspect(TaskChoice(task="point_u_maze"), progress=False)
    assert found.task.name == "point_u_maze"
