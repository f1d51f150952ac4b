"""Export of a policy to files for other runtimes. Each file is first compared with the policy."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.deploy.export.noise import float32_noise, tolerance
from kilolayer.deploy.export.onnx_graph import DEFAULT_OPSET, policy_graph
from kilolayer.deploy.export.onnx_session import open_session
from kilolayer.deploy.export.packages import require
from kilolayer.deploy.export.stablehlo import PLATFORMS, act, open_serialised, serialised_policy
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.deploy.visited import visited
from kilolayer.errors import require_choice
from kilolayer.networks.actor import Actor
from kilolayer.runtime.files import require_unused, write_atomically
from kilolayer.runtime.progress import ProgressDisplay, make_display
from kilolayer.runtime.zoo import default_output
from kilolayer.types import UserError, bad_field

ROWS = 256
FILES = {
    "onnx": "policy.onnx",
    "stablehlo": "policy.stablehlo",
    "safetensors": "policy.safetensors",
}
NEEDED = {"onnx": ("onnx", "onnxruntime"), "stablehlo": ("flatbuffers",), "safetensors": ()}
CARD = "export.json"

# (observation [batch, o], goal [batch, g]) -> (action, log_std), each [batch, a]
Function = Callable[[np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class Exported:
    """path: the directory. files: by format, facts such as its size in bytes and its
    differences."""

    path: Path
    files: dict[str, dict[str, Any]]

    def lines(self) -> list[str]:
        """One line of text for each written file."""
        found = []
        for name, facts in self.files.items():
            size = f"{facts['bytes'] / 1e6:.3g} MB"
            differs = differences_text(facts["differences"])
            found.append(f"{self.path / FILES[name]}  {size}, {differs}")
        return found


def export(
    policy: DeployedPolicy | str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] = tuple(FILES),
    opset: int = DEFAULT_OPSET,
    progress: bool = True,
) -> Exported:
    """Write a policy's files and their card, export.json, into a new directory.

    policy: a policy, or the path of a run or policy directory. out: the new directory. Default:
    `export` in the policy's directory. Every file is loaded back and compared on random inputs and
    on inputs from the task. Raises UserError if there is no policy, if the directory exists, for an
    opset that the installed packages lack, or if an output differs by more than `tolerance` of the
    policy's float32 noise; then no files are left.
    """
    with closing(make_display(progress)) as display:
        display.phase("policy")
        policy = policy if isinstance(policy, DeployedPolicy) else open_policy(policy)
        path = default_output(policy.path, "export") if out is None else Path(out)
        if not formats:
            raise bad_field("format", "", f"at least one of {', '.join(FILES)}")
        require_unused(path)
        for name in formats:
            require_choice("format", name, FILES)
            for package in NEEDED[name]:
                require(package)
        inputs = check_inputs(policy, display)
        with new_directory(path) as directory:
            _write(policy, directory, formats, opset)
            noise = policy_noise(policy.agent_state, inputs)
            found = {}
            for index, name in enumerate(name for name in FILES if name in formats):
                display.phase(name)
                found[name] = _verified(policy, directory, name, inputs, noise)
                display.advance(index + 1, len(formats))
            card = {
                "method": policy.method,
                "float32_noise": noise,
                "tolerance": tolerance(noise),
                "files": found,
            }
            if "onnx" in found:
                found["onnx"]["opset"] = opset
            if "stablehlo" in found:
                found["stablehlo"]["platforms"] = PLATFORMS
            write_atomically(directory / CARD, json.dumps(card, indent=2) + "\n")
    return Exported(path, found)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """The path of a temporary directory to make; it is renamed to `path` at the end.

    After an error, no files are left. Raises UserError if the directory cannot be written.
    """
    temporary = path.with_name(f".exporting-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        temporary.rename(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def differences_text(differences: dict[str, float]) -> str:
    """The differences between a file and the policy, for a line of text."""
    each = ", ".join(f"{value:.1e} on {inputs}" for inputs, value in differences.items())
    return f"differs by at most {each}"


def sizes_of(policy: DeployedPolicy) -> dict[str, int]:
    """Numbers in an observation, a goal and an action."""
    task = policy.spec.task
    return {
        "observation": task.observation_dim,
        "goal": task.goal_dim,
        "action": task.action_dim,
    }


def check_inputs(
    policy: DeployedPolicy, display: ProgressDisplay
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Observations and goals for the comparison: random ones, and ones visited in the task."""
    display.phase("rollout")
    observation, goal = visited(policy.task, policy.config, policy.agent, policy.agent_state, ROWS)
    generator = np.random.default_rng(0)

    def sampled(like: np.ndarray) -> np.ndarray:
        """Normal, with the mean of the visited values and twice their deviation (at least 0.1)."""
        noise = generator.normal(size=like.shape)
        return (like.mean(0) + 2 * np.maximum(like.std(0), 0.1) * noise).astype(np.float32)

    return {
        "random observations": (sampled(observation), sampled(goal)),
        "observations of the task": (observation, goal),
    }


def in_float32(actor: Actor) -> Actor:
    """The actor with its blocks computing in float32, as the ONNX graph does."""
    encoder = actor.encoder
    stack = dataclasses.replace(encoder.stack, compute_dtype="float32")
    return Actor(dataclasses.replace(encoder, stack=stack))


def reference(actor: Actor) -> Function:
    """The actor's outputs, computed by JAX on the CPU."""
    cpu = jax.devices("cpu")[0]
    actor, compiled = jax.device_put(actor, cpu), jax.jit(act)

    def run(observation: np.ndarray, goal: np.ndarray) -> Any:
        with jax.default_device(cpu):
            return compiled(actor, observation, goal)

    return run


def _write(policy: DeployedPolicy, path: Path, formats: Sequence[str], opset: int) -> None:
    """Write all files without checking them."""
    actor, sizes = policy.agent_state, sizes_of(policy)
    if "safetensors" in formats:
        policy.save(path)
    else:
        path.mkdir(parents=True)
    if "onnx" in formats:
        graph = policy_graph(actor, sizes, opset)
        require("onnx").helper.set_model_props(graph, _properties(policy))
        (path / FILES["onnx"]).write_bytes(graph.SerializeToString())
    if "stablehlo" in formats:
        (path / FILES["stablehlo"]).write_bytes(serialised_policy(actor, sizes))


def _properties(policy: DeployedPolicy) -> dict[str, str]:
    """Facts about the task for users of the ONNX file."""
    task = policy.task

    def names(coordinates: Any) -> str:
        return ", ".join(f"{each.name} ({each.unit})" for each in coordinates)

    return {
        "task": task.name,
        "method": policy.method,
        "observation": names(task.observation),
        "goal": names(task.goal.coordinates),
        "radius": f"{task.goal.radius:g}",
        "control_step": f"{task.world.control_step:g}",
    }


def _verified(
    policy: DeployedPolicy,
    directory: Path,
    name: str,
    inputs: dict[str, tuple[np.ndarray, np.ndarray]],
    noise: float,
) -> dict[str, Any]:
    """Size of a written file and its largest differences; raises UserError if too large."""
    path, actor = directory / FILES[name], policy.agent_state
    if name == "onnx":
        actor, function = in_float32(actor), open_session(path)
    elif name == "stablehlo":
        function = open_serialised(path)
    else:
        function = reference(open_policy(directory).agent_state)
    differences = {
        name: difference(function, reference(actor), *each) for name, each in inputs.items()
    }
    require_close(FILES[name], differences, noise)
    return {"bytes": path.stat().st_size, "differences": differences}


def require_close(file: str, differences: dict[str, float], noise: float) -> None:
    """Raises UserError if outputs differ by more than the policy's float32 noise allows."""
    allowed = tolerance(noise)
    for inputs, value in differences.items():
        # Not `value > allowed`, which NaN would pass.
        if not value <= allowed:
            raise UserError(
                f"nothing was written: {file} differs from the policy by {value:.1e} on {inputs}, "
                f"and {allowed:.1e} is allowed (rounding alone changes the actions by {noise:.1e})."
            )


def policy_noise(actor: Actor, inputs: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """The largest float32 noise of an actor's outputs over these inputs."""
    actor = in_float32(actor)
    return max(float32_noise(act, actor, each) for each in inputs.values())


def difference(
    function: Function, reference: Function, observation: np.ndarray, goal: np.ndarray
) -> float:
    """The largest absolute difference of any output, over a full batch and a batch of 1."""
    expected = [np.asarray(output) for output in reference(observation, goal)]
    batched = function(observation, goal)
    single = function(observation[:1], goal[:1])
    differences = [
        np.abs(np.asarray(output) - target[: len(output)]).max()
        for outputs in (batched, single)
        for output, target in zip(outputs, expected, strict=True)
    ]
    # Not Python's `max`, which passes over NaN.
    return float(np.max(differences))
