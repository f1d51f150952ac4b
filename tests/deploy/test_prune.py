"""Pruning: which blocks go, which point is taken, and what is written."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.api import prune
from kilolayer.deploy.policy import open_policy
from kilolayer.deploy.score import NEW_EPISODES, Scorer, compare_paired
from kilolayer.deploy.smaller import prune as module
from kilolayer.deploy.smaller.influence import (
    Visited,
    block_influence,
    greedy,
    one_shot,
    visited_states,
    without_each,
)
from kilolayer.deploy.smaller.prune import Point, SelectionRule, choose, point_counts
from kilolayer.errors import UserError
from kilolayer.networks.actor import Actor
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.networks.surgery import select_blocks
from kilolayer.training.evaluate import Episodes

# As in test_distil.py, so that the teacher's scoring compiles once for both.
EPISODES = 8


def test_one_shot_keeps_the_most_influential_blocks_in_order():
    kept = one_shot(np.array([0.3, 0.1, 0.2]))
    assert kept == [[0, 1, 2], [0, 2], [0]]
    assert without_each([4, 7]) == [[7], [4]]


def test_points_range_from_all_blocks_to_one():
    assert point_counts(4) == [4, 3, 2, 1]
    counts = point_counts(256)
    assert (counts[0], counts[-1], len(counts)) == (256, 1, 17)


def point(blocks: int, score: float, latency: float = 1.0, healed: bool = False) -> Point:
    return Point("greedy", list(range(blocks)), healed, 0.0, latency, {"time_at_goal": score})


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (SelectionRule(0.95), 1),
        (SelectionRule(0.9), 3),
        (SelectionRule(1.0), 0),
        (SelectionRule(target_latency=3.0), 1),
        (SelectionRule(target_latency=2.5), 3),
        (SelectionRule(target_latency=1.0), 4),
    ],
)
def test_choose_follows_the_selection_rule(wish, expected):
    points = [
        point(4, 100, 4.0),
        point(3, 96, 3.0),
        point(2, 80, 2.0),
        point(2, 92, 2.0, healed=True),
        point(1, 10, 1.0),
    ]
    assert choose(points, wish) == expected


def test_policy_without_a_score_cannot_be_pruned():
    with pytest.raises(UserError, match="never reaches its goal"):
        choose([point(2, 0.0), point(1, 0.0)], SelectionRule())


@pytest.fixture
def with_sleeper(random_module, normal) -> tuple[Actor, Visited]:
    """An actor of four blocks, whose block 2 does nothing, and some states."""
    torso = TorsoSpec(depth=8, width=8, layers_per_block=2)
    actor = random_module(Actor.init, 3, 2, 2, torso)
    stack = actor.encoder.stack
    *others, last = stack.blocks.layers
    # Its norm's scale and offset are zero, and with them what the branch adds.
    last = dataclasses.replace(last, scale=last.scale.at[2].set(0), offset=last.offset.at[2].set(0))
    blocks = dataclasses.replace(stack.blocks, layers=(*others, last))
    stack = dataclasses.replace(stack, blocks=blocks)
    encoder = dataclasses.replace(actor.encoder, stack=stack)
    actor = dataclasses.replace(actor, encoder=encoder)
    return actor, Visited(normal(2, 16, 3), normal(3, 16, 2))


def test_identity_block_has_no_influence(with_sleeper):
    actor, visited = with_sleeper
    influence = block_influence(actor, visited)
    for measure in influence:
        assert measure.shape == (4,)
        assert measure[2] == pytest.approx(0, abs=1e-6)
        assert (np.delete(measure, 2) > 1e-4).all()


def test_stream_influence_matches_hand_computation(with_sleeper):
    actor, visited = with_sleeper
    before = actor.encoder.embed(jnp.concatenate(visited, -1))
    after = select_blocks(actor.encoder.stack, [0])(before)
    dot, lengths = (before * after).sum(-1), [jnp.linalg.norm(x, axis=-1) for x in (before, after)]
    influence = block_influence(actor, visited)
    assert influence.cosine[0] == pytest.approx(
        1 - float((dot / lengths[0] / lengths[1]).mean()), rel=1e-4
    )
    change = jnp.linalg.norm(after - before, axis=-1) / lengths[0]
    assert influence.norm[0] == pytest.approx(float(change.mean()), rel=1e-4)


def test_greedy_removes_identity_blocks_first(with_sleeper):
    kept = greedy(*with_sleeper, lambda done, total: None)
    assert kept[:2] == [[0, 1, 2, 3], [0, 1, 3]]
    assert [len(each) for each in kept] == [4, 3, 2, 1]


def test_visited_states_have_commanded_and_hindsight_goals(tiny_run):
    policy = open_policy(tiny_run.path)
    visited = visited_states(policy, 64, seed=0)
    assert visited.observation.shape == (64, 4)
    assert np.isfinite(visited.goal).all()
    # Those told are drawn in the maze's cells, few times over; those reached are all different.
    distinct = len(np.unique(np.asarray(visited.goal), axis=0))
    assert 20 < distinct <= 64


@pytest.fixture(scope="module")
def pruned(tiny_run, tmp_path_factory) -> module.Pruned:
    out = tmp_path_factory.mktemp("pruned") / "policy"
    return prune(
        tiny_run.path,
        target_latency=1e9,
        heal=3_200,
        episodes=EPISODES,
        out=out,
        progress=False,
    )


@pytest.mark.slow
def test_the_curve_has_every_count_with_and_without_healing(pruned):
    points = [(each.order, each.blocks, each.healed) for each in pruned.curve.points]
    assert points == [("greedy", 2, False), ("greedy", 1, False), ("greedy", 1, True)]
    whole = pruned.curve.points[0]
    assert whole.divergence == pytest.approx(0, abs=1e-6)
    assert all(each.latency > 0 for each in pruned.curve.points)


def test_written_policy_is_the_chosen_point(pruned, tiny_run, normal):
    chosen = pruned.curve.points[pruned.curve.chosen]
    opened = open_policy(pruned.policy.path)
    assert opened.method == "prune"
    assert opened.spec.torso.depth == 4 * chosen.blocks
    assert opened.details["kept"] == chosen.kept
    if not chosen.healed:
        expected = select_blocks(open_policy(tiny_run.path).agent_state, chosen.kept)
        observation, goal = normal(0, 3, 4), normal(1, 3, 2)
        np.testing.assert_allclose(
            opened.agent_state(observation, goal)[0], expected(observation, goal)[0], rtol=1e-5
        )
    stored = json.loads((opened.path / "prune.json").read_text())
    assert stored["points"][stored["chosen"]]["kept"] == chosen.kept


def test_chosen_point_is_scored_on_new_episodes(pruned, tiny_run):
    curve, opened = pruned.curve, open_policy(pruned.policy.path)
    whole = open_policy(tiny_run.path)
    chose, fresh = (
        Scorer(whole.task, whole.config, EPISODES, index=index) for index in (0, NEW_EPISODES)
    )
    assert not np.array_equal(chose.start.goal, fresh.start.goal)
    # Both are those of the same fresh episodes, which the policy written plays again.
    assert (
        opened.details["scores"]
        == curve.fresh.scores
        == fresh.scores(opened.agent, opened.agent_state)
    )
    assert opened.details["teacher_scores"] == fresh.scores(whole.agent, whole.agent_state)
    change = curve.fresh.change
    expected = curve.fresh.scores["time_at_goal"] - curve.fresh.baseline["time_at_goal"]
    assert (change.value, change.seeds) == (pytest.approx(expected), EPISODES)


def test_score_change_is_paired_by_episode(tiny_run):
    """Episodes far apart from each other: the change of each is 1, so its interval has no width."""
    task = open_policy(tiny_run.path).task
    at_goal = np.arange(200)[:, None] < np.array([10, 100])
    later = np.arange(200)[:, None] < np.array([11, 101])

    def episodes(close):
        goal = np.zeros((200, 2, 2), np.float32)
        achieved = np.repeat(np.where(close, 0.0, 9.0)[..., None], 2, -1).astype(np.float32)
        alive = np.ones((200, 2), bool)
        return Episodes(goal[0], goal, achieved, alive, np.zeros((200, 2, 2)), ~alive)

    change = compare_paired(task, episodes(later), episodes(at_goal)).change
    assert (change.value, change.low, change.high, change.seeds) == (1, 1, 1, 2)


def test_the_picture_is_drawn(pruned):
    assert (pruned.policy.path / "prune.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target_latency": 1e-6}, r"target_latency = 1e-06 ms .*smallest latency is .* of 2"),
        ({"keep_score": 1.5}, "keep_score = 1.5 is not allowed"),
        ({"target_latency": -1.0}, "target_latency = -1.0 is not allowed"),
        ({"episodes": 1}, "episodes = 1 is not allowed: an interval needs at least two"),
        ({"heal": -1}, "heal = -1 is not allowed.* choice is 0"),
        ({"heal": 2**31}, "heal = .* not allowed.* is 2147483647"),
    ],
)
def test_invalid_pruning_is_refused(options, sentence, tiny_run, tmp_path):
    with pytest.raises(UserError, match=sentence):
        prune(tiny_run.path, **options, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_single_block_cannot_be_removed(tiny_run, tmp_path):
    whole = open_policy(tiny_run.path)
    spec = module.pruned_spec(whole.spec, 1)
    actor = select_blocks(whole.agent_state, [0])
    one = dataclasses.replace(whole, spec=spec, agent_state=actor).save(tmp_path / "one")
    with pytest.raises(UserError, match="single block"):
        prune(one.path, progress=False)
