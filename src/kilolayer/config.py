"""What the user says: one frozen value that round-trips through JSON.

Every field is a command-line option of `kilolayer train`; its comment is the option's help.
"""

import dataclasses
import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from kilolayer.types import UserError, bad_field

# Of the file: 2 since `ant` stands for the ant of MuJoCo's goal-reaching benchmarks.
VERSION = 2
# Tasks of the ant that Gym's ant no longer has.
WITHOUT_GYM_ANT = ("ant_ball", "ant_push")


@dataclass(frozen=True)
class TaskConfig:
    """Which task: a named one, or a robot of the user's own."""

    task: str = "point_u_maze"
    """Where the agent lives and what its goals speak of: a name, or module:function of your own."""
    gym: str | None = None
    """A Gymnasium environment with goals to train in instead of `task` (extra `gym`)."""
    mjcf: str | None = None
    """The MJCF file of your own robot, instead of a task; needs --goal-site or --goal-body."""
    goal_site: str | None = None
    """The site of that robot whose position goals speak of."""
    goal_body: str | None = None
    """The body of that robot whose position goals speak of."""
    goal_box: str | None = None
    """Where its goals lie, x0,y0,z0,x1,y1,z1 in m; by default where random motion takes it."""
    goal_radius: float | None = None
    """Distance within which a goal counts as reached, in its unit; by default the task's own."""
    control_step: float | None = None
    """Seconds between two of its actions, a multiple of the time step; by default about 0.05."""

    @property
    def task_name(self) -> str:
        """What to call the task before it is made: a robot of one's own by its file."""
        if self.mjcf is not None:
            return Path(self.mjcf).stem
        return self.task if self.gym is None else self.gym.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class TrainConfig(TaskConfig):
    """A training run. `kilolayer.recommended(task)` has the settings that a task learns best with;
    the plain defaults are those of arXiv 2503.14858 at laptop size."""

    agent: str = "crl"
    """How it learns: crl, sac, sac-her, td3-her, ppo or gcsl; from a dataset crl, gcbc or bc; or
    module:function of your own."""
    dataset: str | None = None
    """Learn from this .npz file in OGBench's layout and take no steps: see docs/offline.md."""
    seed: int = 0
    """Seed of everything random. Same seed, same machine, same result."""
    start_from: str | None = None
    """A run whose newest networks and optimisers this one begins with, to go on under other
    options; by default they are drawn from the seed."""
    total_steps: int = 1_000_000
    """Environment steps to train for, summed over all worlds; rounded up to whole unrolls. With
    a dataset, as many updates as those steps would have brought."""
    num_envs: int = 256
    """Worlds that act in parallel."""
    unroll_length: int = 62
    """Control steps of every world between two rounds of updates."""
    episode_length: int | None = None
    """Control steps after which an episode ends while training; by default the task's own."""
    goal_interval: int | None = None
    """Control steps after which a training world is told another goal, in the same episode; by
    default it keeps one to the end."""
    physics: Literal["auto", "native", "mjx"] = "auto"
    """MuJoCo's engine: `native` on all cores, which is `auto`, or `mjx` on the accelerator (extra
    `mjx`)."""
    mjx_impl: Literal["jax", "warp"] = "jax"
    """MJX's implementation: `jax` runs anywhere, `warp` is made for NVIDIA GPUs (extra `warp`)."""

    depth: int = 4
    """Dense layers inside the residual blocks of every network; input and output do not count."""
    actor_depth: int | None = None
    """Depth of the actor alone; by default `depth`."""
    critic_depth: int | None = None
    """Depth of the critic's two encoders alone; by default `depth`."""
    collector_depth: int | None = None
    """Depth of a second agent that fills the buffer in its place; by default it does so itself."""
    width: int = 256
    """Units per layer."""
    layers_per_block: int = 4
    """Dense layers per residual block. Every depth must be a multiple of it."""
    residual: Literal["add", "interpolate", "none"] = "add"
    """How a block joins the stream: added, by learnt interpolation, or `none` in its place."""
    norm: Literal["layer", "rms", "none", "hyperspherical"] = "layer"
    """What layers are normalised by; `hyperspherical` also keeps the kernels' columns at norm 1."""
    norm_position: Literal["post", "pre"] = "post"
    """`post` normalises after every product, `pre` once before each block and before the output."""
    activation: Literal["swish", "relu", "gelu"] = "swish"
    """What follows every layer of a block."""
    branch_activation: bool = True
    """Whether it follows the last layer of a block too."""
    expansion: int = 1
    """Width of the layers inside a block over that of the stream, as wide as which it ends."""
    representation_dim: int = 64
    """Dimension in which the critic compares state-action pairs with goals."""
    branch_scale: Literal["inverse", "none"] = "inverse"
    """Factor of N added branches: `inverse` min(1, 2/N), stable at any depth; `none` 1."""
    rematerialisation: Literal["auto", "none", "block", "nested"] = "auto"
    """Products the backward pass repeats: none, a block's, a segment's too; `auto` by memory."""
    scan_unroll: int = 1
    """Residual blocks per iteration of the scan over depth."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format inside the blocks; parameters, residual stream and losses stay float32."""

    batch_size: int = 256
    """Transitions per update. Each is contrasted with the goals of all others."""
    update_to_data: float = 1 / 40
    """Gradient updates per environment step."""
    discount: float = 0.99
    """Hindsight goals lie k steps ahead with probability proportional to discount^k; for sac,
    sac-her, td3-her and ppo a reward k steps ahead counts discount^k."""
    initial_discount: float | None = None
    """Discount of hindsight goals at the start; the horizon 1/(1 - discount) grows linearly, and
    by default not at all."""
    actor_learning_rate: float = 3e-4
    """Adam's step size for the actor."""
    critic_learning_rate: float = 3e-4
    """Adam's step size for the critic."""
    temperature_learning_rate: float = 3e-4
    """Adam's step size for the temperature."""
    final_learning_rate_share: float = 1.0
    """Share of the actor's and the critic's learning rate that is left at the end of the run; they
    fall linearly. 1 keeps them constant. Lower it when scores move up and down to the end."""
    average_decay: float = 0.0
    """Decay per update of the running average of the actor's weights, which is what is evaluated
    and kept; 0 takes the newest weights."""
    weight_decay: float = 0.0
    """Decoupled weight decay of actor and critic (AdamW), times their learning rate per update."""
    energy: Literal["l2", "squared_l2", "dot", "cosine"] = "l2"
    """How the critic compares its two encodings; `l2` is the negative Euclidean distance."""
    contrastive_loss: Literal["forward", "backward", "symmetric", "binary"] = "forward"
    """`forward` asks each state-action pair for its goal, `backward` each goal for its pair."""
    logsumexp_penalty: float = 0.1
    """Weight of the squared log-partition, which keeps energies from drifting."""
    initial_temperature: float = 1.0
    """Weight of the actor's entropy before any tuning."""
    target_entropy_per_action: float = -0.5
    """The temperature is tuned until the entropy is this times the number of action coordinates."""
    shuffled_goal_share: float = 0.0
    """Share of the actor's batch that practises another transition's goal, in 0 to 1."""
    commanded_goal_share: float = 0.0
    """Share of the actor's batch that practises the goal its world was told, in 0 to 1."""
    hindsight_goal_share: float = 0.8
    """Share of the batch of sac-her and td3-her whose goal is one reached later, in 0 to 1."""
    target_rate: float = 0.005
    """Share of the way that target networks move at each update of sac, sac-her and td3-her."""
    hindsight_goal_noise: float = 0.0
    """Standard deviation of noise on hindsight goals, in success radii: what lies nearer together
    then counts as one place."""
    absorbing_termination: bool = False
    """Count a world that terminated as staying there: its last goal is its future's."""

    replay_steps_per_env: int = 10_000
    """Newest steps of each world that the buffer keeps; rounded up to whole unrolls."""
    min_replay_steps_per_env: int = 1_000
    """Steps that each world takes before the first update; rounded up to whole unrolls."""

    num_evaluations: int = 20
    """Evaluations, spread evenly; each is followed by a checkpoint. One more comes at the start."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep, beside the one with the best evaluation; older ones go."""
    eval_envs: int = 128
    """Episodes per evaluation and goal split."""
    evaluate_training_goals: bool = False
    """Play the training goals at every evaluation, where they differ; by default at the last."""
    samples: int = 1
    """Actions drawn per evaluation step; the critic picks. 1 is the deterministic action."""
    profile: bool = True
    """Time the parts of a round at the end, for the report; it compiles a few more programs."""
    tensorboard: bool = True
    """Write TensorBoard event files into the run directory."""
    wandb: bool = False
    """Also log to Weights & Biases, offline unless WANDB_MODE says otherwise (extra `wandb`)."""

    def to_dict(self) -> dict[str, Any]:
        """What `to_json` writes: every field, and the version of the format."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, source: str) -> "TrainConfig":
        """Read a config file's text; `source` names it in errors.

        Raises UserError for broken JSON, an unknown key, a value of the wrong type, and a config of
        a task that has changed since it was written.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{source} is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise UserError(f"{source} must hold one JSON object of config fields.")
        _check_version(values.pop("version", 1), values, source)
        hints = get_type_hints(TrainConfig)
        for key, value in values.items():
            if key not in hints:
                nearest = difflib.get_close_matches(key, hints, n=1, cutoff=0.0)[0]
                raise UserError(f"{source} has an unknown key {key!r}; the nearest is {nearest!r}.")
            values[key] = _checked(key, value, hints[key])
        return TrainConfig(**values)

    @staticmethod
    def read(path: Path) -> "TrainConfig":
        """The config in a JSON file; raises UserError if it cannot be read."""
        try:
            return TrainConfig.from_json(path.read_text(), str(path))
        except OSError as error:
            raise UserError(f"cannot read the config file {path}: {error.strerror}.") from error


def _check_version(version: Any, values: dict[str, Any], source: str) -> None:
    """Raises UserError for a file of a later format, and where the task meant another body."""
    if version not in range(1, VERSION + 1):
        raise UserError(
            f"{source} has version = {version!r}, where this release reads up to {VERSION}: "
            "open it with the release that wrote it, or a newer one."
        )
    task = str(values.get("task", ""))
    if version == 1 and (task == "ant" or task.startswith("ant_")):
        old = "" if task in WITHOUT_GYM_ANT else f"write gym_{task} as its task to keep them, or "
        raise UserError(
            f"{source} was written when task {task} had the motors of Gym's ant (gear 150, 20 Hz): "
            f'{old}add "version": {VERSION} for the present ones (gear 30, 10 Hz).'
        )


def _checked(field: str, value: Any, hint: Any) -> Any:
    """The value as the field's type; raises UserError if it is of another."""
    takes_float = hint is float or float in get_args(hint)
    if takes_float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if getattr(hint, "__origin__", None) is Literal:
        if value not in get_args(hint):
            raise bad_field(field, value, f"one of {', '.join(map(str, get_args(hint)))}")
        return value
    allowed = get_args(hint) or (hint,)
    if type(value) not in allowed:
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in allowed)
        raise bad_field(field, value, f"it must be of type {names}")
    return value
