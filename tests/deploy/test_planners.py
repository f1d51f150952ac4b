"""Planners on problems with known answers: a wall, a line, a constant drift."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import dijkstra

from kilolayer.agents.base import TaskSpec
from kilolayer.deploy.planning.build import build_waypoints, connecting_limit
from kilolayer.deploy.planning.planners import Interpolation, Planner, Waypoints
from kilolayer.deploy.planning.proposal import Chunks, draw_chunks, proposal_spec, train_proposal
from kilolayer.deploy.planning.recorded import RecordedSteps, _from_buffer, farthest_points
from kilolayer.errors import UserError
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay import buffer as ring
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.types import Array
from probes import ages_of_episodes, labelled_transitions

SIZE = 5
# A wall at x = 2 that is open at y = 4 alone.
FREE = np.array([(x, y) for x in range(SIZE) for y in range(SIZE) if x != 2 or y == 4], float)


class Oracle(eqx.Module):
    """The log ratio of a perfect critic on a grid: minus the path length, up to `saturation`,
    beyond which it is constant. Observation and goal are places, rounded to cells."""

    distance: Array

    def encode(self, goal: Array) -> Array:
        return goal

    def __call__(self, observation: Array, goal: Array, encoding: Array) -> Array:
        first, second = (jnp.round(each).astype(int) for each in (observation, encoding))
        cells = self.distance
        return -cells[first[..., 0], first[..., 1], second[..., 0], second[..., 1]]


def walled_grid(saturation: float) -> Oracle:
    steps = np.abs(FREE[:, None] - FREE[None]).sum(-1)
    lengths = dijkstra(np.where(steps == 1, 1.0, 0.0))
    distance = np.full((SIZE,) * 4, saturation)
    x, y = FREE.astype(int).T
    distance[x[:, None], y[:, None], x[None], y[None]] = np.minimum(lengths, saturation)
    return Oracle(jnp.asarray(distance, jnp.float32))


def planner_on_grid(slack: float = 1.5, chunk: int = 13) -> Waypoints:
    return build_waypoints(walled_grid(4.0), FREE, FREE, chunk, SilentDisplay(), slack)


def planned(planner: Planner, *rows: Array) -> np.ndarray:
    return np.asarray(jax.jit(lambda planner, *rows: planner.plan(*rows))(planner, *rows))


def test_waypoints_go_around_the_wall() -> None:
    start, goal = jnp.array([[0.0, 0.0], [3.0, 0.0]]), jnp.array([[4.0, 0.0], [4.0, 0.0]])
    planner = planner_on_grid()
    far, near = planned(planner, start, start, goal)
    # The way has 12 steps; the straight line has 4, through the wall.
    path = np.concatenate([start[:1], far])
    assert [2.0, 4.0] in far.tolist()
    moved = np.abs(np.diff(path, axis=0)).sum(-1)
    assert set(moved) <= {0.0, 1.0}
    assert moved.sum() == 12
    np.testing.assert_array_equal(far[-1], [4, 0])
    # A goal next to the start needs no way, whatever the other row does.
    np.testing.assert_array_equal(near, np.tile([4, 0], (13, 1)))


def test_first_waypoint_lies_ahead() -> None:
    """Not the node that the agent stands at: with every new plan it would return there."""
    start = jnp.asarray(FREE, jnp.float32)
    goal = jnp.broadcast_to(jnp.array([4.0, 0.0]), start.shape)
    first = planned(planner_on_grid(), start, start, goal)[:, 0]
    oracle = walled_grid(100.0)

    def steps_left(place: Array) -> np.ndarray:
        return -np.asarray(oracle(jnp.asarray(place), goal, goal))

    moving = (FREE != [4, 0]).any(1)
    assert (steps_left(first)[moving] < steps_left(start)[moving]).all()


def test_unlimited_edges_go_through_the_wall() -> None:
    """Why only confidently near pairs are joined: this critic saturates at 4."""
    start, goal = jnp.array([[0.0, 0.0]]), jnp.array([[4.0, 0.0]])
    plan = planned(planner_on_grid(slack=10.0), start, start, goal)
    np.testing.assert_array_equal(plan[0], np.tile([4, 0], (13, 1)))


def test_chunk_is_the_start_of_the_path() -> None:
    start, goal = jnp.array([[1.0, 3.0]]), jnp.array([[3.0, 3.0]])
    plan = planned(planner_on_grid(chunk=3), start, start, goal)[0].tolist()
    # 1,3 - 1,4 - 2,4 - 3,4 - 3,3: it may begin at the node where the robot stands.
    assert plan in ([[1, 4], [2, 4], [3, 4]], [[1, 3], [1, 4], [2, 4]])


def test_limit_is_the_smallest_that_connects_the_nodes() -> None:
    cost = np.array([[1e-6, 1, 5], [1, 1e-6, 2], [5, 3, 1e-6]])
    # From the second to the third at 2, back at 3.
    assert connecting_limit(cost) == 3


def test_dead_end_node_is_dropped() -> None:
    places = np.arange(21.0)[:, None] * [1.0, 0.0]
    distance = np.abs(places[:, None, 0] - places[None, :, 0])
    distance[20, :20] = 1000

    class Line(Oracle):
        def __call__(self, observation: Array, goal: Array, encoding: Array) -> Array:
            first, second = observation[..., 0].astype(int), encoding[..., 0].astype(int)
            return -self.distance[first, second]

    planner = build_waypoints(Line(jnp.asarray(distance)), places, places, 2, SilentDisplay())
    assert planner.graph.place[:, 0].tolist() == list(range(20))


def test_recording_of_a_motionless_robot_is_refused() -> None:
    with pytest.raises(UserError, match="train longer, or plan with --planner proposal"):
        build_waypoints(walled_grid(4.0), FREE[:1], FREE[:1], 2, SilentDisplay())


def test_interpolation_decodes_to_the_nearest_places() -> None:
    places = jnp.asarray([[x, 0.1] for x in range(9)], jnp.float32)
    twice = jax.tree_util.Partial(lambda place: 2 * place)
    planner = Interpolation(twice, places, twice(places), chunk=4)  # type: ignore[arg-type]
    start, goal = jnp.array([[0.0, 0.0], [8.0, 0.0]]), jnp.array([[8.0, 0.0], [8.0, 0.0]])
    there, stay = planned(planner, jnp.zeros((2, 3)), start, goal)
    np.testing.assert_allclose(there, [[2, 0.1], [4, 0.1], [6, 0.1], [8, 0]])
    np.testing.assert_allclose(stay, [[8, 0.1]] * 3 + [[8, 0]])


def test_chunk_targets_lie_ahead_in_the_same_episode() -> None:
    episode_steps = np.stack([ages_of_episodes([5, 9], 40), ages_of_episodes([7], 40)], -1)
    steps = labelled_transitions(episode_steps)
    recorded = RecordedSteps(
        *map(np.asarray, (steps.observation, steps.achieved_goal, steps.episode_step))
    )
    generator = np.random.default_rng(0)
    chunks = Chunks(chunk=3, interval=2, discount=0.9)
    observation, goal, change = draw_chunks(recorded, chunks, 500, generator)
    (world, time), (same_env, until) = observation.T.astype(int), goal.T.astype(int)
    np.testing.assert_array_equal(same_env, world)
    offset = until - time
    assert (offset >= 1).all()
    np.testing.assert_array_equal(episode_steps[until, world], episode_steps[time, world] + offset)
    np.testing.assert_array_equal(change[..., 0], 0)
    expected = np.minimum([2, 4, 6], offset[:, None])
    np.testing.assert_array_equal(change[..., 1], expected)
    assert len(set(offset.tolist())) > 3


def test_proposal_learns_future_goals() -> None:
    """Environments drift each in a direction of its own, which they sense: after k steps they are k
    times that further on, or at the goal."""
    generator = np.random.default_rng(0)
    angle = generator.uniform(0, 2 * np.pi, 64)
    velocity = np.stack([np.cos(angle), np.sin(angle)], -1)
    place = np.arange(60)[:, None, None] * velocity
    recorded = RecordedSteps(
        np.broadcast_to(velocity, place.shape).astype(np.float32),
        place.astype(np.float32),
        np.broadcast_to(np.arange(60)[:, None], (60, 64)),
    )
    task = TaskSpec(observation_dim=2, action_dim=1, goal_dim=2)
    spec = proposal_spec(task, 2, TorsoSpec(depth=2, width=64, layers_per_block=2))
    # A discount of almost 1: hindsight goals lie at the end, so that none cuts the chunk short.
    chunks = Chunks(chunk=2, interval=3, discount=0.999999)
    proposal = train_proposal(spec, recorded, chunks, SilentDisplay(), 400, 0, 3e-3)
    here = jnp.asarray(place[10], jnp.float32)
    plan = planned(proposal, jnp.asarray(velocity), here, jnp.asarray(place[59]))
    expected = np.stack([place[13], place[16]], 1)
    error = np.abs(plan - expected).mean() / np.abs(expected - place[10][:, None]).mean()
    assert error < 0.25


def test_farthest_points_are_well_spread() -> None:
    line = np.arange(11.0)[:, None] * [1.0, 0.0]
    assert sorted(farthest_points(line, 3).tolist()) == [0, 5, 10]
    assert len(farthest_points(np.ones((7, 2)), 4)) == 1


def test_buffer_is_read_in_time_order(tmp_path) -> None:
    """Three unrolls of four steps in a ring of eight: the newest two are stored."""
    steps = labelled_transitions(np.stack([ages_of_episodes([5], 12)] * 2, -1))
    buffer = ring.init(8, 2, 2, 1, 2)
    for first in (0, 4, 8):
        unroll = jax.tree.map(lambda leaf, first=first: leaf[first : first + 4], steps)
        buffer = ring.insert(buffer, unroll)
    loop = (buffer, jnp.zeros(3), jnp.zeros(2, jnp.uint32), jnp.zeros((), jnp.int32))
    checkpoint.save(tmp_path, 1, {"weights": np.ones(2)}, loop)
    run = SimpleNamespace(directory=SimpleNamespace(checkpoints=tmp_path))
    kept = _from_buffer(run)  # type: ignore[arg-type]
    assert kept is not None
    np.testing.assert_array_equal(kept.observation[:, 0, 1], np.arange(4, 12))
    np.testing.assert_array_equal(kept.episode_step[:, 1], steps.episode_step[4:, 1])
    np.testing.assert_array_equal(kept.remaining[:, 0], [0, 4, 3, 2, 1, 0, 1, 0])
    # A run whose buffer was kept elsewhere, or never.
    checkpoint.save(tmp_path, 2, {"weights": np.ones(2)})
    assert _from_buffer(run) is None  # type: ignore[arg-type]
