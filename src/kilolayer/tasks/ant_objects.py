"""The ant with an object: a ball to move to a goal, or a block that obstructs the path."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import scene
from kilolayer.tasks.ant import BENCHMARK_DRIVE, MAZE_CELL_SIZE, NUM_POSITIONS, Ant, build_scene
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array

BALL_RADIUS = 0.25
BALL_MASS = 0.2  # kg; the ant weighs 0.9
BALL_DAMPING = 0.01  # N s/m, and N m s/rad for its rotation
# Share of the distance to the goal at which the ball starts. Any less, and it starts under the
# legs.
BALL_START_SHARE = 0.28
BALL_OFFSET = 0.1

BLOCK_HALF_SIZE = (1.9, 1.9, 0.5)  # a corridor is 2 m to either side
BLOCK_HOME = (2 * MAZE_CELL_SIZE, 2 * MAZE_CELL_SIZE)  # the middle of the crossing, m
BLOCK_MASS = 0.5
BLOCK_DAMPING = 1.0  # N s/m: a block that is not pushed stops
PUSH_GOAL_NOISE = 0.5
OBJECT = {**BENCHMARK_DRIVE.contact, "conaffinity": 1, "rgba": scene.OBJECT_COLOUR}


@dataclass(frozen=True)
class AntBall(Ant):
    """Observation: the ant's and the ball's x, y. Goal: the ball's x, y on a circle of 5 m.

    The ball starts at about a quarter of the distance to its goal, clear of the legs.
    """

    goal = GoalSpec(
        (Coordinate("ball x", "m"), Coordinate("ball y", "m")), radius=0.5, easy_radius=2.0
    )
    body = "ant_ball"
    goal_distance = 5.0

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(_build_ball, self.drive.control_step)

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        return (*super().observation, *self.goal.coordinates)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        ant_key, ball_key = jax.random.split(key)
        qpos, qvel = super().reset(ant_key, goal, split)
        offset = jax.random.uniform(ball_key, goal.shape, minval=-BALL_OFFSET, maxval=BALL_OFFSET)
        pose = jnp.broadcast_to(jnp.array([BALL_RADIUS, 1, 0, 0, 0]), (goal.shape[0], 5))
        ball = jnp.concatenate([BALL_START_SHARE * goal + offset, pose], -1)
        return jnp.concatenate([qpos, ball], -1), jnp.pad(qvel, ((0, 0), (0, 6)))

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([super().observe(state), self.achieved_goal(state)], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos[:, NUM_POSITIONS : NUM_POSITIONS + 2]


@dataclass(frozen=True)
class AntPush(Ant):
    """Observation: the ant's and the block's x, y. Goal: torso x, y behind the block.

    Both goals lie behind one block in the only crossing. The block slides and never turns. Pushed
    toward the goal, it obstructs the path permanently; pushed aside, it frees the path.
    """

    layout: str | None = "push"

    @property
    def name(self) -> str:
        return "ant_push"

    @property
    def splits(self) -> tuple[GoalSplit, ...]:
        return ("evaluation",)

    @property
    def world(self) -> MujocoWorld:
        return scene.compile_world(_build_push, self.drive.control_step)

    @property
    def observation(self) -> tuple[Coordinate, ...]:
        return (*super().observation, Coordinate("block x", "m"), Coordinate("block y", "m"))

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        noise = PUSH_GOAL_NOISE / MAZE_CELL_SIZE
        return Maze("push", MAZE_CELL_SIZE).sample_goal(key, num_envs, split, noise)

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        qpos, qvel = super().reset(key, goal, split)
        block = ((0, 0), (0, 2))  # zeros: its position in the model
        return jnp.pad(qpos, block), jnp.pad(qvel, block)

    def observe(self, state: PhysicsState) -> Array:
        home = jnp.array(BLOCK_HOME, jnp.float32)
        return jnp.concatenate([super().observe(state), home + state.qpos[:, NUM_POSITIONS:]], -1)


def _build_ball() -> mujoco.MjSpec:
    spec = build_scene(None)
    ball = spec.worldbody.add_body(name="ball", pos=[0, 0, BALL_RADIUS])
    # Without damping, a touched ball would roll forever. With it, a ball at 2 m/s rolls 2.4 m.
    # Rolling friction does not stop the ball under Runge-Kutta.
    ball.add_joint(name="ball", type=mujoco.mjtJoint.mjJNT_FREE, damping=[BALL_DAMPING, 0, 0])
    scene.add_sphere(ball, (0, 0, 0), BALL_RADIUS, mass=BALL_MASS, **OBJECT)
    return spec


def _build_push() -> mujoco.MjSpec:
    spec = build_scene(Maze("push", MAZE_CELL_SIZE))
    # The block is slightly above the floor and does not touch it: its joints carry it.
    block = spec.worldbody.add_body(name="block", pos=[*BLOCK_HOME, BLOCK_HALF_SIZE[2] + 0.05])
    scene.add_slides(block, "block", damping=[BLOCK_DAMPING, 0, 0])
    scene.add_box(block, (0, 0, 0), BLOCK_HALF_SIZE, mass=BLOCK_MASS, **OBJECT)
    return spec
