"""Teaching: what is visited and labelled, what chunks are taught, and what is written."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.registry import task_spec
from kilolayer.language.base import Features
from kilolayer.language.goal_head import HeadSize
from kilolayer.language.ground_run import Recipe as GroundRecipe
from kilolayer.language.ground_run import ground_run
from kilolayer.language.module import ModuleSpec
from kilolayer.language.module_play import Played, router_use
from kilolayer.language.teach import Lessons, Recipe, Table, Teaching
from kilolayer.language.teach_run import open_module, permuted, teach_run
from kilolayer.networks.mixture import MixtureSpec
from kilolayer.physics.build import build_physics
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.runtime.tensors import named_leaves
from kilolayer.tasks.registry import make_task
from kilolayer.training.evaluate import Episodes
from kilolayer.types import UserError
from probes import BreakingPhysics

MIXTURE = MixtureSpec(width=16, depth=2, layers=1, experts=4, layers_per_block=2)
RECIPE = Recipe(
    steps=8 * 10 * 12, envs=8, updates=2_400, instructions=8, moments=4, teacher_acts=0.25,
    learning_rate=3e-3,
)  # fmt: skip
TASK = make_task("point_u_maze")
GOALS = jnp.array([[1.0, 1.0], [1.0, 3.0], [3.0, 1.0], [3.0, 3.0]])
TABLE = Table(4 * jnp.eye(4), GOALS)
SPEC = ModuleSpec(task_spec(TASK), 4, "dense-operations", MIXTURE, chunk=3, execute=2)


class Toward(eqx.Module):
    """A teacher with an opinion that depends on the goal alone, and is sure of it."""

    gain: jax.Array

    def __call__(self, observation, goal):
        mean = self.gain * (goal - 2)
        return mean, jnp.full_like(mean, -1.0)


def teaching(recipe: Recipe = RECIPE, interval: int = 10) -> Teaching:
    return Teaching(TASK, build_physics(TASK.world, recipe.envs), recipe, interval)


def run(table: Table, rounds: int | None = None):
    lesson = teaching()
    module, teacher = SPEC.init(jax.random.key(0)), Toward(jnp.float32(0.5))
    state = jax.jit(lesson.init)(module, teacher, table, jax.random.key(1))
    step, metrics = jax.jit(lesson.round), []
    for _ in range(rounds or lesson.rounds):
        state, seen = step(state, table)
        metrics.append(seen)
    return state, metrics


@pytest.fixture(scope="module")
def taught():
    return run(TABLE)


def test_the_module_learns_what_the_teacher_would_do(taught):
    """Blind to instructions, what fits actions of +-tanh(0.5) comes no nearer than `blind`."""
    _, metrics = taught
    blind = 2 * np.tanh(0.5) ** 2
    assert metrics[-1]["teach/error"] < metrics[0]["teach/error"] / 5
    assert metrics[-1]["teach/error"] < blind / 20
    assert metrics[-1]["teach/first_error"] < blind / 20


def test_an_environment_that_diverges_teaches_nothing_that_is_not_finite():
    """Past y = 1.6 a position is NaN: its stretch is over there, and the next one starts anew."""
    lesson = dataclasses.replace(teaching(), physics=BreakingPhysics(TASK.world, 1.6, np.nan))
    module, teacher = SPEC.init(jax.random.key(0)), Toward(jnp.float32(0.5))
    table = Table(TABLE.reading, jnp.full((4, 2), 3.0))  # up and to the right
    state = jax.jit(lesson.init)(module, teacher, table, jax.random.key(1))
    step = jax.jit(lesson.round)
    over = []
    for _ in range(3):
        state, metrics = step(state, table)
        over.append(np.asarray(state.over))
        assert all(np.isfinite(value) for value in metrics.values())
    assert np.any(over)
    leaves = jax.tree.leaves((state.lessons, state.module, state.envs))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert not np.asarray(state.lessons.alive)[:24].all()
    assert (np.asarray(state.envs.episode_step)[over[-1]] >= 10).all()


def test_observations_are_standardised_by_what_was_seen_before_the_first_round(taught):
    state, _ = taught
    begun = jax.jit(teaching().init)(
        SPEC.init(jax.random.key(0)), Toward(jnp.float32(0.5)), TABLE, jax.random.key(1)
    )
    for name in ("centre", "spread"):
        np.testing.assert_array_equal(getattr(state.module, name), getattr(begun.module, name))
    seen = np.asarray(state.lessons.observation[:8]).reshape(-1, 4)  # the teacher acted, as before
    assert (np.abs(seen.mean(0) - begun.module.centre) < begun.module.spread).all()
    np.testing.assert_allclose(seen.std(0), begun.module.spread, rtol=0.5)


def test_every_state_is_kept_with_what_the_teacher_would_do_there(taught):
    state, metrics = taught
    lessons = state.lessons
    assert lessons.observation.shape == (12 * 8, 10, 4)
    goals = np.repeat(np.asarray(GOALS)[lessons.example][:, None], 10, 1)
    np.testing.assert_allclose(lessons.action, np.tanh(0.5 * (goals - 2)), atol=1e-6)
    assert np.asarray(lessons.alive).all()
    # Of an episode of 200 steps, twenty stretches; an environment goes on from where the last one
    # led.
    first, second = np.asarray(lessons.observation)[[0, 8]]
    assert np.abs(second[0] - first[-1]).max() < 1.0
    assert (np.asarray(state.envs.episode_step) == 120 + 10 * np.arange(8)).all()
    shares = [float(each["teach/teacher_share"]) for each in metrics]
    np.testing.assert_allclose(shares[:4], [1, 2 / 3, 1 / 3, 0], atol=1e-6)


def test_the_same_seed_gives_the_same_bits(taught, assert_trees_equal):
    assert_trees_equal(run(TABLE)[0], taught[0])


def test_a_chunk_is_taught_what_was_said_at_the_states_that_followed():
    lesson = teaching()
    stretch, time = jnp.meshgrid(jnp.arange(5.0), jnp.arange(10.0), indexing="ij")
    label = jnp.stack([stretch, time], -1)
    alive = jnp.ones((5, 10), bool).at[2, 6:].set(False)
    lessons = Lessons(jnp.arange(5) % 4, jnp.tile(label, 2), label, alive)
    sample = jax.jit(lesson.sample, static_argnums=4)
    batch = sample(lessons, TABLE, jnp.int32(3), jax.random.key(3), 3)
    begun = np.asarray(batch.observation)[:, :2]
    assert set(begun[:, 0]) == {0, 1, 2}
    ahead = begun[:, 1:] + np.arange(3)
    ends = np.where(begun[:, :1] == 2, 6, 10)
    np.testing.assert_array_equal(batch.counts, ahead < ends)
    assert not np.asarray(batch.counts).all()
    at = np.asarray(batch.counts)
    np.testing.assert_array_equal(np.asarray(batch.wanted)[..., 1][at], ahead[at])
    # Four moments of every instruction, in a row.
    np.testing.assert_array_equal(np.asarray(batch.reading).argmax(-1), begun[:, 0] % 4)


def test_permuted_instructions_mean_the_goals_of_others():
    table = Table(jnp.arange(50.0)[:, None], jnp.arange(50.0))
    mixed = permuted(table, 0)
    np.testing.assert_array_equal(mixed.reading, table.reading)
    assert sorted(mixed.goal.tolist()) == table.goal.tolist()
    assert (mixed.goal == table.goal).mean() < 0.2


def test_the_use_of_experts_by_kind_and_phase():
    """Two environments of twelve steps: the first is at its goal from step 8 on, the second
    never."""
    achieved = jnp.stack([jnp.where(jnp.arange(12) < 8, 5.0, 0.0), jnp.full(12, 5.0)], 1)
    achieved = jnp.stack([achieved, 0 * achieved], -1)
    ones = jnp.ones((12, 2), bool)
    qpos = jnp.zeros((12, 2, 2))
    episodes = Episodes(achieved[0], 0 * achieved, achieved, ones, qpos, ~ones)
    # Environment 0 uses expert 0 for four steps, then expert 1; environment 1 expert 2.
    expert = jnp.stack([(jnp.arange(12) >= 4).astype(int), jnp.full(12, 2)], 1)
    use = jax.nn.one_hot(expert, 3)[:, None]
    found = router_use(TASK, Played(episodes, use), ["absolute", "marker"])
    assert found["by_kind"]["absolute"] == [[0.4444, 0.5556, 0]]
    assert found["by_kind"]["marker"] == [[0, 0, 1]]
    # Thirds: three steps of nine in environment 0, four of twelve in environment 1.
    assert found["by_phase"]["first third"] == [[0.4286, 0, 0.5714]]
    assert found["by_phase"]["last third"] == [[0, 0.4286, 0.5714]]
    assert found["by_phase"]["near"] == [[0, 1, 0]]
    assert found["by_phase"]["far"] == [[0.2, 0.2, 0.6]]
    json.dumps(found)


@dataclasses.dataclass
class Letters:
    """Counts letters, and the grey of a picture."""

    print: str = "f"
    name: str = "a/letters"
    reads = sees = True

    def fingerprint(self) -> str:
        return self.print

    def text(self, sentences) -> Features:
        rows = [[each.count(letter) for letter in "aeiou"] for each in sentences]
        return Features(np.array(rows, np.float32))

    def image(self, pictures) -> Features:
        return Features(pictures.mean((1, 2), dtype=np.float32) / 255)


SHORT = dataclasses.replace(RECIPE, steps=1_600, updates=4)


@pytest.fixture(scope="module")
def letters(tiny_run, tmp_path_factory):
    """A grounding of a few updates."""
    out, recipe = tmp_path_factory.mktemp("letters") / "grounding", GroundRecipe(16, updates=2)
    return ground_run(tiny_run.path, Letters(), out, recipe, HeadSize(depth=4, width=8, heads=2))


def teach_letters(grounding, path, out, **options):
    options = {
        "recipe": SHORT,
        "mixture": MIXTURE,
        "examples": 12,
        "display": SilentDisplay(),
    } | options
    return teach_run(path, Letters(), out, grounding=grounding, **options)


def test_a_module_directory_holds_what_was_taught(letters, tiny_run, tmp_path, assert_trees_equal):
    made = teach_letters(letters, tiny_run.path, tmp_path / "module", seed=3)
    opened = open_module(made.path)
    assert_trees_equal((opened.module, opened.reader), (made.module, made.reader))
    assert (opened.spec, opened.encoder) == (made.spec, {"name": "a/letters", "fingerprint": "f"})
    assert opened.reader.spec.text_dim == 5
    details = opened.details
    assert (details["seed"], details["shuffled"], details["examples"]) == (3, False, 12)
    leaves = named_leaves(opened.module).values()
    assert details["counts"]["parameters"] == sum(leaf.size for leaf in leaves)
    load = np.array(details["history"][-1]["router/load"])
    np.testing.assert_allclose(load.sum(-1), 1, atol=1e-3)
    assert set(details["played"]["router"]["by_kind"]) <= {"absolute", "marker", "relative"}
    assert "success" in details["played"]["scores"]
    opened.require_encoder(Letters())
    with pytest.raises(UserError, match="trained on features of the encoder a/letters, and other"):
        opened.require_encoder(Letters("g", "other"))
    with pytest.raises(UserError, match="exists already"):
        teach_letters(letters, tiny_run.path, made.path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "steps = 0 is not allowed"),
        ({"trunk": "moe"}, "trunk = 'moe' is not allowed"),
        ({"examples": 1}, "examples = 1 is not allowed"),
    ],
)
def test_what_cannot_be_taught_is_told_before_any_work(
    changes, sentence, letters, tiny_run, tmp_path
):
    with pytest.raises(UserError, match=sentence):
        teach_letters(letters, tiny_run.path, tmp_path / "module", **changes)
    assert not (tmp_path / "module").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate = 0.0 is not allowed"),
        ({"teacher_acts": 1.5}, r"teacher_acts = 1.5 is not allowed.*is 1"),
        ({"balance_weight": -1.0}, r"balance_weight = -1.0 is not allowed"),
    ],
)
def test_recipes_that_cannot_be_are_told(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(RECIPE, **changes)
