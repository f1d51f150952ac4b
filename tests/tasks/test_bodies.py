"""The standard bodies against Gymnasium's: same parts, same motion under the same controls."""

import importlib.util
from pathlib import Path

import mujoco
import numpy as np
import pytest

from kilolayer.tasks import ant, cheetah, humanoid, pusher, reacher

STEPS = 100
# Task, its scene, Gymnasium's file, a start, and which of Gymnasium's positions are the body's.
ANT_START = [0, 0, 0.6, 1, 0, 0, 0, *ant.STANDING_JOINTS]
BODIES = {
    "ant": (lambda: ant.build_scene(None), "ant.xml", ANT_START),
    "half_cheetah": (cheetah.build_scene, "half_cheetah.xml", [0] * 9),
    "humanoid": (lambda: humanoid.build_scene(None), "humanoid.xml", [0, 0, 1.4, 1] + [0] * 20),
    "pusher": (pusher.build_scene, "pusher_v5.xml", [0] * 7),
    "reacher": (reacher.build_scene, "reacher.xml", [0, 0]),
}  # fmt: skip


def gymnasium_spec(name: str) -> mujoco.MjSpec:
    """Gymnasium's file, with our integrator and solver: some of its files ask for others."""
    found = importlib.util.find_spec("gymnasium")
    if found is None or found.origin is None:
        pytest.skip("gymnasium is not installed")
    spec = mujoco.MjSpec.from_file(
        str(Path(found.origin).parent / "envs" / "mujoco" / "assets" / name)
    )
    ours = mujoco.MjSpec().option
    spec.option.integrator, spec.option.solver = ours.integrator, ours.solver
    spec.option.iterations = ours.iterations
    return spec


@pytest.mark.filterwarnings("ignore:compiler attribute")  # of a file that is not ours
@pytest.mark.parametrize("name", BODIES)
def test_it_moves_like_gymnasiums(name):
    build, file, start = BODIES[name]
    ours, theirs = build().compile(), gymnasium_spec(file).compile()
    low, high = ours.actuator_ctrlrange.T
    np.testing.assert_array_equal(ours.actuator_ctrlrange, theirs.actuator_ctrlrange)
    ends = []
    for model in (ours, theirs):
        data, generator = mujoco.MjData(model), np.random.default_rng(0)
        data.qpos[: len(start)] = start
        for _ in range(STEPS):
            data.ctrl[:] = generator.uniform(low, high)
            mujoco.mj_step(model, data)
        ends.append(data.qpos[: len(start)].copy())
    assert np.abs(ends[0] - start).max() > 0.1
    np.testing.assert_allclose(*ends, atol=1e-6)
