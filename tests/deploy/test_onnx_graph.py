"""The ONNX graph computes what the actor computes, for every architecture."""

import numpy as np
import onnx
import onnxruntime
import pytest

from kilolayer.deploy.export import onnx_graph
from kilolayer.deploy.export.check import difference, reference
from kilolayer.deploy.export.onnx_graph import policy_graph
from kilolayer.deploy.export.onnx_session import open_session, session_of
from kilolayer.errors import UserError
from kilolayer.networks.actor import Actor
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec

SIZES = {"observation": 5, "goal": 3, "action": 2}


def actor_of(random_module, architecture: Architecture, scale: float = 0.3) -> Actor:
    torso = TorsoSpec(6, 8, 2, branch_scale=scale, architecture=architecture)
    return random_module(Actor.init, *SIZES.values(), torso)


@pytest.mark.parametrize(
    ("architecture", "opset"),
    [
        (Architecture(), 20),
        (Architecture(norm="rms", norm_position="pre", activation="relu"), 20),
        (Architecture(norm_position="pre", activation="gelu", expansion=2), 20),
        (Architecture(norm="rms", activation="gelu", branch_activation=False), 17),
        (Architecture(residual="interpolate", branch_activation=False), 20),
        (Architecture(residual="none", norm="none"), 20),
        (Architecture(norm="none", norm_position="pre"), 20),
        (Architecture(norm="hyperspherical"), 20),
        (Architecture("interpolate", "hyperspherical", "pre", expansion=2), 20),
    ],
    ids=str,
)
def test_graph_matches_the_actor(architecture, opset, random_module, normal):
    actor = actor_of(random_module, architecture)
    graph = policy_graph(actor, SIZES, opset)
    onnx.checker.check_model(graph, full_check=True)
    assert not {"Loop", "Scan", "If"} & {node.op_type for node in graph.graph.node}
    session = open_session(graph.SerializeToString())
    observation, goal = np.asarray(normal(0, 7, 5)), np.asarray(normal(1, 7, 3))
    expected = reference(actor)
    assert difference(session, expected, observation, goal) < 2e-6
    # Actions that differ from row to row: a graph that ignored its inputs would be noticed.
    assert np.ptp(np.asarray(expected(observation, goal)[0]), axis=0).min() > 0.001


def test_branch_scale_adds_no_node_to_a_block(random_module):
    plain, scaled = (
        policy_graph(actor_of(random_module, Architecture(), scale), SIZES).graph.node
        for scale in (1.0, 0.3)
    )
    assert len(scaled) == len(plain) + 1


def test_more_weights_than_a_file_holds_are_refused(random_module, monkeypatch):
    actor = random_module(Actor.init, 5, 3, 2, TorsoSpec(4, 8, 2))
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"the weights take .* GB at most: export with --format"):
        policy_graph(actor, SIZES)


def test_bfloat16_blocks_become_float32(random_module, normal):
    torso = TorsoSpec(4, 8, 2, compute_dtype="bfloat16")
    actor = random_module(Actor.init, *SIZES.values(), torso)
    kinds = {constant.data_type for constant in policy_graph(actor, SIZES).graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


@pytest.mark.parametrize("opset", [16, 999])
def test_opset_below_the_oldest_is_refused(opset, random_module):
    with pytest.raises(UserError, match=f"opset = {opset} is not allowed: .*nearest valid choice"):
        policy_graph(actor_of(random_module, Architecture()), SIZES, opset)


def test_opset_beyond_the_runtime_is_refused(random_module):
    graph = policy_graph(actor_of(random_module, Architecture()), SIZES)
    graph.opset_import[0].version = 999
    version = onnxruntime.__version__
    with pytest.raises(UserError, match=rf"opset = 999 .*onnxruntime {version} goes up to \d\d"):
        session_of(graph.SerializeToString())
