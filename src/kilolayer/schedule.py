"""Counts derived from a config and its task, and checks that involve several groups of settings."""

from dataclasses import dataclass

from kilolayer.agents.base import Agent, OnPolicyAgent, Problem
from kilolayer.agents.registry import AGENTS, task_spec
from kilolayer.agents.validation import bind_checked
from kilolayer.config import RunConfig
from kilolayer.errors import bad_field
from kilolayer.networks.block import Rematerialisation, TorsoSpec
from kilolayer.tasks.base import Task, is_success
from kilolayer.user_code import is_user_code


@dataclass(frozen=True)
class TrainSchedule:
    """Counts derived from a config and the task's episode length.

    steps_per_unroll: environment steps of one unroll, over all environments; 0 with a dataset,
    since its rounds have updates only.
    updates_per_unroll: gradient updates that follow each unroll.
    prefill_unrolls: unrolls before the first update; training_unrolls: unrolls with updates.
    replay_capacity: steps per environment in the buffer, a multiple of the unroll's length.
    evaluate_after, save_after: numbers of training unrolls after which an evaluation, or a
    checkpoint, follows, ascending.
    actor_torso, critic_torso: the deep parts of the networks, with all derived settings.
    """

    episode_length: int
    steps_per_unroll: int
    updates_per_unroll: int
    prefill_unrolls: int
    training_unrolls: int
    replay_capacity: int
    evaluate_after: tuple[int, ...]
    save_after: tuple[int, ...]
    actor_torso: TorsoSpec
    critic_torso: TorsoSpec
    own_torsos: tuple[TorsoSpec, ...]

    @property
    def rounds(self) -> int:
        return self.prefill_unrolls + self.training_unrolls

    @property
    def total_steps(self) -> int:
        return self.rounds * self.steps_per_unroll

    @property
    def updates(self) -> int:
        return self.training_unrolls * self.updates_per_unroll

    @property
    def rematerialisation(self) -> Rematerialisation:
        return self.actor_torso.rematerialisation

    def describe(self) -> str:
        """The choices for the deep stacks, in one line."""
        torsos = (self.actor_torso, self.critic_torso, *self.own_torsos)
        depths = {torso.depth: torso.branch_scale for torso in torsos}
        scales = ", ".join(f"{scale:.3g} at depth {depth}" for depth, scale in depths.items())
        gradients = "lean gradients" if self.actor_torso.lean else "gradients by autodiff"
        mode = "no" if self.rematerialisation == "none" else self.rematerialisation
        unrolls = " or ".join(str(n) for n in sorted({torso.scan_unroll for torso in torsos}))
        return (
            f"residual branches scaled by {scales}, {gradients}, "
            f"blocks per scan iteration: {unrolls}, {mode} rematerialisation"
        )

    @staticmethod
    def derive(
        config: RunConfig, task_episode_length: int, platform: str = "cpu", devices: int = 1
    ) -> "TrainSchedule":
        """Derive the counts; raises UserError for settings that contradict each other.

        platform: where the run will train, `cpu` or `gpu`. devices: number of devices.
        """
        collection, replay, network = config.collection, config.replay, config.network
        _check_device_split(config, devices)
        steps_per_unroll = collection.num_envs * collection.unroll_length
        online = collection.dataset is None
        unroll = collection.unroll_length
        prefill = capacity = 0
        # On-policy agents use only the newest unroll, so nothing is collected in advance for them.
        on_policy = isinstance(config.agent, OnPolicyAgent)
        if on_policy:
            _check_unroll(config)
        elif online:
            prefill = _round_up(replay.min_replay_steps_per_env, unroll)
            capacity = _round_up(replay.replay_steps_per_env, unroll)
            _check_replay(config, prefill * unroll, capacity * unroll)
        elif config.agent.sampling.absorbing:
            allowed = "a dataset does not distinguish terminated from truncated trajectories"
            raise bad_field("absorbing_termination", True, allowed, False)
        updates = round(collection.update_to_data * steps_per_unroll)
        if updates < 1:
            allowed = f"an unroll of {steps_per_unroll} steps needs at least one update"
            nearest = 1 / steps_per_unroll
            raise bad_field("update_to_data", collection.update_to_data, allowed, nearest)
        training = max(1, _round_up(collection.total_steps, steps_per_unroll) - prefill)
        evaluations = config.evaluation.num_evaluations
        actor, critic = network.depth_of_actor, network.depth_of_critic
        deepest = max(critic + max(actor, critic), sum(config.agent.own_depths))
        rematerialisation = network.rematerialisation_at(deepest, config.agent.batch_size, platform)
        return TrainSchedule(
            episode_length=collection.episode_length or task_episode_length,
            steps_per_unroll=steps_per_unroll if online else 0,
            updates_per_unroll=updates,
            prefill_unrolls=prefill,
            training_unrolls=training,
            replay_capacity=unroll if on_policy else capacity * unroll,
            evaluate_after=_evenly_spaced(training, evaluations),
            save_after=_evenly_spaced(training, config.checkpoints.num_checkpoints or evaluations),
            actor_torso=network.torso(actor, rematerialisation, platform),
            critic_torso=network.torso(critic, rematerialisation, platform),
            own_torsos=tuple(
                network.torso(depth, rematerialisation, platform)
                for depth in config.agent.own_depths
            ),
        )


def build_agent(config: RunConfig, schedule: TrainSchedule, task: Task) -> Agent:
    """The config's agent, bound to the task; raises UserError for a faulty agent of the user."""
    problem = Problem(
        task=task_spec(task),
        actor_torso=schedule.actor_torso,
        critic_torso=schedule.critic_torso,
        reward=lambda achieved, goal: is_success(task, achieved, goal).astype("float32"),
        episode_length=schedule.episode_length,
        goal_interval=config.collection.goal_interval,
        updates=schedule.updates,
        own_torsos=schedule.own_torsos,
    )
    if is_user_code(type(config.agent)):
        return bind_checked(config.agent_name, config.agent, problem)
    return config.agent.on(problem)


def check_data_source(config: RunConfig) -> None:
    """Raises UserError if the agent cannot learn from the config's source of data."""
    agent, name = config.agent, config.agent_name
    if config.collection.dataset is None and "steps" not in agent.learns_from:
        allowed = "it learns from a dataset: set --dataset"
        raise bad_field("agent", name, allowed, "gcsl")
    if config.collection.dataset is not None and "dataset" not in agent.learns_from:
        offline = [name for name, kind in AGENTS.items() if "dataset" in kind.learns_from]
        allowed = f"it cannot learn from a dataset, unlike {', '.join(offline)}"
        raise bad_field("agent", name, allowed, "gcbc" if name == "gcsl" else "crl")


def _evenly_spaced(unrolls: int, count: int) -> tuple[int, ...]:
    """Up to `count` of the numbers 1 to `unrolls`, evenly spread, the last among them."""
    count = min(count, unrolls)
    return tuple(round(unrolls * (index + 1) / count) for index in range(count))


def _round_up(steps: int, unit: int) -> int:
    return -(-steps // unit)


def _check_device_split(config: RunConfig, devices: int) -> None:
    counts = {
        "num_envs": config.collection.num_envs,
        "eval_envs": config.evaluation.eval_envs,
        "batch_size": config.agent.batch_size,
    }
    for field, count in counts.items():
        if count % devices:
            below = count // devices * devices
            nearest = " or ".join(str(n) for n in (below, below + devices) if n > 0)
            allowed = f"it must be a multiple of the number of devices ({devices}; see --devices)"
            raise bad_field(field, count, allowed, nearest)


def _check_unroll(config: RunConfig) -> None:
    """Raises UserError if an unroll, the only data of an update, has fewer steps than a batch."""
    collection = config.collection
    steps = (collection.unroll_length - 1) * collection.num_envs
    if config.agent.batch_size > steps:
        allowed = (
            f"an unroll has {steps} steps with a successor, and {config.agent_name} samples each "
            "batch from one unroll"
        )
        if steps < 2:
            allowed, unroll = f"{allowed}: a batch needs 2", 1 + _round_up(2, collection.num_envs)
            raise bad_field("unroll_length", collection.unroll_length, allowed, unroll)
        raise bad_field("batch_size", config.agent.batch_size, allowed, steps)


def _check_replay(config: RunConfig, prefill: int, capacity: int) -> None:
    most, num_envs = config.replay.replay_steps_per_env, config.collection.num_envs
    least = config.replay.min_replay_steps_per_env
    if prefill > capacity:
        allowed = f"it must not exceed replay_steps_per_env = {most}"
        raise bad_field("min_replay_steps_per_env", least, allowed, most)
    # The newest step of each environment has no successor yet.
    available = num_envs * (prefill - 1)
    if available < 2:
        allowed = "when updates begin the buffer must hold at least two steps with a successor"
        nearest = 1 + _round_up(2, num_envs)
        raise bad_field("min_replay_steps_per_env", least, allowed, nearest)
    if config.agent.batch_size > available:
        allowed = (
            f"when updates begin the buffer holds {available} steps with a successor "
            f"({num_envs} environments x {prefill - 1} steps)"
        )
        raise bad_field("batch_size", config.agent.batch_size, allowed, available)
