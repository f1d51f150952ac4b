"""Tasks of a user's own, each wrong in one place, made by `module:name`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from examples.puck import Puck, make_puck
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Coordinate, GoalSpec, Task

GOOD = make_puck()
XY = (Coordinate("x", "m"), Coordinate("y", "m"))


def having(**changed):
    """A maker of the puck's task with other attributes or methods."""
    kind = dataclass(frozen=True)(type("Changed", (Puck,), changed))
    return lambda: kind(GOOD.world)


def returning(method, value):
    """A maker of a task whose method returns a value, or what a function of its arguments gives."""
    return having(**{method: lambda self, *args: value(*args) if callable(value) else value})


good = having()
a_class = lambda: Puck  # noqa: E731
unfinished = type("Unfinished", (Task,), {})
lacks_name = having(name=property(lambda self: undefined))  # noqa: F821

@dataclass(frozen=True)
class Bare(Task):
    """All but the length of its episodes."""

    world: MujocoWorld
    name, observation, goal, action_dim = "bare", Puck.observation, Puck.goal, 2
    sample_goal, reset, observe = Puck.sample_goal, Puck.reset, Puck.observe
    achieved_goal = Puck.achieved_goal


def no_length():
    return Bare(GOOD.world)


number_for_name = having(name=3)
string_coordinates = having(observation=("x", "y", "vx", "vy"))
no_coordinates = having(observation=())
goal_is_tuple = having(goal=XY)
radius_zero = having(goal=GoalSpec(XY, radius=0.0, easy_radius=0.2))
radius_nan = having(goal=GoalSpec(XY, radius=float("nan"), easy_radius=0.2))
easy_radius_text = having(goal=GoalSpec(XY, radius=0.1, easy_radius="0.2"))
one_action = having(action_dim=1)
three_actions = having(action_dim=3)
action_text = having(action_dim="two")
length_one = having(episode_length=1)
length_float = having(episode_length=100.0)
unknown_split = having(splits=("test",))
split_text = having(splits="evaluation")
box_of_three = having(goal_box=((0, 0, 0), (1, 1, 1)))
maze_text = having(maze="u")

goal_transposed = returning("sample_goal", lambda key, envs, split: jnp.zeros((2, envs)))
goal_of_one = returning("sample_goal", lambda key, envs, split: jnp.zeros(2))
goal_too_wide = returning("sample_goal", lambda key, envs, split: jnp.zeros((envs, 3)))
goal_int = returning("sample_goal", lambda key, envs, split: jnp.zeros((envs, 2), int))
goal_half = returning("sample_goal", lambda key, envs, split: jnp.zeros((envs, 2), jnp.float16))
goal_list = returning("sample_goal", lambda key, envs, split: [[0.0, 0.0]] * envs)
goal_none = returning("sample_goal", None)
goal_nan = returning("sample_goal", lambda key, envs, split: jnp.full((envs, 2), jnp.nan))
goal_of_evaluation = returning(
    "sample_goal",
    lambda key, envs, split: jnp.zeros((envs, 2 if split == "training" else 3)),
)
goal_wants_less = having(sample_goal=lambda self, key: jnp.zeros((1, 2)))
reset_one = returning("reset", lambda key, goal, split: jnp.zeros((len(goal), 2)))
reset_three = returning("reset", lambda key, goal, split: (jnp.zeros((len(goal), 2)),) * 3)
reset_wide = returning("reset", lambda key, goal, split: (jnp.zeros((len(goal), 3)),) * 2)
reset_infinite = returning(
    "reset", lambda key, goal, split: (jnp.full((len(goal), 2), jnp.inf), jnp.zeros((len(goal), 2)))
)
reset_numpy_random = returning(
    "reset", lambda key, goal, split: (np.random.rand(*np.asarray(goal).shape),) * 2
)
observes_three = returning("observe", lambda state: jnp.zeros((len(state.qpos), 3)))
observes_scalar = returning("observe", lambda state: jnp.zeros(()))
observes_column = returning("observe", lambda state: jnp.zeros((len(state.qpos), 4, 1)))
observes_dictionary = returning("observe", lambda state: {"x": state.qpos})
observes_field = returning("observe", lambda state: state.fields["sensordata"])
observes_infinite = returning("observe", lambda state: jnp.full((len(state.qpos), 4), jnp.inf))
observes_by_numpy = returning(
    "observe", lambda state: np.concatenate([state.qpos, state.qvel], -1)
)
observes_tuple = returning("observe", lambda state: (state.qpos, state.qvel))
achieves_three = returning("achieved_goal", lambda state: jnp.zeros((len(state.qpos), 3)))
achieves_nothing = returning("achieved_goal", None)
ends_as_number = returning("terminated", lambda state: jnp.zeros(len(state.qpos)))
ends_as_bool = returning("terminated", False)
ends_by_if = returning("terminated", lambda state: True if state.qpos[0, 0] > 1 else False)
ends_column = returning("terminated", lambda state: state.qpos[:, :1] > 1)
breaks_off_text = returning("truncated", "no")
current_goal_of_one = returning("current_goal", lambda state, goal: goal[0])
distance_each = returning("distance", lambda achieved, goal: jnp.abs(achieved - goal))
distance_total = returning("distance", lambda achieved, goal: jnp.linalg.norm(achieved - goal))
points_flat = returning("goal_points", lambda goal: goal)
points_fail = returning("goal_points", lambda goal: goal["x"])
behaves_number = returning("behaviour", 3.0)
behaves_array = returning("behaviour", lambda qpos, alive: {"speed": qpos})
behaves_badly = returning("behaviour", lambda qpos, alive: 1 / 0)
leaves = returning("observe", lambda state: exit(3))


def no_world():
    kind = dataclass(frozen=True)(type("NoWorld", (Puck,), {}))
    return kind(mujoco.MjModel.from_xml_string("<mujoco/>"))


def asks_for_a_field_that_is_none():
    return Puck(MujocoWorld(GOOD.world.model, GOOD.world.substeps, ("no_such_field",)))


def no_substeps():
    return Puck(MujocoWorld(GOOD.world.model, 0))


def no_model():
    return Puck(MujocoWorld("puck.xml", 1))


async def later():
    return GOOD


def yields():
    yield GOOD


def recurses():
    return recurses()


def leaves_at_once():
    raise SystemExit("goodbye")


def long_error():
    raise ValueError("first line\n" + "x" * 5000)


def wordless():
    raise ValueError


def its_own_sentence():
    from kilolayer import UserError

    raise UserError("the robot's file is missing: run download.sh first.")
