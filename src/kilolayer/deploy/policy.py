"""A stand-alone policy, without critic, optimiser or buffer. Pruning and distillation make one.

A policy directory holds `policy.safetensors` (the actor's arrays) and `policy.json` (the card that
describes them). Every function that takes a trained policy accepts a run directory, a policy
directory or `zoo:NAME`.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax

from kilolayer.agents.base import TaskSpec
from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Policy, Run, load, warn_if_changed
from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.networks.actor import Actor, choose_action
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.run_directory import TASK_KEY
from kilolayer.runtime.devices import refuse_wrong_jax
from kilolayer.runtime.tensors import TensorDirectory
from kilolayer.runtime.zoo import resolve
from kilolayer.schedule import TrainSchedule
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.types import Array

DIRECTORY = TensorDirectory("policy", version=1)


@dataclass(frozen=True)
class ActorSpec:
    """The actor's network: sizes of the task and the torso. `init` makes its arrays."""

    task: TaskSpec
    torso: TorsoSpec

    def init(self, key: Array) -> Actor:
        task = self.task
        return Actor.init(key, task.observation_dim, task.goal_dim, task.action_dim, self.torso)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "ActorSpec":
        """Raises KeyError, TypeError or ValueError for values that describe no actor."""
        torso = dict(values["torso"])
        torso["architecture"] = Architecture(**torso["architecture"])
        spec = ActorSpec(TaskSpec(**values["task"]), TorsoSpec(**torso))
        for part in (spec.torso, spec.torso.architecture):
            for name, hint in get_type_hints(type(part)).items():
                found = getattr(part, name)
                if get_origin(hint) is Literal and found not in get_args(hint):
                    raise ValueError(f"{name} is {found!r}")
        return spec


@dataclass(frozen=True)
class ActorAgent:
    """An agent that acts but never learns. Its state is the actor."""

    def act(
        self, state: Actor, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        return choose_action(state(observation, goal), key, deterministic)

    def rate(self, state: Actor, observation: Array, action: Array, goal: Array) -> Array:
        raise UserError(
            "a policy without its run has no critic to choose among actions: use 1 sample."
        )


@dataclass(frozen=True)
class DeployedPolicy:
    """An actor and its origin.

    path: its run directory or policy directory. config: of the original run, for the task and the
    physics. method: `train`, `prune` or `distil`. details: facts that the method recorded, as JSON
    values. trained_on: `Task.fingerprint` of the task that the policy learnt, if it was recorded.
    """

    path: Path
    config: RunConfig
    spec: ActorSpec
    agent_state: Actor
    method: str
    details: dict[str, Any]
    trained_on: Any = None

    @cached_property
    def task(self) -> Task:
        task = task_of(self.config.task)
        warn_if_changed(task, self.trained_on, self.path)
        return task

    @property
    def agent(self) -> ActorAgent:
        return ActorAgent()

    @property
    def policy(self) -> Policy:
        """The policy as a numpy function: `action = policy(observation, goal)`."""
        return Policy(self.agent, self.agent_state, self.spec.task)

    def save(self, path: Path) -> "DeployedPolicy":
        """Write a policy directory and return the policy with the new path.

        Raises UserError if the path exists or cannot be written.
        """
        card = {
            "method": self.method,
            "details": self.details,
            "actor": dataclasses.asdict(self.spec),
            "config": json.loads(self.config.to_json()),
            TASK_KEY: self.trained_on,
        }
        DIRECTORY.write(path, self.agent_state, card)
        return dataclasses.replace(self, path=path)


def is_policy(path: str | Path) -> bool:
    """Whether the path is a policy directory; raises UserError for a name that the zoo lacks."""
    return DIRECTORY.exists(resolve(path))


def open_run_or_policy(path: Run | DeployedPolicy | str | Path) -> Run | DeployedPolicy:
    """Open a policy directory or a zoo policy as such, and a run with its whole agent state.

    An opened one is returned as it is.
    """
    if isinstance(path, Run | DeployedPolicy):
        return path
    return open_policy(path) if is_policy(path) else load(Path(path))


def open_policy(path: str | Path) -> DeployedPolicy:
    """Open a policy directory, a zoo policy, or the policy of a run's newest checkpoint.

    Raises UserError if there is none, if its files are damaged, if its agent has no Gaussian actor,
    or if the installed JAX returns wrong sums.
    """
    refuse_wrong_jax()
    path = resolve(path)
    if is_policy(path):
        return _open_directory(path)
    run = load(path)
    actor = run.agent_state.parameters.actor
    if not (isinstance(actor, Actor) and run.config.agent.sees_goal):
        raise UserError(
            f"the agent {run.config.agent_name} of {path} has no goal-conditioned Gaussian actor: "
            "crl, sac, sac-her, ppo, gcsl and gcbc have one."
        )
    schedule = TrainSchedule.derive(run.config, run.task.episode_length)
    spec = ActorSpec(task_spec(run.task), schedule.actor_torso)
    trained_on = run.directory.recorded(TASK_KEY)
    return DeployedPolicy(run.path, run.config, spec, actor, "train", {}, trained_on)


def _open_directory(path: Path) -> DeployedPolicy:
    card = DIRECTORY.card(path)
    try:
        spec = ActorSpec.from_json(card["actor"])
        config = RunConfig.from_json(json.dumps(card["config"]), str(path / DIRECTORY.card_name))
        method, details = card["method"], dict(card["details"])
        like = jax.eval_shape(spec.init, jax.random.key(0))
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise DIRECTORY.damaged(path, error) from error
    actor = DIRECTORY.fill(like, path)
    return DeployedPolicy(path, config, spec, actor, method, details, card.get(TASK_KEY))
