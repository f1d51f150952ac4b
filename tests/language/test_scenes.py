"""Tests for kilolayer.language.scenes and board: positions and colours of markers."""

# MuJoCo ships no type stubs for its compiled module.
# pyright: reportAttributeAccessIssue=false
import jax
import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageColor

from kilolayer.errors import UserError
from kilolayer.language.base import PICTURE_SIZE, Marker
from kilolayer.language.board import board_of, require_instructions
from kilolayer.language.instructions import draw_scene
from kilolayer.language.scenes import COLOURS, draw_pictures, look_down, to_pixels
from kilolayer.language.words import COLOUR_NAMES
from kilolayer.render.scene import OffScreen
from kilolayer.tasks.registry import TASKS, make_task

U_MAZE, HARDEST = make_task("point_u_maze"), make_task("point_hardest_maze")
ARM, PUSHER, ANT = (make_task(name) for name in ("arm_push_easy", "pusher_hard", "ant_u_maze"))


@pytest.fixture(scope="module")
def _rendering():
    try:
        draw_pictures(ARM, [()], size=16)
    except UserError as error:
        pytest.skip(str(error))


def colour_at(task, picture: np.ndarray, marker: Marker) -> list[int]:
    left, top = to_pixels(board_of(task), marker.place, len(picture))
    return picture[int(top), int(left)].tolist()


def test_board_of_the_u_maze():
    board = board_of(U_MAZE)
    assert (board.rows, board.columns) == (3, 3)
    assert board.goals == ((1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 3))
    assert board.free - set(board.goals) == {(3, 1)}
    # Five cells a side, walls included: the start x = y = 1 is in the second from left and below.
    assert board.cell_of((1.0, 1.0)) == (3, 1)
    assert board.centre((1, 2)) == (2.0, 3.0)
    assert to_pixels(board, (1.0, 1.0), 100) == pytest.approx((30, 70))


def test_cells_of_the_largest_maze_align_with_patches_of_eight_pixels():
    board = board_of(HARDEST)
    corners = [to_pixels(board, board.moved(board.centre(c), 0.5, 0.5), 96) for c in board.free]
    np.testing.assert_allclose(np.array(corners) % 8, 0, atol=1e-9)
    assert board.step[0] / board.side * PICTURE_SIZE == 8


@pytest.mark.parametrize("task", [U_MAZE, HARDEST], ids=lambda task: task.name)
@given(seed=st.integers(0, 2**32 - 1))
def test_markers_in_mazes_have_their_colour_at_their_place(task, seed):
    markers = draw_scene(task, np.random.default_rng(seed))
    (picture,) = draw_pictures(task, [markers])
    for marker in markers:
        assert colour_at(task, picture, marker) == list(ImageColor.getrgb(COLOURS[marker.colour]))


@pytest.mark.usefixtures("_rendering")
@pytest.mark.parametrize("task", [ARM, PUSHER, ANT], ids=lambda task: task.name)
def test_rendered_environments_are_grey_and_their_markers_have_colour(task):
    rows = [draw_scene(task, np.random.default_rng(seed)) for seed in range(8)]
    pictures = draw_pictures(task, [(), *rows])
    assert pictures.shape == (9, PICTURE_SIZE, PICTURE_SIZE, 3)
    assert pictures.dtype == np.uint8
    assert np.ptp(pictures[0].astype(int), axis=-1).max() == 0
    for markers, picture in zip(rows, pictures[1:], strict=True):
        for marker in markers:
            expected = ImageColor.getrgb(COLOURS[marker.colour])
            np.testing.assert_allclose(colour_at(task, picture, marker), expected, atol=2)


@pytest.mark.usefixtures("_rendering")
def test_to_pixels_agrees_with_the_rendering_of_mujoco():
    """A ball that MuJoCo renders with the same camera, above the table and on it."""
    board, model, size = board_of(ARM), ARM.world.model, 200
    data, option, camera = mujoco.MjData(model), mujoco.MjvOption(), mujoco.MjvCamera()
    mujoco.mj_forward(model, data)
    everything = int(mujoco.mjtCatBit.mjCAT_ALL)
    for place in ((0.05, 0.55, 0.01), (0.17, 0.68, 0.4)):
        with OffScreen(model, size, size) as screen:
            mujoco.mjv_updateScene(model, data, option, None, camera, everything, screen.scene)
            look_down(screen.scene, board)
            screen.scene.ngeom = 1  # only the ball
            mujoco.mjv_initGeom(
                screen.scene.geoms[0],
                int(mujoco.mjtGeom.mjGEOM_SPHERE),
                np.full(3, 0.01),
                np.array(place),
                np.eye(3).ravel(),
                np.array([1, 0, 0, 1], np.float32),
            )
            picture = screen.render().astype(int)
        rows, columns = np.nonzero(picture[..., 0] - picture[..., 1] > 20)
        left, top = to_pixels(board, place[:2], size)
        assert columns.mean() + 0.5 == pytest.approx(left, abs=0.5)
        assert rows.mean() + 0.5 == pytest.approx(top, abs=0.5)


def test_equal_markers_give_equal_pictures_in_any_order():
    markers = draw_scene(U_MAZE, np.random.default_rng(0))
    first, second = draw_pictures(U_MAZE, [markers, markers[::-1]])
    np.testing.assert_array_equal(first, second)
    assert draw_pictures(U_MAZE, []).shape == (0, PICTURE_SIZE, PICTURE_SIZE, 3)


def test_colours_are_distinguishable():
    assert tuple(COLOURS) == COLOUR_NAMES
    values = np.array([ImageColor.getrgb(colour) for colour in COLOURS.values()], float)
    gaps = np.linalg.norm(values[:, None] - values[None], axis=-1)
    assert gaps[np.triu_indices(6, 1)].min() > 100


@pytest.mark.parametrize("name", [name for name in TASKS if make_task(name).goal_box])
def test_sampled_goals_fill_the_goal_box(name):
    task = make_task(name)
    goals = np.asarray(task.sample_goal(jax.random.key(0), 1000, "evaluation"))
    low, high = np.array(task.goal_box)
    slack = 0.02 * (high - low) + 1e-6
    assert (goals >= low - 1e-6).all()
    assert (goals <= high + 1e-6).all()
    assert (goals.min(0) <= low + slack).all()
    assert (goals.max(0) >= high - slack).all()


@pytest.mark.parametrize(
    "name", ["ant", "ant_push", "half_cheetah", "arm_grasp", "arm_reach_easy", "reacher"]
)
def test_task_without_instructions_is_refused(name):
    with pytest.raises(UserError, match=rf"task {name} has no instructions: only .*arm_reach"):
        require_instructions(make_task(name))


def test_missing_renderer_is_reported(monkeypatch):
    def fail(name):
        raise ImportError("no EGL here")

    monkeypatch.setattr("kilolayer.render.scene.import_module", fail)
    with pytest.raises(UserError, match="cannot render MuJoCo"):
        draw_pictures(ARM, [()], size=17)
