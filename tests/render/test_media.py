"""Frames and video files."""

import subprocess
import sys
from importlib.util import find_spec

import mujoco
import numpy as np
import pytest
from PIL import Image

from kilolayer.errors import UserError
from kilolayer.render.media import (
    GAP,
    ffmpeg_path,
    freeze_after_termination,
    render_frames,
    write_video,
)
from kilolayer.render.style import FAILURE, SUCCESS, Mark, rgb
from kilolayer.tasks.registry import make_task

POINT = make_task("point_u_maze")
ANT = make_task("ant")


def count_pixels(image: np.ndarray, colour: str, tolerance: int) -> int:
    wanted = np.round(255 * np.array(rgb(colour))).astype(int)
    return int((np.abs(image.astype(int) - wanted).max(-1) <= tolerance).sum())


def decoded(path, width: int, height: int) -> np.ndarray:
    command = [ffmpeg_path(), "-loglevel", "error", "-i", str(path)]
    raw = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def standing_ants(*places: tuple[float, float], times: int = 1) -> np.ndarray:
    pose = np.array([0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1])
    qpos = np.tile(pose, (times, len(places), 1))
    qpos[..., :2] = places
    return qpos


def frames_of(task, qpos: np.ndarray, goals, reached=False, **options) -> np.ndarray:
    """Frames of environments with constant goals `[envs, goal]`."""
    goal = np.broadcast_to(goals, (*qpos.shape[:2], task.goal.dim))
    reached = np.broadcast_to(np.asarray(reached).reshape(-1, 1), qpos.shape[:2])
    return render_frames(task, qpos, goal, reached, **options)


@pytest.mark.parametrize("radius", [0.3, 0.9])
def test_mark_and_goal_at_one_position_are_both_visible(radius):
    place = (3.0, 1.0)
    mark = Mark("red", "#E02020", place, radius)
    image = frames_of(POINT, np.ones((1, 1, 2)), [place], size=240, marks=[mark])[0]
    cell = 240 / 5  # pixels
    for own, other, colour in (
        (radius, POINT.goal.radius, mark.colour),
        (POINT.goal.radius, radius, FAILURE),
    ):
        hidden = other if other < own else 0
        area = np.pi * (own**2 - hidden**2) * cell**2
        assert count_pixels(image, colour, 0) == pytest.approx(area, rel=0.15)  # outlines


@pytest.fixture(scope="module")
def _rendering():
    try:
        frames_of(ANT, standing_ants((0, 0)), [5.0, 0.0], size=16)
    except UserError as error:
        pytest.skip(str(error))


def test_point_frames_show_goal_and_success():
    qpos = np.array([[[1.0, 1.0]], [[2.0, 3.0]], [[3.0, 1.2]]])
    frames = frames_of(POINT, qpos, [3.0, 1.0], [False, False, True], size=100)
    assert frames.shape == (3, 100, 100, 3)
    assert frames.dtype == np.uint8
    # The goal's disc has a radius of half a cell of 20 pixels.
    disc = np.pi * 10**2
    assert 0.7 * disc < count_pixels(frames[0], FAILURE, 2) < disc
    assert count_pixels(frames[0], SUCCESS, 2) == 0
    assert count_pixels(frames[2], SUCCESS, 2) > 0.5 * disc


def test_point_frames_have_x_to_the_right_and_y_up():
    frames = frames_of(POINT, np.array([[[1.0, 1.0]]]), [3.0, 1.0], size=100)
    rows, columns = np.nonzero((np.abs(frames[0].astype(int) - [230, 159, 0]) < 3).all(-1))
    assert columns.mean() == pytest.approx(69.5, abs=1)  # x = 3, from the left
    assert rows.mean() == pytest.approx(69.5, abs=1)  # y = 1, from below


def test_environments_are_tiled():
    qpos = np.tile([1.0, 1.0], (4, 3, 1))
    frames = frames_of(POINT, qpos, [3.0, 1.0], size=50, every=3)
    assert frames.shape == (2, 100 + GAP, 100 + GAP, 3)
    assert (frames[:, 50 + GAP :, 50 + GAP :] == 255).all()  # the fourth place stays empty


@pytest.mark.usefixtures("_rendering")
def test_open_ground_camera_shows_ant_and_goal():
    places = [(0, 0), (-8, 5), (3, 0)]
    goals = np.array([[10.0, 0.0], [0.0, 10.0], [3.0, 0.3]])
    frames = frames_of(ANT, standing_ants(*places), goals, size=160)
    for tile in (frames[0, :160, :160], frames[0, :160, 164:], frames[0, 164:, :160]):
        red, green, blue = tile.astype(int).transpose(2, 0, 1)
        assert ((red - blue > 90) & (green - blue > 70)).any() or (green - red > 60).any()
        ant = (red - blue > 30) & (red - green > 15) & (red < 170)
        assert ant.sum() > 10
        assert not ant[[0, -1]].any()


@pytest.mark.usefixtures("_rendering")
def test_maze_is_rendered_from_above():
    task = make_task("ant_u_maze")
    frames = frames_of(task, standing_ants((4, 4)), [12.0, 8.0], size=100)
    _, green, blue = frames[0].astype(int).transpose(2, 0, 1)
    rows, columns = np.nonzero(green - blue > 120)  # yellow: the goal in full light
    assert columns.mean() == pytest.approx(69.5, abs=3)
    assert rows.mean() == pytest.approx(49.5, abs=3)


@pytest.mark.usefixtures("_rendering")
def test_rendering_does_not_change_the_physics_model():
    before = mujoco.mj_sizeModel(ANT.world.model), ANT.world.model.ngeom
    frames_of(ANT, standing_ants((0, 0)), [5.0, 0.0], size=64)
    assert (mujoco.mj_sizeModel(ANT.world.model), ANT.world.model.ngeom) == before


def test_rendering_failure_is_reported(monkeypatch):
    def fail(name):
        raise ImportError("no EGL here")

    monkeypatch.setattr("kilolayer.render.scene.import_module", fail)
    with pytest.raises(UserError, match=r"cannot render MuJoCo .*no EGL here.*MUJOCO_GL"):
        frames_of(ANT, standing_ants((0, 0)), [5.0, 0.0], size=64)


@pytest.mark.parametrize(
    ("qpos", "goal", "size", "every"),
    [
        (np.zeros((5, 2)), np.zeros((5, 2, 2)), 64, 1),
        (np.zeros((5, 2, 3)), np.zeros((5, 2, 2)), 64, 1),
        (np.zeros((0, 2, 2)), np.zeros((0, 2, 2)), 64, 1),
        (np.zeros((5, 2, 2)), np.zeros((2, 2)), 64, 1),
        (np.zeros((5, 1, 2)), np.zeros((5, 1, 2)), 64, 1),
        (np.full((5, 2, 2), np.nan), np.zeros((5, 2, 2)), 64, 1),
        (np.zeros((5, 2, 2)), np.zeros((5, 2, 2)), 8, 1),
        (np.zeros((5, 2, 2)), np.zeros((5, 2, 2)), 64, 0),
    ],
)
def test_render_frames_refuses_invalid_arrays(qpos, goal, size, every):
    with pytest.raises(UserError):
        render_frames(POINT, qpos, goal, np.zeros((5, 2), bool), size=size, every=every)


def test_positions_are_frozen_after_termination():
    qpos = np.arange(8.0).reshape(4, 2, 1)
    alive = np.array([[True, False], [True, False], [False, False], [False, False]])
    frozen = freeze_after_termination(qpos, alive)[..., 0]
    assert frozen.T.tolist() == [[0, 2, 2, 2], [1, 1, 1, 1]]


@pytest.mark.parametrize("side", [64, 51])
def test_mp4_decodes_with_all_frames_and_even_sides(tmp_path, side):
    frames = np.zeros((7, side, side + 12, 3), np.uint8)
    frames[:, : side // 2, :, 0] = 220
    path = tmp_path / "media" / "a.mp4"
    write_video(path, frames, fps=10)
    height, width = side + side % 2, side + 12 + side % 2
    film = decoded(path, width, height)
    assert film.shape == (7, height, width, 3)
    assert film[3, 5, 20] == pytest.approx(np.array([220, 0, 0]), abs=12)
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_gif_keeps_frames_size_and_speed(tmp_path):
    frames = np.zeros((5, 20, 30, 3), np.uint8)
    frames[np.arange(5), np.arange(5)] = 255  # equal frames would be merged
    write_video(tmp_path / "a.gif", frames, fps=10)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (5, (30, 20), 100)


def test_png_shows_frames_from_first_to_last(tmp_path):
    frames = np.zeros((11, 4, 4, 3), np.uint8)
    frames[:] = 10 * np.arange(11)[:, None, None, None]
    write_video(tmp_path / "a.png", frames, fps=10)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (2 * 4 + GAP, 3 * 4 + 2 * GAP, 3)
    shown = sheet[:: 4 + GAP, :: 4 + GAP, 0]
    assert shown.tolist() == [[0, 20, 40], [60, 80, 100]]


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("a.avi", np.zeros((2, 8, 8, 3), np.uint8)),
        ("a.mp4", np.zeros((0, 8, 8, 3), np.uint8)),
        ("a.mp4", np.zeros((2, 8, 8), np.uint8)),
        ("a.gif", np.zeros((2, 8, 8, 3))),
    ],
)
def test_write_video_refuses_invalid_input(tmp_path, name, frames):
    with pytest.raises(UserError):
        write_video(tmp_path / name, frames, fps=10)
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_old_video(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    monkeypatch.setattr("kilolayer.render.media.QUALITY", "not a number")
    with pytest.raises(UserError, match="ffmpeg failed"):
        write_video(path, np.zeros((2, 8, 8, 3), np.uint8), fps=10)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(find_spec("triton") is None, reason="PyTorch without Triton, as for CPUs")
def test_triton_can_be_used_after_a_picture():
    code = """
import mujoco
from kilolayer.render.scene import OffScreen

with OffScreen(mujoco.MjModel.from_xml_string("<mujoco/>"), 64, 64):
    import triton._C.libtriton
"""
    subprocess.run([sys.executable, "-c", code], check=True)
