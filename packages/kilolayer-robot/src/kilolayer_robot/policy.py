"""An exported policy on ONNX Runtime, on one core."""

import hashlib
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
        session, action = open_graph(folder / MODEL, card, "action")
        if action.shape != (1, len(card.action)):
            raise UserError(
                f"{folder / MODEL} gives an action of shape {action.shape} and its card says "
                f"(1, {len(card.action)}): export the policy again."
            )
        return Policy(card, session)

    def __call__(self, observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        rows = {
            "observation": np.atleast_2d(np.asarray(observation, np.float32)),
            "goal": np.atleast_2d(np.asarray(goal, np.float32)),
        }
        action = self.session.run(["action"], rows)[0]
        return action if np.ndim(observation) == 2 else action[0]


def open_graph(path: Path, card: Card, output: str) -> tuple[Any, np.ndarray]:
    """An ONNX Runtime session on one thread, and its output for one row of zeros.

    At batch 1, more threads do not make it faster. ONNX Runtime plans its memory on the first call,
    which therefore takes longer than the others. Raises UserError if the file is missing, has
    another SHA-256 than on the card, is not a graph, or does not take the card's observation and
    goal.
    """
    import onnxruntime

    content = read_listed(path, card)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # The runtime's own errors have no common class.
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        version = onnxruntime.__version__
        raise UserError(
            f"{path} cannot be loaded by onnxruntime {version}: {_reason(error)}"
        ) from error
    found = {each.name: (each.shape or [0])[-1] for each in session.get_inputs()}
    sizes = {"observation": len(card.observation), "goal": len(card.goal)}
    if found != sizes:
        takes, says = (
            ", ".join(f"{name} of {size}" for name, size in each.items()) for each in (found, sizes)
        )
        raise UserError(
            f"{path} takes {takes} numbers and its card says {says}: export the policy again."
        )
    zeros = {name: np.zeros((1, size), np.float32) for name, size in sizes.items()}
    try:
        return session, np.asarray(session.run([output], zeros)[0])
    except Exception as error:
        raise UserError(
            f"{path} cannot be run: {_reason(error)}. Export the policy again."
        ) from error


def read_listed(path: Path, card: Card) -> bytes:
    """The content of a file of a policy folder; raises UserError if it is missing or has another
    SHA-256 than on the card, if that knows one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    checksum = card.files.get(path.name)
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        raise UserError(
            f"{path} is truncated or damaged ({len(content):,} bytes, another SHA-256 than on the "
            "card): copy the policy folder again."
        )
    return content


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
