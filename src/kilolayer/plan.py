"""What a config means in counts. Every range and divisibility error is raised here."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from kilolayer.config import TrainConfig
from kilolayer.types import bad_field

AT_LEAST_ONE = (
    "total_steps",
    "num_envs",
    "unroll_length",
    "width",
    "layers_per_block",
    "expansion",
    "representation_dim",
    "scan_unroll",
    "num_evaluations",
    "eval_envs",
    "keep_checkpoints",
    "samples",
    "replay_steps_per_env",
    "min_replay_steps_per_env",
)
POSITIVE = (
    "actor_learning_rate",
    "critic_learning_rate",
    "temperature_learning_rate",
    "initial_temperature",
)


MAX_SEED = 2**32

# Blocks whose branches add up unscaled; in a deeper stack they add up to as much as these would.
# What was measured up to depth 4096: results/depth_stability.
UNSCALED_BLOCKS = 2
# What the activations of an update may take before some are computed again, by platform.
ACTIVATION_BYTES = {"cpu": 2e9, "gpu": 8e9}
# Arrays `[batch, width]` that an update keeps of every layer: its product's result, a quarter of
# the residual stream, and what does not grow with depth; tests/networks/test_stack.py measures it.
ARRAYS_PER_LAYER = 1.5


@dataclass(frozen=True)
class TrainPlan:
    """Counts derived from a config and the task's episode length.

    steps_per_unroll: environment steps of one unroll, over all worlds; 0 with a dataset, where a
    round consists of the updates alone.
    updates_per_unroll: gradient updates that follow each unroll.
    prefill_unrolls: unrolls before the first update; training_unrolls: unrolls with updates.
    replay_capacity: steps per world in the buffer, a multiple of the unroll's length; with a
    dataset its steps, see `holding`.
    evaluate_after: number of training unrolls after which an evaluation is due, ascending.
    actor_branch_scale, critic_branch_scale, collector_branch_scale: factor of every residual
    branch; where blocks interpolate, what the learnt weights start at.
    """

    actor_depth: int
    critic_depth: int
    collector_depth: int | None
    episode_length: int
    steps_per_unroll: int
    updates_per_unroll: int
    prefill_unrolls: int
    training_unrolls: int
    replay_capacity: int
    evaluate_after: tuple[int, ...]
    actor_branch_scale: float
    critic_branch_scale: float
    collector_branch_scale: float
    rematerialisation: Literal["none", "block", "nested"]

    @property
    def total_steps(self) -> int:
        return (self.prefill_unrolls + self.training_unrolls) * self.steps_per_unroll

    def holding(self, steps: int, longest: int) -> "TrainPlan":
        """The plan for a dataset of `steps` steps, whose longest trajectory has `longest`."""
        return dataclasses.replace(self, replay_capacity=steps, episode_length=longest)

    def describe(self) -> str:
        """What was decided about the deep stacks, in one line."""
        depths = {self.actor_depth: self.actor_branch_scale}
        depths[self.critic_depth] = self.critic_branch_scale
        if self.collector_depth is not None:
            depths[self.collector_depth] = self.collector_branch_scale
        scales = ", ".join(f"{scale:.3g} at depth {depth}" for depth, scale in depths.items())
        return f"branches times {scales}; rematerialisation {self.rematerialisation}"

    @staticmethod
    def derive(
        config: TrainConfig, task_episode_length: int, platform: str = "cpu", devices: int = 1
    ) -> "TrainPlan":
        """Check the config and derive the counts; raises UserError naming the first bad field.

        platform: what the run will be on, `cpu` or `gpu`. devices: how many share the work.
        """
        _check_types(config)
        _check_ranges(config)
        _check_shares(config, devices)
        episode_length = config.episode_length or task_episode_length
        steps_per_unroll = config.num_envs * config.unroll_length
        online = config.dataset is None
        prefill = _round_up(config.min_replay_steps_per_env, config.unroll_length) if online else 0
        capacity = _round_up(config.replay_steps_per_env, config.unroll_length) if online else 0
        if online:
            _check_replay(config, prefill * config.unroll_length, capacity * config.unroll_length)
        updates = round(config.update_to_data * steps_per_unroll)
        if updates < 1:
            raise bad_field(
                "update_to_data",
                config.update_to_data,
                f"an unroll of {steps_per_unroll} steps must be followed by one update at least",
                1 / steps_per_unroll,
            )
        training = max(1, _round_up(config.total_steps, steps_per_unroll) - prefill)
        evaluations = min(config.num_evaluations, training)
        actor_depth = _checked_depth("actor_depth", config.actor_depth, config)
        critic_depth = _checked_depth("critic_depth", config.critic_depth, config)
        collector_depth = config.collector_depth
        if collector_depth is not None:
            _checked_depth("collector_depth", collector_depth, config)
        return TrainPlan(
            actor_depth=actor_depth,
            critic_depth=critic_depth,
            collector_depth=collector_depth,
            episode_length=episode_length,
            steps_per_unroll=steps_per_unroll if online else 0,
            updates_per_unroll=updates,
            prefill_unrolls=prefill,
            training_unrolls=training,
            replay_capacity=capacity * config.unroll_length,
            evaluate_after=tuple(
                round(training * (index + 1) / evaluations) for index in range(evaluations)
            ),
            actor_branch_scale=_branch_scale(config, actor_depth),
            critic_branch_scale=_branch_scale(config, critic_depth),
            collector_branch_scale=_branch_scale(config, collector_depth or actor_depth),
            rematerialisation=_rematerialisation(
                config,
                max(critic_depth + max(actor_depth, critic_depth), 2 * (collector_depth or 0)),
                platform,
            ),
        )


def _round_up(steps: int, unit: int) -> int:
    return -(-steps // unit)


def _branch_scale(config: TrainConfig, depth: int) -> float:
    if config.residual == "interpolate":
        # So that the stream and every block have the same say (arXiv 2502.15280).
        return 1 / (depth // config.layers_per_block + 1)
    if config.residual == "none" or config.branch_scale == "none":
        return 1.0
    return min(1.0, UNSCALED_BLOCKS * config.layers_per_block / depth)


def _rematerialisation(
    config: TrainConfig, depth: int, platform: str
) -> Literal["none", "block", "nested"]:
    """The first way whose activations fit; depth: of the two networks that one gradient passes."""
    if config.rematerialisation != "auto":
        return config.rematerialisation
    array = 4 * config.batch_size * config.width
    inner = (config.layers_per_block - 1) / config.layers_per_block
    wider = 1 + (config.expansion - 1) * inner
    budget = ACTIVATION_BYTES.get(platform, ACTIVATION_BYTES["cpu"])
    if ARRAYS_PER_LAYER * wider * depth * array <= budget:
        return "none"
    return "block" if depth / config.layers_per_block * array <= budget else "nested"


def _checked_depth(field: str, depth: int | None, config: TrainConfig) -> int:
    if depth is None:
        field, depth = "depth", config.depth
    unit = config.layers_per_block
    if depth < unit or depth % unit:
        nearest = max(unit, round(depth / unit) * unit)
        allowed = f"a multiple of layers_per_block = {unit}, at least {unit}"
        raise bad_field(field, depth, allowed, nearest)
    return depth


def _check_types(config: TrainConfig) -> None:
    """Values that a Python caller may pass and that no later check would name."""
    hints = get_type_hints(TrainConfig)
    for field, hint in hints.items():
        value = getattr(config, field)
        choices = get_args(hint)
        if getattr(hint, "__name__", "") == "Literal" and value not in choices:
            raise bad_field(field, value, f"one of {', '.join(map(str, choices))}")
        if value is None and type(None) in choices:
            continue
        if hint is int or int in choices:
            if not isinstance(value, int) or isinstance(value, bool):
                raise bad_field(field, value, "it must be a whole number")
        elif (hint is float or float in choices) and not _is_finite_number(value):
            raise bad_field(field, value, "it must be a finite number")


def _is_finite_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _check_ranges(config: TrainConfig) -> None:
    for field in AT_LEAST_ONE:
        if getattr(config, field) < 1:
            raise bad_field(field, getattr(config, field), "it must be at least 1", 1)
    for field in POSITIVE:
        if not getattr(config, field) > 0:
            raise bad_field(field, getattr(config, field), "it must be greater than 0", 3e-4)
    if config.goal_radius is not None and config.goal_radius <= 0:
        raise bad_field("goal_radius", config.goal_radius, "it must be greater than 0")
    if not 0 <= config.seed < MAX_SEED:
        # JAX would drop the higher bits, and two seeds would give one run.
        nearest = 0 if config.seed < 0 else MAX_SEED - 1
        raise bad_field("seed", config.seed, f"it must lie in [0, {MAX_SEED})", nearest)
    if config.episode_length is not None and config.episode_length < 2:
        raise bad_field("episode_length", config.episode_length, "it must be at least 2", 2)
    if config.goal_interval is not None and config.goal_interval < 1:
        raise bad_field("goal_interval", config.goal_interval, "it must be at least 1", 1)
    if config.batch_size < 2:
        raise bad_field(
            "batch_size", config.batch_size, "contrasting needs two transitions at least", 2
        )
    if not 0 < config.discount <= 1:
        raise bad_field("discount", config.discount, "it must lie in (0, 1]", 0.99)
    first = config.initial_discount
    if first is not None and config.discount == 1:
        raise bad_field("discount", 1.0, "with an initial_discount it must be below 1", 0.99)
    if first is not None and not 0 < first <= config.discount:
        raise bad_field(
            "initial_discount", first, f"it must lie in (0, {config.discount}]", config.discount
        )
    _check_architecture(config)
    if config.update_to_data <= 0:
        raise bad_field(
            "update_to_data", config.update_to_data, "it must be greater than 0", 1 / 40
        )
    if config.logsumexp_penalty < 0:
        raise bad_field("logsumexp_penalty", config.logsumexp_penalty, "it must be 0 or more", 0.0)
    if config.dataset is not None and config.absorbing_termination:
        allowed = "a dataset does not tell a trajectory that terminated from one that was cut"
        raise bad_field("absorbing_termination", True, allowed, False)
    if not 0 < config.target_rate <= 1:
        nearest = 1.0 if config.target_rate > 1 else 0.005
        raise bad_field("target_rate", config.target_rate, "it must lie in (0, 1]", nearest)
    if not 0 <= config.average_decay < 1:
        nearest = 0.0 if config.average_decay < 0 else 0.999
        raise bad_field("average_decay", config.average_decay, "it must lie in [0, 1)", nearest)
    if config.hindsight_goal_noise < 0:
        raise bad_field(
            "hindsight_goal_noise", config.hindsight_goal_noise, "it must be 0 or more", 0.0
        )
    shares = (
        "shuffled_goal_share",
        "commanded_goal_share",
        "hindsight_goal_share",
        "final_learning_rate_share",
    )
    for field in shares:
        share = getattr(config, field)
        if not 0 <= share <= 1:
            raise bad_field(field, share, "it must lie in [0, 1]", min(1.0, max(0.0, share)))
    rest = 1.0 - config.shuffled_goal_share
    if config.commanded_goal_share > rest + 1e-9:
        raise bad_field(
            "commanded_goal_share",
            config.commanded_goal_share,
            f"with shuffled_goal_share = {config.shuffled_goal_share} the two exceed 1",
            rest,
        )


def _check_architecture(config: TrainConfig) -> None:
    if config.expansion > 1 and config.layers_per_block == 1:
        allowed = "a block of one layer has no layers inside that could be wider"
        raise bad_field("expansion", config.expansion, allowed, 1)
    if config.norm == "hyperspherical" and config.norm_position == "pre":
        allowed = "hyperspherical features are normalised after every product, so it must be post"
        raise bad_field("norm_position", config.norm_position, allowed)
    if config.weight_decay < 0:
        raise bad_field("weight_decay", config.weight_decay, "it must be 0 or more", 0.0)


def _check_shares(config: TrainConfig, devices: int) -> None:
    for field in ("num_envs", "eval_envs", "batch_size"):
        count = getattr(config, field)
        if count % devices:
            below = count // devices * devices
            nearest = " or ".join(str(n) for n in (below, below + devices) if n > 0)
            allowed = f"{devices} devices must share it equally (--devices sets how many)"
            raise bad_field(field, count, allowed, nearest)


def _check_replay(config: TrainConfig, prefill: int, capacity: int) -> None:
    if prefill > capacity:
        raise bad_field(
            "min_replay_steps_per_env",
            config.min_replay_steps_per_env,
            f"it must not exceed replay_steps_per_env = {config.replay_steps_per_env}",
            config.replay_steps_per_env,
        )
    # The newest step of each world never has a future yet.
    drawable = config.num_envs * (prefill - 1)
    if drawable < 2:
        raise bad_field(
            "min_replay_steps_per_env",
            config.min_replay_steps_per_env,
            "when updates begin the buffer must hold two steps with a future at least",
            1 + _round_up(2, config.num_envs),
        )
    if config.batch_size > drawable:
        raise bad_field(
            "batch_size",
            config.batch_size,
            f"when updates begin the buffer holds {drawable} steps with a future "
            f"({config.num_envs} worlds x {prefill - 1} steps)",
            drawable,
        )
