"""Add a task: a puck that two motors push over a table must come to rest at a place.

    kilolayer train --task examples.puck:make_puck --total-steps 200000

A task is a frozen value that fills in `kilolayer.tasks.base.Task`. The
environment may be anything that MuJoCo can load; `MujocoWorld.compile` also takes
`mujoco.MjSpec.from_file("robot.xml")`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task
from kilolayer.types import Array

SCENE = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="plane" size="2 2 0.1" rgba="0.9 0.9 0.9 1"/>
    <body name="puck" pos="0 0 0.05">
      <joint name="x" type="slide" axis="1 0 0" damping="2" limited="true" range="-1 1"/>
      <joint name="y" type="slide" axis="0 1 0" damping="2" limited="true" range="-1 1"/>
      <geom type="cylinder" size="0.05 0.02" mass="1" rgba="0.2 0.4 0.8 1"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="x" gear="3" ctrllimited="true" ctrlrange="-1 1"/>
    <motor joint="y" gear="3" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""


@dataclass(frozen=True)
class Puck(Task):
    world: MujocoWorld

    name = "puck"
    observation = (
        Coordinate("x", "m"),
        Coordinate("y", "m"),
        Coordinate("x velocity", "m/s"),
        Coordinate("y velocity", "m/s"),
    )
    goal = GoalSpec((Coordinate("x", "m"), Coordinate("y", "m")), radius=0.1, easy_radius=0.2)
    action_dim = 2
    episode_length = 100

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        return jax.random.uniform(key, (num_envs, 2), minval=-0.8, maxval=0.8)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        qpos = jax.random.uniform(key, goal.shape, minval=-0.1, maxval=0.1)
        return qpos, jnp.zeros(goal.shape)

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([state.qpos, state.qvel], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos


def make_puck() -> Puck:
    return Puck(MujocoWorld.compile(mujoco.MjSpec.from_string(SCENE), control_step=0.05))
