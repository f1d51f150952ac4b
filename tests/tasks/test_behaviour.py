"""Measures of movement, computed by hand."""

import numpy as np
import pytest

from kilolayer.tasks.registry import make_task

TIMES = 21


def posed(name: str, envs: int) -> tuple:
    """The task, and a pose at zero of its environments, repeated over time."""
    task = make_task(name)
    pose = task.world.model.qpos0.copy()
    return task, np.tile(pose, (TIMES, envs, 1)), np.ones((TIMES, envs), bool)


def test_an_ant_that_glides_and_one_that_lies_on_its_back():
    task, qpos, alive = posed("ant", 2)
    qpos[:, 0, 0] = 0.1 * np.arange(TIMES)  # 0.1 m in each step of 0.1 s
    qpos[:, 0, 2], qpos[:, 1, 2] = 5.0, 6.0  # too high to touch anything
    qpos[:, 1, 3:7] = [0, 1, 0, 0]  # half a turn about x
    scores = task.behaviour(qpos, alive)
    assert scores == pytest.approx(
        {"torso_height": 5.5, "upright_share": 0.5, "speed": 0.5, "contacts": 0.0, "falls": 0.0}
    )


def test_steps_after_a_fall_are_excluded():
    task, qpos, alive = posed("ant", 2)
    qpos[..., 2] = 3.0
    qpos[10:, 1, 2], alive[10:, 1] = 100.0, False
    scores = task.behaviour(qpos, alive)
    assert scores["torso_height"] == pytest.approx(3.0)
    assert scores["falls"] == 0.5


@pytest.mark.parametrize("name", ["ant", "humanoid"])
def test_a_body_sunk_into_the_floor_has_contacts_and_one_in_the_air_has_fewer(name):
    task, qpos, alive = posed(name, 1)
    qpos[..., 2] = 0.1
    low = task.behaviour(qpos, alive)["contacts"]
    qpos[..., 2] = 9.0
    assert low >= task.behaviour(qpos, alive)["contacts"] + 2


def test_a_cheetah_on_its_back_is_not_upright():
    task, qpos, alive = posed("half_cheetah", 2)
    qpos[:, 1, 2] = np.pi
    qpos[:, :, 0] = 0.1 * np.arange(TIMES)[:, None]
    scores = task.behaviour(qpos, alive)
    assert scores["upright_share"] == 0.5
    assert scores["speed"] == pytest.approx(2.0)
    assert scores["torso_height"] == pytest.approx(0.7)


def test_the_puck_travels():
    task, qpos, alive = posed("pusher_easy", 1)
    qpos[:, 0, 7] = 0.01 * np.arange(TIMES)
    assert task.behaviour(qpos, alive) == pytest.approx({"puck_travel": 0.2})
