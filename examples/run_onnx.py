"""Run an exported policy with numpy and ONNX Runtime alone: no JAX, none of this package.

    kilolayer export RUN --format onnx
    python examples/run_onnx.py RUN/export/policy.onnx

Prints what the file says of itself and how long an action takes. If the policy is one of a point
maze, it is then sent through an open field, a copy of the maze's point without its walls.
"""

import sys
import time

import numpy as np
import onnxruntime


class Policy:
    """A deterministic policy: `action = policy(observation, goal)`, batched or one at a time."""

    def __init__(self, path: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # one action leaves nothing to share among threads
        self.session = onnxruntime.InferenceSession(path, options)
        self.sizes = {each.name: each.shape[1] for each in self.session.get_inputs()}
        self.facts = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        inputs = {"observation": observation, "goal": goal}
        rows = {name: np.atleast_2d(np.float32(array)) for name, array in inputs.items()}
        action = self.session.run(["action"], rows)[0]
        return action if np.ndim(observation) == 2 else action[0]


def milliseconds(policy: Policy, calls: int = 1000) -> float:
    """Median time of one action."""
    observation, goal = (np.zeros(size, np.float32) for size in policy.sizes.values())
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        policy(observation, goal)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))


def distances_in_the_field(policy: Policy, goal: np.ndarray, steps: int = 100) -> list[float]:
    """Distances to the goal of a point that starts at (1, 1): it accelerates, against a drag."""
    place, velocity, distances = np.ones(2), np.zeros(2), []
    for _ in range(steps):
        action = policy(np.concatenate([place, velocity]), goal)
        velocity = velocity + 0.1 * (6.0 * action - 3.0 * velocity)
        place = place + 0.1 * velocity
        distances.append(float(np.linalg.norm(place - goal)))
    return distances


def main(path: str) -> None:
    policy = Policy(path)
    for name, value in policy.facts.items():
        print(f"{name:13}{value}")
    print(f"{'latency':13}{milliseconds(policy):.3f} ms")
    if policy.sizes == {"observation": 4, "goal": 2}:
        distances = distances_in_the_field(policy, goal=np.array([3.0, 1.0]))
        print(f"{'point':13}2.00 from its goal, then at best {min(distances):.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
