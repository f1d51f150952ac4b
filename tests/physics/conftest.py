"""A small scene for the native engine."""

import mujoco
import pytest

from kilolayer.physics.native import MujocoWorld

SCENE = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom type="plane" size="5 5 5"/>
    <body name="box" pos="0 0 0.4">
      <freejoint/>
      <geom type="box" size="0.1 0.2 0.1" density="100"/>
    </body>
    <body name="slider" pos="3 0 2" gravcomp="1">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom type="sphere" size="0.1" mass="1" contype="0" conaffinity="0"/>
      <body name="pendulum" pos="0 0 -0.1">
        <joint name="hinge" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.05" mass="0.5"
              contype="0" conaffinity="0"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="slide" ctrllimited="true" ctrlrange="-2 6"/>
    <motor joint="hinge" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
  <sensor><framelinvel objtype="body" objname="pendulum"/></sensor>
</mujoco>
"""


@pytest.fixture(scope="session")
def scene() -> MujocoWorld:
    """A box that falls onto a plane, and a driven pendulum on a slider; with derived fields."""
    spec = mujoco.MjSpec.from_string(SCENE)
    return MujocoWorld.compile(
        spec, control_step=0.05, fields=("xpos", "cvel", "sensordata", "qfrc_actuator")
    )
