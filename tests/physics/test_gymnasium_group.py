"""Gymnasium environments in several processes: the same results as one after the other."""

import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.physics.gymnasium import GymnasiumPhysics
from kilolayer.physics.gymnasium_group import Processes, process_count
from kilolayer.tasks.gymnasium import make_gymnasium_task

pytest.importorskip("gymnasium_robotics")
ENVS, STEPS = 8, 12


def played(processes: int) -> list[dict[str, np.ndarray]]:
    """The states of a rollout with random actions, goals given to half of the environments, resets
    on the way and a step from a state that the environments have left."""
    task = make_gymnasium_task("PointMaze_UMaze-v3")
    physics = GymnasiumPhysics(task.world, ENVS, processes)
    goals = np.full((ENVS, 2), np.nan, np.float32)
    goals[::2] = 1.5
    seeds = np.arange(ENVS, dtype=np.uint32)[:, None]
    init, step, reset = jax.jit(physics.init), jax.jit(physics.step), jax.jit(physics.reset)
    random = np.random.default_rng(0)
    states = [first := init(seeds, goals)]
    for index in range(STEPS):
        actions = jnp.asarray(random.uniform(-1.2, 1.2, (ENVS, 2)), jnp.float32)
        states.append(step(states[-1], actions))
        if index % 5 == 3:
            mask = random.random(ENVS) < 0.5
            states.append(reset(states[-1], mask, seeds + 100 + index, goals))
    states.append(step(first, jnp.zeros((ENVS, 2))))
    return [{**state.fields, "engine": state.engine} for state in jax.device_get(states)]


def test_two_processes_match_one():
    alone, together = played(1), played(2)
    assert len(alone) == len(together) == STEPS + 4
    for one, other in zip(alone, together, strict=True):
        for name, array in one.items():
            assert array.dtype == other[name].dtype
            np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert np.ptp([state["achieved_goal"] for state in alone[:5]], axis=0).min() > 0
    assert alone[-1]["truncated"].any()
    assert (alone[0]["goal"][::2] == 1.5).all()


@pytest.mark.parametrize(
    ("envs", "requested", "expected"),
    [(128, 4, 4), (128, 3, 2), (126, 4, 3), (1, 4, 1), (7, 4, 1), (12, 8, 3), (128, 1, 1)],
)
def test_processes_share_the_environments_evenly(envs, requested, expected):
    assert process_count(SimpleNamespace(entry_point="a:B"), envs, requested) == expected


def test_code_of_the_main_module_is_stepped_in_this_process():
    assert process_count(SimpleNamespace(entry_point=dict), 128, 4) == 1


@pytest.mark.parametrize("moment", ["before a step", "during a step"])
@pytest.mark.filterwarnings("ignore:.*while waiting for a pending call to `step`:UserWarning")
def test_killed_process_is_one_sentence(moment):
    """Such as one that the system kills when the memory is used up."""
    name = "PointMaze_UMaze-v3"
    processes = GymnasiumPhysics(make_gymnasium_task(name).world, ENVS, 2)._group
    assert isinstance(processes, Processes)
    killed = processes._vector.processes[1]
    # Stopped, it cannot answer: the step is sure to wait for it when it is killed.
    os.kill(killed.pid, signal.SIGSTOP)
    timer = threading.Timer(0.5 if moment == "during a step" else 0, killed.kill)
    timer.start()
    try:
        if moment == "before a step":
            killed.join()
        action = processes._vector.action_space.sample()
        flat = {key: array.reshape(-1, *array.shape[2:]) for key, array in action.items()}
        with pytest.raises(UserError, match=f"a process that steps gym = '{name}' was killed"):
            processes.step(flat)
    finally:
        timer.join()
        processes._vector.close(terminate=True)


SCRIPT = """
from kilolayer.errors import UserError
from kilolayer.physics.gymnasium import GymnasiumPhysics
from kilolayer.tasks.gymnasium import make_gymnasium_task

def main():
    task = make_gymnasium_task("PointMaze_UMaze-v3")
    try:
        GymnasiumPhysics(task.world, 8, 2)
    except UserError as error:
        print("error:", error)
    else:
        print("started")

"""


@pytest.mark.parametrize(
    ("call", "printed"),
    [
        ("if __name__ == '__main__':\n    main()\n", "started"),
        ("main()\n", "error: the processes .* gym_processes = 1"),
    ],
)
def test_script_without_a_main_guard_gets_an_explanation(call, printed, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT + call)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0, done.stderr
    assert re.match(printed, last), (done.stdout, done.stderr)
    if printed == "started":
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr
