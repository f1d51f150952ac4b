"""A policy on its own, without critic, optimiser or buffer: what pruning and distilling make.

A policy directory holds `policy.safetensors`, the actor's arrays, and `policy.json`, the card that
says what they are. Whatever takes a trained policy takes a run directory or a policy directory.
"""

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from kilolayer.agents.base import TaskSpec
from kilolayer.agents.build import task_spec, torsos
from kilolayer.analysis.load import Policy, load
from kilolayer.config import TrainConfig
from kilolayer.networks.actor import Actor, sample_action
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.plan import TrainPlan
from kilolayer.runtime.run_dir import write_atomically
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.types import Array, Metrics, UserError

CARD, TENSORS = "policy.json", "policy.safetensors"
CARD_VERSION = 1


@dataclass(frozen=True)
class ActorSpec:
    """What an actor's arrays are the parameters of."""

    task: TaskSpec
    torso: TorsoSpec

    def init(self, key: Array) -> Actor:
        task = self.task
        return Actor.init(key, task.observation_dim, task.goal_dim, task.action_dim, self.torso)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "ActorSpec":
        torso = dict(values["torso"])
        torso["architecture"] = Architecture(**torso["architecture"])
        return ActorSpec(TaskSpec(**values["task"]), TorsoSpec(**torso))


@dataclass(frozen=True)
class Student:
    """An agent that acts and never learns; its state is the actor."""

    spec: ActorSpec

    def init(self, key: Array) -> Actor:
        return self.spec.init(key)

    def act(
        self, state: Actor, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        mean, log_std = state(observation, goal)
        return jnp.tanh(mean) if deterministic else sample_action(mean, log_std, key)[0]

    def update(self, state: Actor, batch: Any, key: Array) -> tuple[Actor, Metrics]:
        raise UserError("a policy on its own does not learn: train or distil another.")

    def energy(self, state: Actor, observation: Array, action: Array, goal: Array) -> Array:
        raise UserError("a policy on its own has no critic to choose among actions: use 1 sample.")


@dataclass(frozen=True)
class DeployedPolicy:
    """An actor and where it is from.

    path: its run directory or policy directory. config: of the run that it stems from, for the task
    and the physics. method: `train`, `prune` or `distil`. details: what that method has to say, as
    JSON values.
    """

    path: Path
    config: TrainConfig
    spec: ActorSpec
    agent_state: Actor
    method: str
    details: dict[str, Any]

    @cached_property
    def task(self) -> Task:
        return task_of(self.config)

    @property
    def agent(self) -> Student:
        return Student(self.spec)

    @property
    def policy(self) -> Policy:
        """For numpy users: `action = policy(observation, goal)`."""
        return Policy(self.agent, self.agent_state, self.spec.task)

    def save(self, path: Path) -> "DeployedPolicy":
        """Write a policy directory and return the policy as it lies there.

        Raises UserError if something is there already or it cannot be written.
        """
        if path.exists():
            raise UserError(f"{path} exists already: choose another with --out.")
        writing = path.with_name(f".writing-{path.name}")
        try:
            shutil.rmtree(writing, ignore_errors=True)
            writing.mkdir(parents=True)
            save_file(_named_arrays(self.agent_state), writing / TENSORS)
            card = {
                "version": CARD_VERSION,
                "method": self.method,
                "details": self.details,
                "actor": dataclasses.asdict(self.spec),
                "config": json.loads(self.config.to_json()),
                "sha256": _sha256(writing / TENSORS),
            }
            write_atomically(writing / CARD, json.dumps(card, indent=2) + "\n")
            writing.rename(path)
        except OSError as error:
            shutil.rmtree(writing, ignore_errors=True)
            raise UserError(f"cannot write the policy {path}: {error.strerror}.") from error
        return dataclasses.replace(self, path=path)


def is_policy(path: str | Path) -> bool:
    """Whether there is a policy directory."""
    return (Path(path) / CARD).is_file()


def open_policy(path: str | Path) -> DeployedPolicy:
    """The policy in a policy directory, or that of the newest checkpoint of a run.

    Raises UserError if there is none, if its files are damaged, or if its agent has no Gaussian
    actor.
    """
    path = Path(path)
    if is_policy(path):
        return _open_directory(path)
    run = load(path)
    parameters = getattr(run.agent_state, "parameters", None)
    actor = getattr(parameters, "actor", None)
    if not isinstance(actor, Actor) or run.config.agent == "bc":
        raise UserError(
            f"the agent {run.config.agent} of {path} has no Gaussian actor that is told goals: "
            "crl, sac, sac-her, ppo, gcsl and gcbc have one."
        )
    plan = TrainPlan.derive(run.config, run.task.episode_length)
    spec = ActorSpec(task_spec(run.task), torsos(run.config, plan)[0])
    return DeployedPolicy(run.path, run.config, spec, actor, "train", {})


def _open_directory(path: Path) -> DeployedPolicy:
    try:
        card = json.loads((path / CARD).read_text())
        if card["version"] != CARD_VERSION:
            raise UserError(
                f"{path} was written by another version of this package (card "
                f"{card['version']}, this one reads {CARD_VERSION}): make it anew."
            )
        if _sha256(path / TENSORS) != card["sha256"]:
            raise UserError(f"{path / TENSORS} is damaged: its checksum differs from {CARD}.")
        spec = ActorSpec.from_json(card["actor"])
        config = TrainConfig.from_json(json.dumps(card["config"]), str(path / CARD))
        arrays = load_file(path / TENSORS)
        like = jax.eval_shape(spec.init, jax.random.key(0))
        actor = _filled(like, arrays, path)
        return DeployedPolicy(path, config, spec, actor, card["method"], card["details"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no whole policy directory: {error}.") from error


def _filled(like: Actor, arrays: dict[str, np.ndarray], path: Path) -> Actor:
    named = _named(like)
    shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in named.items()}
    if shapes != {name: (array.shape, array.dtype) for name, array in arrays.items()}:
        raise UserError(f"{path / TENSORS} does not hold the arrays that {CARD} speaks of.")
    leaves = [jnp.asarray(arrays[name]) for name in named]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: Any) -> dict[str, Any]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def _named_arrays(actor: Actor) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(leaf) for name, leaf in _named(actor).items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
