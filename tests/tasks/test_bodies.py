"""The standard bodies against those of other packages: same motion under the same controls."""

import importlib.util
from pathlib import Path

import mujoco
import numpy as np
import pytest

from kilolayer.tasks import ant, cheetah, humanoid, pusher, reacher

STEPS = 100
GYMNASIUM = "gymnasium/envs/mujoco/assets"
# Body, its scene, the other package's file, and a start of its first positions.
ANT_START = [0, 0, 0.6, 1, 0, 0, 0, *ant.STANDING_JOINTS]
BODIES = {
    "ant": (
        lambda: ant.build_scene(None), "ogbench/locomaze/assets/ant.xml", ANT_START
    ),
    "gym_ant": (
        lambda: ant.build_scene(None, ant.GYM_DRIVE), f"{GYMNASIUM}/ant.xml", ANT_START
    ),
    "half_cheetah": (cheetah.build_scene, f"{GYMNASIUM}/half_cheetah.xml", [0] * 9),
    "humanoid": (
        lambda: humanoid.build_scene(None), f"{GYMNASIUM}/humanoid.xml", [0, 0, 1.4, 1] + [0] * 20
    ),
    "pusher": (pusher.build_scene, f"{GYMNASIUM}/pusher_v5.xml", [0] * 7),
    "reacher": (reacher.build_scene, f"{GYMNASIUM}/reacher.xml", [0, 0]),
}  # fmt: skip


def spec_of(file: str) -> mujoco.MjSpec:
    """Another package's file, with our solver: some of them ask for another."""
    package, path = file.split("/", 1)
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    spec = mujoco.MjSpec.from_file(str(Path(found.origin).parent / path))
    ours = mujoco.MjSpec().option
    spec.option.solver, spec.option.iterations = ours.solver, ours.iterations
    return spec


@pytest.mark.filterwarnings("ignore:compiler attribute")  # of a file that is not ours
@pytest.mark.parametrize("name", BODIES)
def test_body_moves_like_gymnasiums(name):
    build, file, start = BODIES[name]
    ours, theirs = build().compile(), spec_of(file).compile()
    theirs.opt.integrator = ours.opt.integrator  # some files ask for another
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
