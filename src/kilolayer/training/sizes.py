"""A lower bound of a run's memory, computed from its settings before anything is built.

`kilolayer plan` estimates the memory itself.
"""

from collections.abc import Callable, Mapping

from kilolayer.agents.base import OnPolicyAgent
from kilolayer.config import RunConfig
from kilolayer.errors import bad_field
from kilolayer.physics.native import MujocoWorld
from kilolayer.runtime.devices import gibibytes, host_memory
from kilolayer.settings import values_of
from kilolayer.tasks.base import Task

FLOAT = 4  # bytes
ADAM = 4  # arrays as large as a network: itself, its gradient, two moments
KEY = 8  # bytes of a random key; each update of a round has one
# Limit of `kilolayer plan`: more than any device has.
MAX_MEMORY = 2**46

# The settings that determine the size of each part.
FIELDS = {
    "replay buffer": ("num_envs", "replay_steps_per_env", "unroll_length"),
    "environments": ("num_envs",),
    "networks": ("width", "depth", "expansion"),
    "representations": ("representation_dim", "width"),
    "batch": ("batch_size", "width"),
    "updates of a round": ("update_to_data", "unroll_length", "num_envs"),
    "evaluation": ("eval_envs", "samples", "width"),
}


def require_run_fits(config: RunConfig, task: Task, memory: int, seeds: int = 1) -> None:
    """Raises UserError that names the setting and the largest value that fits, if a run does not
    fit into `memory` bytes on the device, or its environments into this machine's memory."""
    settings = _settings(config)
    # The environments use the host's memory, all other parts the device's.
    limits = ((("environments",), host_memory()), (tuple(FIELDS), memory))

    def required(**changed: float) -> dict[str, int]:
        return minimum_bytes({**settings, **changed}, task)

    def fits(seeds: int, **changed: float) -> bool:
        parts = required(**changed)
        return all(seeds * sum(parts[name] for name in names) <= most for names, most in limits)

    if fits(seeds):
        return
    parts = required()
    if fits(1):
        total = sum(parts.values())
        allowed = f"each takes {gibibytes(total)} at least, of the {gibibytes(memory)} there are"
        raise bad_field("seeds", seeds, allowed, max(n for n in range(1, seeds) if fits(n)))
    largest = max(parts, key=lambda name: parts[name])
    field = _most_oversized(settings, FIELDS[largest])
    allowed = (
        f"the {largest} alone would take {gibibytes(parts[largest])} at least, of the "
        f"{gibibytes(memory)} there are"
    )
    nearest = _largest_fitting(lambda value: fits(seeds, **{field: value}), settings[field])
    raise bad_field(field, settings[field], allowed, nearest)


def minimum_bytes(at: Mapping[str, float], task: Task) -> dict[str, int]:
    """A lower bound of the bytes of each part. at: the settings by name."""
    observation, goal = FLOAT * len(task.observation), FLOAT * task.goal.dim
    step = observation + FLOAT * task.action_dim + 2 * goal
    environment = observation + goal
    if isinstance(task.world, MujocoWorld):
        environment += 4 * FLOAT * (task.world.model.nq + task.world.model.nv)
    width, envs, batch = at["width"], at["num_envs"], at["batch_size"]
    steps = max(at["replay_steps_per_env"], at["unroll_length"])
    updates = at["update_to_data"] * envs * at["unroll_length"]
    pairs = batch if at["pairs"] else 0
    parts = {
        "replay buffer": envs * steps * step,
        "environments": envs * environment,
        "networks": FLOAT * ADAM * at["depth"] * width**2 * at["expansion"],
        "representations": FLOAT * ADAM * width * at["representation_dim"],
        "batch": FLOAT * batch * (width + pairs),
        "updates of a round": KEY * updates,
        "evaluation": at["eval_envs"]
        * (2 * goal * task.episode_length + FLOAT * at["samples"] * width),
    }
    return {name: int(size) for name, size in parts.items()}


def _settings(config: RunConfig) -> dict[str, float]:
    """The settings that sizes depend on."""
    own = values_of(config.agent)
    network = config.network
    online = config.collection.dataset is None
    keeps = online and not isinstance(config.agent, OnPolicyAgent)
    return {
        "num_envs": config.collection.num_envs,
        "unroll_length": config.collection.unroll_length,
        "update_to_data": config.collection.update_to_data,
        "replay_steps_per_env": config.replay.replay_steps_per_env if keeps else 0,
        "width": network.width,
        "depth": max(network.depth_of_actor, network.depth_of_critic),
        "expansion": network.expansion if network.layers_per_block > 1 else 1,
        "batch_size": config.agent.batch_size,
        "representation_dim": own.get("representation_dim", 0),
        "pairs": "contrastive_loss" in own,
        "eval_envs": config.evaluation.eval_envs,
        "samples": config.evaluation.samples,
    }


def _most_oversized(settings: Mapping[str, float], fields: tuple[str, ...]) -> str:
    """The field with the largest ratio of its value to its default."""
    defaults = _settings(RunConfig())
    return max(fields, key=lambda name: settings[name] / max(defaults[name], 1e-9))


def _largest_fitting(fits: Callable[[float], bool], value: float) -> float | None:
    """The largest value below `value` that fits, to two digits; None if no value fits."""
    low, high = 0.0, float(value)
    for _ in range(1100):  # from the largest float to 1
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    found = float(f"{0.95 * low:.1e}")  # rounded, and not to the last byte
    return (int(found) if isinstance(value, int) else found) or None
