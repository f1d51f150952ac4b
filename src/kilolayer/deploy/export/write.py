"""Export of a policy to files for other runtimes. Each file is first compared with the policy."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from kilolayer.deploy.export.check import (
    Function,
    act,
    check_inputs,
    difference,
    differences_text,
    in_float32,
    policy_noise,
    reference,
    require_close,
    sizes_of,
    tolerance,
)
from kilolayer.deploy.export.onnx_graph import DEFAULT_OPSET, policy_graph, require
from kilolayer.deploy.export.onnx_session import open_session
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.errors import UserError, bad_field, require_choice
from kilolayer.networks.actor import Actor
from kilolayer.runtime.files import require_unused, write_atomically
from kilolayer.runtime.progress import make_display
from kilolayer.runtime.zoo import default_output

PLATFORMS = ("cpu", "cuda")
FILES = {
    "onnx": "policy.onnx",
    "stablehlo": "policy.stablehlo",
    "safetensors": "policy.safetensors",
}
NEEDED = {"onnx": ("onnx", "onnxruntime"), "stablehlo": ("flatbuffers",), "safetensors": ()}
CARD = "export.json"


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
            if "safetensors" in formats:
                policy.save(directory)
            else:
                directory.mkdir(parents=True)
            actor = policy.agent_state
            noise = policy_noise(actor, inputs)
            found = {}
            for name in (name for name in FILES if name in formats):
                display.phase(name)
                function = _written(policy, directory, name, opset)
                expected = reference(in_float32(actor) if name == "onnx" else actor)
                differences = {
                    key: difference(function, expected, *each) for key, each in inputs.items()
                }
                require_close(FILES[name], differences, noise)
                size = (directory / FILES[name]).stat().st_size
                found[name] = {"bytes": size, "differences": differences}
                display.advance(len(found), len(formats))
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=path.parent) as outer:
            temporary = Path(outer) / path.name
            yield temporary
            temporary.rename(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}.") from error


def serialised_policy(actor: Actor, sizes: dict[str, int]) -> bytes:
    """`(observation [batch, o], goal [batch, g]) -> (action, log_std)`, each `[batch, a]`.

    The weights are constants of the program. sizes: of observation, goal and action.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    inputs = [
        jax.ShapeDtypeStruct((batch, sizes[name]), jnp.float32) for name in ("observation", "goal")
    ]
    program = jax_export.export(jax.jit(partial(act, actor)), platforms=PLATFORMS)(*inputs)
    return bytes(program.serialize())


def open_serialised(path: Path) -> Any:
    """The function in a file of `serialised_policy`: `(observation, goal) -> (action, log_std)`."""
    return jax.jit(jax_export.deserialize(bytearray(path.read_bytes())).call)


def _written(policy: DeployedPolicy, directory: Path, name: str, opset: int) -> Function:
    """Write the file of one format and load it again."""
    path, actor, sizes = directory / FILES[name], policy.agent_state, sizes_of(policy)
    if name == "onnx":
        graph = policy_graph(actor, sizes, opset)
        require("onnx").helper.set_model_props(graph, _properties(policy))
        path.write_bytes(graph.SerializeToString())
        return open_session(path)
    if name == "stablehlo":
        path.write_bytes(serialised_policy(actor, sizes))
        return open_serialised(path)
    # `export` has written it, since it makes the directory.
    return reference(open_policy(directory).agent_state)


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
