"""Does a deep critic see the walls? Critics of several depths learn from one dataset of an ant.

Run from a folder that holds ant_u_maze.npz, with the root of the repository in PYTHONPATH:
kilolayer study results.critic_walls.walls:question --size body --out STUDY

All runs learn from the same steps, so they differ in what the networks express and not in what they
explored. The critic rates recorded steps, state and action, drawn evenly over the free cells, for
the centre of every free cell as the goal. The way is the shortest path over points 1 m apart, from
the point nearest to the ant.
"""

from dataclasses import dataclass

import jax
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist

from kilolayer.analysis.answer import Answer, Table
from kilolayer.analysis.claims import Claim, assess_claims
from kilolayer.analysis.diagnostics import block_diagnostics
from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.groups import mean_text
from kilolayer.analysis.load import Run
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import group_runs
from kilolayer.analysis.value_map import in_walls, map_axes, spearman
from kilolayer.recommendations import recommended
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.tasks.mazes import Maze

POINTS_PER_CELL = 4
STEPS_PER_CELL = 200
DETOUR = 4.0  # m, one cell: by how much the way of the nearer point is longer in a walled-off pair
NEAR = 8.0  # m of way, two cells
MEASURES = {
    "way": (-1.0, 1.0),
    "way, near": (-1.0, 1.0),
    "way, far": (-1.0, 1.0),
    "straight line": (-1.0, 1.0),
    "walled-off pairs ranked right": (0.0, 1.0),
    "effective rank, last block": (0.0, np.inf),
}
PRIMARY = "walled-off pairs ranked right"
BASE = recommended(
    "ant_u_maze",
    seed=10,
    dataset="ant_u_maze.npz",
    width=128,
    batch_size=256,
    initial_discount=None,
    total_steps=400_000,
    update_to_data=0.025,  # 10,000 updates
    num_evaluations=2,
    eval_envs=32,
    tensorboard=False,
)


def ways(points: np.ndarray, spacing: float) -> np.ndarray:
    """Length of the shortest path between free points `[points, 2]`, `[points, points]` in m.

    A step goes to one of the eight neighbours; a diagonal step needs both points beside it, so
    that no path cuts a corner."""
    places = {tuple(place): index for index, place in enumerate(np.round(points / spacing, 3))}
    rows, columns, lengths = [], [], []
    for (x, y), index in places.items():
        for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
            beside = {(x + dx, y), (x, y + dy), (x + dx, y + dy)}
            if all(place in places for place in beside):
                rows.append(index)
                columns.append(places[x + dx, y + dy])
                lengths.append(spacing * np.hypot(dx, dy))
    graph = csr_array((lengths, (rows, columns)), shape=(len(points),) * 2)
    return dijkstra(graph, directed=False)


def ranked_right(value: np.ndarray, way: np.ndarray, line: np.ndarray) -> float:
    """Share of walled-off pairs that the value ranks by the way; ties count one half.

    A pair: one point is nearer to the goal by the straight line, and its way is longer than the
    other's by more than DETOUR. Arrays `[points]`."""
    walled = (line[:, None] < line) & (way[:, None] > way + DETOUR)
    right = np.sign(value - value[:, None]) / 2 + 0.5
    return float(right[walled].mean()) if walled.any() else np.nan


@dataclass(frozen=True)
class Steps:
    """Recorded steps, for all runs the same: observation `[steps, observation]`, action
    `[steps, action]`, x and y in m `[steps, 2]`."""

    observation: np.ndarray
    action: np.ndarray
    position: np.ndarray

    @classmethod
    def read(cls, dataset: str, maze: Maze) -> "Steps":
        with np.load(dataset, allow_pickle=False) as arrays:
            observation, action = arrays["observations"], arrays["actions"]
        cells = maze.cell_of(observation[:, :2])
        generator, rows = np.random.default_rng(0), []
        for cell in np.unique(cells, axis=0):
            inside = np.flatnonzero((cells == cell).all(-1))
            rows.append(generator.choice(inside, STEPS_PER_CELL))
        chosen = np.concatenate(rows)
        return cls(observation[chosen], action[chosen], observation[chosen, :2])


def measure(run: Run) -> dict[str, float]:
    """Each of the MEASURES, the mean over all goals where it is one."""
    maze = run.task.maze
    assert isinstance(maze, Maze)
    steps, found = Steps.read(str(run.config.collection.dataset), maze), []
    spacing = maze.cell_size / POINTS_PER_CELL
    x, y = map_axes(maze, maze.start, POINTS_PER_CELL * max(maze.walls.shape))
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1)[~in_walls(maze, x, y)]
    between, rate = ways(points, spacing), jax.jit(run.agent.rate)
    nearest = cdist(steps.position, points).argmin(-1)
    for goal in maze.free_cells:
        goals = np.broadcast_to(goal.astype(np.float32), (len(steps.action), len(goal)))
        value = rate(run.agent_state, steps.observation, steps.action, goals)
        value = np.asarray(value, np.float64)
        line = np.linalg.norm(steps.position - goal, axis=-1)
        way = between[cdist(goal[None], points).argmin(), nearest]
        near = way <= NEAR
        found.append(
            [
                spearman(value, -way),
                spearman(value[near], -way[near]),
                spearman(value[~near], -way[~near]),
                spearman(value, -line),
                ranked_right(value, way, line),
            ]
        )
    rank = block_diagnostics(run)["state-action encoder"].effective_rank[-1]
    return dict(zip(MEASURES, [*np.nanmean(found, axis=0), rank], strict=True))


def grids(setup: Setup) -> list[Grid]:
    return [setup.grid({"depth": setup.depth_factor})]


def analyse(study: Study) -> Answer:
    found = {
        depth: [measure(run.run) for run in runs]
        for (depth,), runs in group_runs(study.finished, "depth").items()
    }
    by_measure = {
        name: {depth: np.array([row[name] for row in rows]) for depth, rows in found.items()}
        for name in MEASURES
    }
    scores = by_measure[PRIMARY]
    shallow, deep = min(scores), max(scores)
    difference = mean_difference(scores[deep], scores[shallow])
    claim = Claim(
        f"From depth {shallow} to {deep} the share of {PRIMARY} changes by",
        difference.estimate, difference.p, study.failed, margin=0.05,
    )  # fmt: skip
    rows = tuple(
        (str(depth), *(mean_text(by_measure[name][depth], MEASURES[name]) for name in MEASURES))
        for depth in found
    )
    return Answer(
        verdicts=assess_claims([claim]),
        tables=(Table("The critic's geometry", ("depth", *MEASURES), rows),),
        notes=(
            "Rank correlations of the value with the negative way and the negative straight line. "
            f"Near: ways of up to {NEAR:g} m. Means over the seven goals, intervals over seeds.",
        ),
    )


def question() -> Question:
    return Question(
        name="critic-walls",
        text="Does a deep critic see the walls, if all depths learn from the same data?",
        setups={"body": Setup(BASE, (4, 16), 5)},
        grids=grids,
        analyse=analyse,
        required_factor="depth",
    )
