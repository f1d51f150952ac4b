"""Export of a policy as a folder for `kilolayer-robot run`: graph, card and recorded waypoints."""

import dataclasses
import io
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from kilolayer.analysis.load import load
from kilolayer.deploy.card import task_card
from kilolayer.deploy.export.check import (
    check_inputs,
    difference,
    differences_text,
    float32_noise,
    in_float32,
    policy_noise,
    reference,
    require_close,
    sizes_of,
    tolerance,
)
from kilolayer.deploy.export.onnx_graph import DEFAULT_OPSET, policy_graph, require, value_graph
from kilolayer.deploy.export.onnx_session import OnnxAgent, open_session, session_of
from kilolayer.deploy.export.write import new_directory
from kilolayer.deploy.names import Weights
from kilolayer.deploy.planning.build import build_planner
from kilolayer.deploy.planning.planners import CriticValue, Waypoints
from kilolayer.deploy.policy import DeployedPolicy, is_policy, open_policy
from kilolayer.deploy.score import Scorer
from kilolayer.errors import UserError, bad_field, require_at_least, require_choice
from kilolayer.runtime.files import require_writable
from kilolayer.runtime.progress import ProgressDisplay, make_display
from kilolayer.runtime.tensors import sha256_of
from kilolayer_robot.card import CARD
from kilolayer_robot.planning import Pursuit
from kilolayer_robot.policy import MODEL, Policy
from kilolayer_robot.waypoints import NODES, VALUE

PACKAGES = ("kilolayer", "jax", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Folder:
    """path: the folder. facts: the card's entry `made_by`."""

    path: Path
    facts: dict[str, Any]

    def lines(self) -> list[str]:
        """Lines of text that describe the written files."""
        facts = self.facts
        differs = differences_text(facts["differences"])
        found = [f"{self.path}  {facts['weights']} weights, {differs}"]
        found.append(f"rounding alone changes the actions by {facts['float32_noise']:.1e}")
        for name, scores in facts["scores"].items():
            success, time = scores["success"], scores["time_at_goal"]
            score_text = f"success {success:.2f}, time at goal {time:.1f}"
            found.append(f"{name}: {score_text} in {facts['episodes']} episodes")
        found.append(f"kilolayer-robot run {self.path} --robot module:Class --goal ...")
        return found


def export_robot(
    policy: str | Path,
    to: str | Path,
    planner: Literal["waypoints"] | None = None,
    nodes: int = 64,
    weights: Weights = "float32",
    episodes: int = 0,
    opset: int = DEFAULT_OPSET,
    progress: bool = True,
) -> Folder:
    """Write a new folder for `kilolayer-robot run`. Each graph is loaded back and compared with its
    JAX original.

    policy: a run directory, a policy directory or zoo:NAME. planner: `waypoints` records a graph of
    `nodes` nodes, which needs a run with a contrastive critic. episodes: number of episodes that
    score the policy and its graph; 0 scores neither. Raises UserError if the folder exists, if a
    package is missing, or if a graph differs by more than the policy's float32 noise allows; then
    no files are left. Graphs with float16 or int8 weights differ by more and are not compared, so
    score them.
    """
    to = Path(to)
    if to.exists():
        raise UserError(f"{to} exists already: choose another with --to.")
    require_writable(to)
    require_choice("weights", weights, get_args(Weights))
    if planner is not None:
        require_choice("planner", planner, ("waypoints",))
    require_at_least(0, episodes=episodes)
    for package in ("onnx", "onnxruntime"):
        require(package)
    with closing(make_display(progress)) as display:
        display.phase("policy")
        opened = open_policy(policy)
        inputs = check_inputs(opened, display)
        with new_directory(to) as folder:
            folder.mkdir(parents=True)
            display.phase("onnx")
            facts = _write_policy(opened, folder, inputs, weights, opset)
            facts |= {"episodes": episodes, "scores": _scores(opened, folder, episodes, display)}
            if planner is not None:
                facts["waypoints"] = _write_waypoints(policy, opened, folder, nodes, opset, display)
            _write_card(opened, folder, inputs, facts)
            Policy.open(folder)
    return Folder(to, facts)


def _write_policy(
    policy: DeployedPolicy, folder: Path, inputs: dict[str, Any], weights: Weights, opset: int
) -> dict[str, Any]:
    content = policy_graph(policy.agent_state, sizes_of(policy), opset, weights).SerializeToString()
    (folder / MODEL).write_bytes(content)
    noise = policy_noise(policy.agent_state, inputs)
    session, expected = open_session(folder / MODEL), reference(in_float32(policy.agent_state))
    differences = {name: difference(session, expected, *each) for name, each in inputs.items()}
    if weights == "float32":
        require_close(MODEL, differences, noise)
    return {
        "method": policy.method,
        "depth": policy.spec.torso.depth,
        "opset": opset,
        "weights": weights,
        "float32_noise": noise,
        "tolerance": tolerance(noise) if weights == "float32" else None,
        "differences": differences,
        "packages": {name: version(name) for name in PACKAGES},
    }


def _scores(
    policy: DeployedPolicy, folder: Path, episodes: int, display: ProgressDisplay
) -> dict[str, dict[str, float]]:
    """Scores of the policy and of its graph, with the same starts and goals."""
    if episodes == 0:
        return {}
    display.phase("episodes")
    scorer = Scorer(policy.task, policy.config, episodes)
    agents = {
        "policy": policy.agent,
        "graph": OnnxAgent(open_session(folder / MODEL), policy.spec.task.action_dim),
    }
    found = {}
    for name, agent in agents.items():
        scores = scorer.scores(agent, policy.agent_state)
        found[name] = {key: float(scores[key]) for key in ("success", "time_at_goal")}
        display.advance(len(found), len(agents), success=found[name]["success"])
    return found


def _write_waypoints(
    path: str | Path,
    policy: DeployedPolicy,
    folder: Path,
    nodes: int,
    opset: int,
    display: ProgressDisplay,
) -> dict[str, Any]:
    """Write nodes, paths and the value's graph; return facts about them."""
    if is_policy(path):
        allowed = f"{path} is a policy on its own and has no critic to plan with; give a run"
        raise bad_field("planner", "waypoints", allowed)
    run = load(path)
    planner = build_planner("waypoints", run, policy, Pursuit(), display, nodes)
    assert isinstance(planner, Waypoints)
    value = planner.value
    (folder / VALUE).write_bytes(value_graph(value, sizes_of(policy), opset).SerializeToString())
    arrays = jax.device_get({"observation": planner.observation, **planner.graph._asdict()})
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    (folder / NODES).write_bytes(content.getvalue())
    inputs = arrays["observation"], arrays["place"]
    noise = float32_noise(_value, value, inputs)
    session = session_of(folder / VALUE)
    rows = dict(zip(("observation", "goal"), inputs, strict=True))
    expected = np.asarray(jax.jit(_value)(value, *inputs))
    largest = float(np.abs(session.run(["energy"], rows)[0] - expected).max())
    # Energies have no fixed range, so difference and noise are taken relative to their size.
    scale = max(1.0, float(np.abs(expected).max()))
    require_close(VALUE, {"the nodes": largest / scale}, noise / scale)
    return {"nodes": len(planner.observation), "float32_noise": noise, "difference": largest}


def _value(value: CriticValue, observation: Any, goal: Any) -> Any:
    return value(observation, goal, value.encode(goal))


def _write_card(
    policy: DeployedPolicy, folder: Path, inputs: dict[str, Any], facts: dict[str, Any]
) -> None:
    observation, goal = inputs["observations of the task"]
    recorded = ((rows.min(0), rows.max(0)) for rows in (observation, goal))
    card = task_card(policy.task, *recorded)
    names = [name for name in (MODEL, VALUE, NODES) if (folder / name).exists()]
    files = {name: sha256_of(folder / name) for name in names}
    card = dataclasses.replace(card, files=files, made_by=facts)
    (folder / CARD).write_text(card.to_json() + "\n", encoding="utf-8")
