"""A slow planner over a fast controller: both play whole episodes in one program, with scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.deploy.planning.planners import Planner
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.deploy.score import Scorer
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import (
    Episodes,
    EpisodeStart,
    EpisodeState,
    episode_metrics,
    start_episodes,
    step_episodes,
)
from kilolayer.types import Array
from kilolayer_robot.planning import Pursuit


@dataclass(frozen=True)
class Hierarchy:
    """Plays episodes of a controller (an object with `act`) that follows subgoals."""

    task: Task
    physics: Any
    controller: Any
    pursuit: Pursuit

    def run(self, planner: Planner, state: Any, key: Array, start: EpisodeStart) -> Episodes:
        """Play whole episodes, one from each start. state: the controller's state.

        The random keys are those of `kilolayer.training.evaluate.Evaluator`.
        """
        task, replan = self.task, self.pursuit.replan
        _, steps_key = jax.random.split(key)
        plans = -(-task.episode_length // replan)
        # The last plan is filled with steps past the end of the episode, which are cut below.
        numbers = jnp.arange(plans * replan) % task.episode_length
        keys = jax.random.split(steps_key, task.episode_length)[numbers].reshape(plans, replan)
        episodes = start_episodes(task, self.physics, start)

        def follow_plan(episodes: EpisodeState, keys: Array) -> tuple[EpisodeState, tuple]:
            observation = task.observe(episodes.physics)
            achieved, goal = task.achieved_goal(episodes.physics), episodes.goal
            subgoals = planner.plan(observation, achieved, goal)
            step = self._control_step(state, subgoals)
            carry = (episodes, *jnp.zeros((2, goal.shape[0]), jnp.int32))
            (episodes, *_), recorded = jax.lax.scan(step, carry, keys)
            return episodes, recorded

        _, recorded = jax.lax.scan(follow_plan, episodes, keys)
        steps = (leaf.reshape(-1, *leaf.shape[2:])[: task.episode_length] for leaf in recorded)
        return Episodes(task.achieved_goal(episodes.physics), *steps)

    def _control_step(self, controller_state: Any, subgoals: Array) -> Callable:
        task, act = self.task, self.controller.act

        def control_step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
            episodes, index, waited = carry
            state, goal = episodes.physics, episodes.goal
            subgoal = jnp.take_along_axis(subgoals, index[:, None, None], axis=1)[:, 0]
            achieved = task.achieved_goal(state)
            reached = is_success(task, achieved, subgoal)
            index, waited = self.pursuit.advance(index, waited, reached, subgoals.shape[1])
            subgoal = jnp.take_along_axis(subgoals, index[:, None, None], axis=1)[:, 0]
            subgoal = jnp.where(is_success(task, achieved, goal)[:, None], goal, subgoal)
            action = act(controller_state, task.observe(state), subgoal, key, True)
            episodes, record = step_episodes(task, self.physics, episodes, action)
            return (episodes, index, waited), record

        return control_step


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of the networks' matrix products, for one environment.

    act: the controller's, per control step. plan: the planner's, per plan. replan: control steps
    between plans.
    """

    act: int
    plan: int = 0
    replan: int = 1

    @property
    def per_step(self) -> float:
        return self.act + self.plan / self.replan


@dataclass(frozen=True)
class PlannerScore:
    """Scores of one planner over a controller. planner: its name, or `flat` without a planner."""

    planner: str
    controller: str
    depth: int
    scores: dict[str, float]
    operations: Operations


def act_operations(policy: DeployedPolicy) -> int:
    """Floating-point operations of one action."""
    task, key = policy.spec.task, jax.random.key(0)

    def act(state: Any, observation: Array, goal: Array) -> Array:
        return policy.agent.act(state, observation, goal, key, True)

    rows = (jnp.zeros((1, task.observation_dim)), jnp.zeros((1, task.goal_dim)))
    return arithmetic(act, policy.agent_state, *rows).flops


def plan_operations(planner: Planner, policy: DeployedPolicy) -> int:
    """Floating-point operations of one plan, without the comparison and sorting of costs."""
    task = policy.spec.task
    observation, goal = jnp.zeros((1, task.observation_dim)), jnp.zeros((1, task.goal_dim))
    return arithmetic(lambda *rows: planner.plan(*rows), observation, goal, goal).flops


def score_planner(
    scorer: Scorer, policy: DeployedPolicy, name: str, planner: Planner | None, pursuit: Pursuit
) -> PlannerScore:
    """Scores of a policy under a planner; without one, the commanded goal is its only subgoal."""
    operations = Operations(act_operations(policy))
    if planner is None:
        scores = scorer.scores(policy.agent, policy.agent_state)
    else:
        hierarchy = Hierarchy(scorer.task, scorer.physics, policy.agent, pursuit)
        episodes = jax.jit(hierarchy.run)(planner, policy.agent_state, scorer.key, scorer.start)
        scores = episode_metrics(scorer.task, episodes)
        plan = plan_operations(planner, policy)
        operations = Operations(operations.act, plan, pursuit.replan)
    return PlannerScore(name, str(policy.path), policy.spec.torso.depth, scores, operations)
