"""An exported policy on ONNX Runtime, on one core."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError

MODEL = "policy.onnx"


@dataclass(frozen=True, eq=False)
class Policy:
    """`action = policy(observation, goal)`, for one row or a batch; actions are as on the card."""

    card: Card
    session: Any

    @staticmethod
    def open(folder: str | Path) -> "Policy":
        """The policy in a folder of `kilolayer export --to`.

        Raises UserError if a file is missing, damaged or does not fit the card.
        """
        folder = Path(folder)
        card = Card.read(folder)
        session = open_session(folder / MODEL, card.files.get(MODEL))
        policy = Policy(card, session)
        sizes = {"observation": len(card.observation), "goal": len(card.goal)}
        require_inputs(session, sizes, folder / MODEL)
        # ONNX Runtime plans its memory on the first call, which therefore takes longer than the
        # others.
        action = first_result(policy, sizes, folder / MODEL)
        if action.shape != (1, len(card.action)):
            raise UserError(
                f"{folder / MODEL} gives an action of shape {action.shape} and its card says "
                f"(1, {len(card.action)}): export the policy again."
            )
        return policy

    def __call__(self, observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        rows = {
            "observation": np.atleast_2d(np.asarray(observation, np.float32)),
            "goal": np.atleast_2d(np.asarray(goal, np.float32)),
        }
        action = self.session.run(["action"], rows)[0]
        return action if np.ndim(observation) == 2 else action[0]


def open_session(path: Path, checksum: str | None = None) -> Any:
    """An ONNX Runtime session on one thread: at batch 1, more threads do not make it faster.

    Raises UserError if the file is missing, has another SHA-256, or is not a graph.
    """
    import onnxruntime

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        raise UserError(
            f"{path} is truncated or damaged ({len(content):,} bytes, another SHA-256 than on the "
            "card): copy the policy folder again."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors have no common class
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"{path} cannot be loaded by onnxruntime {onnxruntime.__version__}: {reason}"
        ) from error


def first_result(
    function: Callable[[np.ndarray, np.ndarray], Any], sizes: dict[str, int], path: Path
) -> np.ndarray:
    """The result for a row of zeros for each input; raises UserError if the graph cannot run."""
    try:
        return np.asarray(function(*(np.zeros((1, size), np.float32) for size in sizes.values())))
    except Exception as error:  # the runtime's own errors have no common class
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{path} cannot be run: {reason}. Export the policy again.") from error


def require_inputs(session: Any, sizes: dict[str, int], path: Path) -> None:
    """Raises UserError unless the graph takes inputs of these names and sizes."""
    found = {each.name: (each.shape or [0])[-1] for each in session.get_inputs()}
    if found != sizes:
        inputs = ", ".join(f"{name} of {size}" for name, size in found.items())
        expected = ", ".join(f"{name} of {size}" for name, size in sizes.items())
        raise UserError(
            f"{path} takes {inputs} numbers and its card says {expected}: export the policy again."
        )
