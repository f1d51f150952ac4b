"""Training of action modules: the aggregated dataset, the targets of chunks, the directory."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draws import recorded_draws
from kilolayer.agents.registry import task_spec
from kilolayer.errors import UserError
from kilolayer.language.base import Features
from kilolayer.language.dagger import DAgger, Dataset, Instructions, Recipe
from kilolayer.language.goal_head import HeadSize
from kilolayer.language.module import ModuleSpec
from kilolayer.language.train_grounding import Recipe as GroundingRecipe
from kilolayer.language.train_grounding import train_grounding
from kilolayer.language.train_module import (
    mean_gates,
    open_module,
    permute_goals,
    train_module,
)
from kilolayer.networks.mixture import MixtureSpec
from kilolayer.physics.build import build_physics
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.runtime.tensors import named_leaves
from kilolayer.tasks.registry import make_task
from kilolayer.training.evaluate import Episodes
from probes import BreakingPhysics

MIXTURE = MixtureSpec(width=16, depth=2, layers=1, experts=4, layers_per_block=2)
RECIPE = Recipe(
    steps=8 * 10 * 12, envs=8, updates=2_400, instructions=8, moments=4, teacher_acts=0.25,
    learning_rate=3e-3,
)  # fmt: skip
TASK = make_task("point_u_maze")
GOALS = jnp.array([[1.0, 1.0], [1.0, 3.0], [3.0, 1.0], [3.0, 3.0]])
INSTRUCTIONS = Instructions(4 * jnp.eye(4), GOALS)
SPEC = ModuleSpec(task_spec(TASK), 4, "dense-operations", MIXTURE, chunk=3, execute=2)


class Toward(eqx.Module):
    """A teacher whose action depends only on the goal, with a small deviation."""

    gain: jax.Array

    def __call__(self, observation, goal):
        mean = self.gain * (goal - 2)
        return mean, jnp.full_like(mean, -1.0)


def teacher() -> Toward:
    return Toward(jnp.float32(0.5))


def dagger_of(recipe: Recipe = RECIPE, interval: int = 10) -> DAgger:
    return DAgger(TASK, build_physics(TASK.world, recipe.envs), recipe, interval)


def initial_state(dagger: DAgger, instructions: Instructions):
    module = SPEC.init(jax.random.key(0))
    return jax.jit(dagger.init)(module, teacher(), instructions, jax.random.key(1))


def train():
    dagger = dagger_of()
    state, step, history = initial_state(dagger, INSTRUCTIONS), jax.jit(dagger.round), []
    for _ in range(dagger.rounds):
        state, metrics = step(state, teacher(), INSTRUCTIONS)
        history.append(metrics)
    return state, history


@pytest.fixture(scope="module")
def trained():
    return train()


def test_module_imitates_the_teacher(trained):
    """Without instructions the error on actions of +-tanh(0.5) cannot fall below `blind`."""
    _, metrics = trained
    blind = 2 * np.tanh(0.5) ** 2
    assert metrics[-1]["teach/error"] < metrics[0]["teach/error"] / 5
    assert metrics[-1]["teach/error"] < blind / 20
    assert metrics[-1]["teach/first_error"] < blind / 20


def test_diverging_environments_add_only_finite_data():
    """Past y = 1.6 a position is NaN: the segment ends there, and the next starts with a reset."""
    dagger = dataclasses.replace(dagger_of(), physics=BreakingPhysics(TASK.world, 1.6, np.nan))
    goal = jnp.full((4, 2), 3.0)  # up and to the right
    instructions = Instructions(INSTRUCTIONS.embedding, goal)
    state, step = initial_state(dagger, instructions), jax.jit(dagger.round)
    terminated = []
    for _ in range(3):
        state, metrics = step(state, teacher(), instructions)
        terminated.append(np.asarray(state.terminated))
        assert all(np.isfinite(value) for value in metrics.values())
    assert np.any(terminated)
    leaves = jax.tree.leaves((state.dataset, state.module, state.envs))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert not np.asarray(state.dataset.alive)[:24].all()
    assert (np.asarray(state.envs.episode_step)[terminated[-1]] >= 10).all()


def test_observations_are_standardised_before_the_first_round(trained):
    state, _ = trained
    initial = initial_state(dagger_of(), INSTRUCTIONS)
    for name in ("centre", "spread"):
        np.testing.assert_array_equal(getattr(state.module, name), getattr(initial.module, name))
    # The teacher acts in the first round, as it does in `init`.
    observations = np.asarray(state.dataset.observation[:8]).reshape(-1, 4)
    difference = np.abs(observations.mean(0) - initial.module.centre)
    assert (difference < initial.module.spread).all()
    np.testing.assert_allclose(observations.std(0), initial.module.spread, rtol=0.5)


def test_dataset_labels_every_state_with_the_action_of_the_teacher(trained):
    state, metrics = trained
    dataset = state.dataset
    assert dataset.observation.shape == (12 * 8, 10, 4)
    goals = np.repeat(np.asarray(GOALS)[dataset.instruction][:, None], 10, 1)
    np.testing.assert_allclose(dataset.action, np.tanh(0.5 * (goals - 2)), atol=1e-6)
    assert np.asarray(dataset.alive).all()
    # An episode of 200 steps has twenty segments; a segment starts where the last one ended.
    first, second = np.asarray(dataset.observation)[[0, 8]]
    assert np.abs(second[0] - first[-1]).max() < 1.0
    assert (np.asarray(state.envs.episode_step) == 120 + 10 * np.arange(8)).all()
    shares = [float(each["teach/teacher_share"]) for each in metrics]
    np.testing.assert_allclose(shares[:4], [1, 2 / 3, 1 / 3, 0], atol=1e-6)


def test_the_same_seed_gives_the_same_bits(trained, assert_trees_equal):
    assert_trees_equal(train()[0], trained[0])


def test_target_of_a_chunk_is_the_actions_of_the_following_steps():
    segment, time = jnp.meshgrid(jnp.arange(5.0), jnp.arange(10.0), indexing="ij")
    label = jnp.stack([segment, time], -1)
    alive = jnp.ones((5, 10), bool).at[2, 6:].set(False)
    dataset = Dataset(jnp.arange(5) % 4, jnp.tile(label, 2), label, alive)
    sample = jax.jit(dagger_of().sample, static_argnums=4)
    batch = sample(dataset, INSTRUCTIONS, jnp.int32(3), jax.random.key(3), 3)
    first = np.asarray(batch.observation)[:, :2]
    assert set(first[:, 0]) == {0, 1, 2}
    steps = first[:, 1:] + np.arange(3)
    ends = np.where(first[:, :1] == 2, 6, 10)
    mask = np.asarray(batch.mask)
    np.testing.assert_array_equal(mask, steps < ends)
    assert not mask.all()
    np.testing.assert_array_equal(np.asarray(batch.target)[..., 1][mask], steps[mask])
    # Four states of every instruction are consecutive rows.
    np.testing.assert_array_equal(np.asarray(batch.embedding).argmax(-1), first[:, 0] % 4)


def test_permute_goals_assigns_other_goals():
    instructions = Instructions(jnp.arange(50.0)[:, None], jnp.arange(50.0))
    permuted = permute_goals(instructions, 0)
    np.testing.assert_array_equal(permuted.embedding, instructions.embedding)
    assert sorted(permuted.goal.tolist()) == instructions.goal.tolist()
    assert (permuted.goal == instructions.goal).mean() < 0.2


def test_mean_gates_by_kind_and_phase():
    """Two environments of twelve steps: the first is at its goal from step 8 on, the second
    never."""
    achieved = jnp.stack([jnp.where(jnp.arange(12) < 8, 5.0, 0.0), jnp.full(12, 5.0)], 1)
    achieved = jnp.stack([achieved, 0 * achieved], -1)
    ones = jnp.ones((12, 2), bool)
    qpos = jnp.zeros((12, 2, 2))
    episodes = Episodes(achieved[0], 0 * achieved, achieved, ones, qpos, ~ones)
    # Environment 0 uses expert 0 for four steps, then expert 1; environment 1 expert 2.
    expert = jnp.stack([(jnp.arange(12) >= 4).astype(int), jnp.full(12, 2)], 1)
    gates = jax.nn.one_hot(expert, 3)[:, None]
    found = mean_gates(TASK, episodes, gates, ["absolute", "marker"])
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
    encodes_text = encodes_images = True

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
    out, recipe = tmp_path_factory.mktemp("letters") / "grounding", GroundingRecipe(16, updates=2)
    size = HeadSize(depth=4, width=8, heads=2)
    return train_grounding(tiny_run.path, Letters(), out, recipe, size)


def train_on_letters(grounding, path, out, **options):
    options = {
        "recipe": SHORT,
        "mixture": MIXTURE,
        "examples": 12,
        "display": SilentDisplay(),
    } | options
    return train_module(path, Letters(), out, grounding=grounding, **options)


def test_a_grounding_and_a_module_of_one_seed_share_no_random_key(tiny_run, tmp_path):
    size = HeadSize(depth=4, width=8, heads=2)
    with recorded_draws() as record:
        grounding = train_grounding(
            tiny_run.path, Letters(), tmp_path / "g", GroundingRecipe(16, updates=2), size, seed=3
        )
        train_on_letters(grounding, tiny_run.path, tmp_path / "module", seed=3)
        record.assert_independent()


def test_saved_module_opens_unchanged(letters, tiny_run, tmp_path, assert_trees_equal):
    made = train_on_letters(letters, tiny_run.path, tmp_path / "module", seed=3)
    opened = open_module(made.path)
    assert_trees_equal(
        (opened.module, opened.instruction_encoder), (made.module, made.instruction_encoder)
    )
    assert (opened.spec, opened.encoder) == (made.spec, {"name": "a/letters", "fingerprint": "f"})
    assert opened.instruction_encoder.spec.text_dim == 5
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
        train_on_letters(letters, tiny_run.path, made.path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trunk": "moe"}, "trunk = 'moe' is not allowed"),
        ({"examples": 1}, "examples = 1 is not allowed"),
    ],
)
def test_invalid_options_are_refused_before_any_work(
    changes, sentence, letters, tiny_run, tmp_path
):
    with pytest.raises(UserError, match=sentence):
        train_on_letters(letters, tiny_run.path, tmp_path / "module", **changes)
    assert not (tmp_path / "module").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "steps = 0 is not allowed"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0 is not allowed"),
        ({"teacher_acts": 1.5}, r"teacher_acts = 1.5 is not allowed.*is 1"),
        ({"balance_weight": -1.0}, r"balance_weight = -1.0 is not allowed"),
    ],
)
def test_invalid_recipes_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(RECIPE, **changes)
