"""The recommended settings of each task: the defaults of the command line, Python and the studies.

`recommended("ant")` is a whole config. A comment at each setting gives its purpose. The
measurements are in the folder of `results/` that the task's family names. `--recipe wang2025` gives
the published settings instead.
"""

from collections.abc import Mapping
from typing import Any

from kilolayer.config import RunConfig, run_config
from kilolayer.recipes import with_recipe
from kilolayer.tasks.choice import TaskChoice

# Settings of all families. Unlike in the published method, the contrastive loss is symmetric and
# the penalty on energies is ten times smaller. The two were not measured apart.
SHARED: dict[str, Any] = {
    "contrastive_loss": "symmetric",
    "logsumexp_penalty": 0.01,
    # Learning rates are larger by two thirds. The temperature is tuned faster and starts low, so
    # that the critic counts from the beginning.
    "actor_learning_rate": 5e-4,
    "critic_learning_rate": 5e-4,
    "temperature_learning_rate": 1e-3,
    # The score of the newest weights varies by a fifth from one evaluation to the next. The average
    # over the last thousand updates is stable.
    "average_decay": 0.999,
}

# Point mazes, in minutes: results/point_u_maze. A task without a family also starts from these.
POINT = SHARED | {
    "total_steps": 320_000,
    "num_envs": 128,
    "unroll_length": 50,
    "depth": 8,
    "width": 64,
    "batch_size": 128,
    "update_to_data": 1 / 20,
    "initial_temperature": 0.05,
    "discount": 0.98,
    # Half of the actor's goals lie anywhere in the maze, and each environment gets another goal
    # during an episode. Without the latter no environment ever starts from the far side of a wall.
    "shuffled_goal_share": 0.5,
    "goal_interval": 50,
    "replay_steps_per_env": 4_000,
    "min_replay_steps_per_env": 200,
    "num_evaluations": 8,
}
LARGE_POINT = POINT | {"total_steps": 400_000, "goal_interval": 150}

# Settings that legged bodies share.
LEGGED: dict[str, Any] = SHARED | {
    "num_envs": 256,
    "depth": 4,
    "width": 256,
    "batch_size": 256,
    "update_to_data": 1 / 60,
    # An action has its effect within ten steps: the horizon starts at 20 steps and grows, so that
    # ants learn first to move and later where to go.
    "initial_discount": 0.95,
    # Half of the actor's goals are commanded goals, which lie farther than any state that the
    # environment has reached so far.
    "commanded_goal_share": 0.5,
    "initial_temperature": 0.02,
    # A small buffer, because the critic describes the policy whose data the buffer holds.
    "replay_steps_per_env": 1_000,
    "min_replay_steps_per_env": 400,
}

# The ant of MuJoCo's goal-reaching benchmarks: results/ant.
ANT = LEGGED | {
    "total_steps": 3_600_000,
    "num_evaluations": 10,  # an evaluation's episodes of 1,000 steps cost as much as 1,000 updates
    "batch_size": 512,
    # Ants need many steps: with an update for every 60 steps they learn later at equal time.
    "update_to_data": 1 / 120,
    # Twice as many starts as with the task's own 1,000 steps, and still enough time to cross 10 m.
    "episode_length": 500,
    # A horizon of 60 steps. Beyond 70 steps scores fell again. A horizon that grew half as fast
    # cost a quarter of the score at equal updates.
    "discount": 0.983,
    # The second half refines what was learnt: the horizon stays, noise and learning rates fall.
    "horizon_growth_share": 0.5,
    "constant_share": 0.5,
    "final_learning_rate_share": 0.1,
    # The actions' standard deviation is about 0.25, where the published -0.5 keeps 0.15: the ants
    # walk after half of the updates and fall half as often. This ant stays on its feet under any
    # noise. But the mean action of such a noisy policy holds a pose and freezes. So the noise
    # falls, and a quarter of the ants act without any.
    "target_entropy_per_action": 0.0,
    "final_target_entropy_per_action": -1.0,
    "deterministic_env_share": 0.25,
}
# In mazes and with objects to push, paths are longer. Not tuned yet.
ANT_FAR = ANT | {"total_steps": 6_000_000, "discount": 0.99, "num_evaluations": 20}
# In 500 steps an ant walks 10 m: no episode came to the goals behind a corner. Now an episode has
# several goals, each begins where the ant is, and there is time to walk six cells to it. One seed
# of each maze measured: results/ant_u_maze, results/ant_mazes.
ANT_MAZE = ANT_FAR | {"episode_length": 2_000, "goal_interval": 600, "discount": 0.995}
# Gym's ant, which falls. 90 minutes on two cores; one in ten reaches its goal: results/gym_ant.
GYM_ANT = LEGGED | {
    "average_decay": 0.0,
    "total_steps": 15_000_000,
    "episode_length": 300,  # an ant on its back is soon reset
    "discount": 0.995,
    # A fall counts as staying there, so that the critic values standing.
    "absorbing_termination": True,
    "num_evaluations": 40,
}

# Not tuned: with more noise than in the published method, these bodies fall or slide.
OTHER_BODY = LEGGED | {
    "total_steps": 6_000_000,
    "episode_length": 500,
    "discount": 0.99,
    "num_evaluations": 20,
    "final_learning_rate_share": 0.1,
}

# Robots fixed to the ground. Not tuned for grasping, bins, the reacher and the pushers.
FIXED = SHARED | {
    "total_steps": 1_600_000,
    "num_envs": 256,
    "unroll_length": 50,
    "depth": 4,
    "width": 128,
    "batch_size": 256,
    "update_to_data": 1 / 20,
    "discount": 0.97,
    "commanded_goal_share": 0.5,
    "initial_temperature": 0.02,
    "replay_steps_per_env": 4_000,
    "min_replay_steps_per_env": 400,
}

# Reaching is so much easier that a small network learns it in a minute: results/arm_reach_easy.
REACH = FIXED | {
    "total_steps": 96_000,
    "num_envs": 128,
    "width": 64,
    "batch_size": 128,
    # Few steps and many updates, because a control step of the arm costs as much as a small update.
    "update_to_data": 1 / 10,
    # An average over the last hundred updates; the run has eight thousand.
    "average_decay": 0.99,
    "replay_steps_per_env": 1_000,
    "min_replay_steps_per_env": 150,
    "num_evaluations": 6,
}

# The user's own robot without a free joint. Two arms were measured: results/own_robot.
OWN_ARM = REACH | {
    "total_steps": 160_000,
    # The task's own episode has 500 steps. Shorter episodes give five times as many starts; in a
    # long one the robot rests at its goal most of the time.
    "episode_length": 100,
    "num_evaluations": 10,
}

# Pushing a cube and leaving it there: results/arm_push_easy.
PUSH = FIXED | {
    "total_steps": 4_000_000,
    "num_envs": 128,
    "batch_size": 128,
    "update_to_data": 0.06,
    "discount": 0.98,
    # A cube near its goal counts as there. Without this noise the critic treats a cube 3 cm off as
    # lost, and the arm strikes it away for another try.
    "hindsight_goal_noise": 0.3,
    # Less noise than elsewhere, because a noisy step of the arm's strong servos is a blow.
    "target_entropy_per_action": -1.5,
    "replay_steps_per_env": 2_000,
}
# A million steps are enough, one seed; those of the hard task only begin to help (success 0.07).
PUSH_EASY = PUSH | {"total_steps": 1_000_000, "num_evaluations": 20}

# A robot with a free joint walks or falls. With an arm's settings an ant learned nothing. These
# settings were measured on this project's own ant only.
OWN_LEGS = ANT

# Families by the beginning of a task's name; the longest match counts.
FAMILIES: dict[str, dict[str, Any]] = {
    "point": LARGE_POINT,
    "point_u_maze": POINT,
    "ant": ANT,
    "ant_": ANT_MAZE,
    "ant_ball": ANT_FAR,
    "ant_push": ANT_FAR,
    # A trajectory through many goals would join what this task keeps apart.
    "ant_u4_maze_stitching": ANT_FAR,
    "gym_ant": GYM_ANT,
    "humanoid": OTHER_BODY,
    "half_cheetah": OTHER_BODY,
    "arm": FIXED,
    "arm_reach": REACH,
    "arm_push": PUSH,
    "arm_push_easy": PUSH_EASY,
    "reacher": FIXED,
    "pusher": FIXED,
}


def recommended(task: str | None = None, recipe: str | None = None, **settings: Any) -> RunConfig:
    """The recommended config of a task. Default: that of the point U-maze.

    task: its name. A Gymnasium environment or the user's own robot is given as `gym=` or `mjcf=`
    instead. An environment, like a `module:function`, starts from the settings of the point mazes;
    a robot starts from those of the ant if it has a free joint, else from those of `arm_reach`.
    recipe: a published method whose settings override these. settings: any setting of a `RunConfig`
    by its name; they override both, like options on the command line. An `agent` name takes the
    family's settings that the agent has; an agent object stays as it is.
    Raises UserError for an unknown recipe or setting.
    """
    named = TaskChoice().task if task is None else task
    config = run_config(task=named, agent=settings.get("agent", "crl"))
    config = config.taking(family(named, settings))
    if recipe is not None:
        config = with_recipe(config, recipe)
    return config.having(**settings)


def family(task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the family that a task belongs to."""
    if settings.get("mjcf") is not None:
        from kilolayer.tasks.mjcf import has_free_joint  # MuJoCo loads slowly

        return OWN_LEGS if has_free_joint(settings["mjcf"]) else OWN_ARM
    # A module may be called as a task begins, such as arm_tools:make_task.
    if settings.get("gym") is not None or ":" in task:
        return POINT
    fitting = [name for name in FAMILIES if task.startswith(name)]
    return FAMILIES[max(fitting, key=len)] if fitting else POINT
