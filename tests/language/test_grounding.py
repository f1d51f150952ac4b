"""Tests for kilolayer.language.grounding: the distribution over goals, training, the directory."""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from kilolayer.agents.crl import Critic
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.language.base import Context, Example, Features
from kilolayer.language.goal_head import (
    GaussianMixture,
    GoalScale,
    HeadSize,
    likelihood_loss,
    most_probable_goal,
    nearest_loss,
    success_mass,
)
from kilolayer.language.grounding import open_grounding
from kilolayer.language.train_grounding import Recipe, Source, fit
from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.registry import make_task

MAZE = make_task("point_u_maze")
ARM = make_task("arm_push_easy")
PLANE = GoalScale(jnp.zeros(2), jnp.ones(2), jnp.float32(0.1), (0, 1))


class Words:
    """A frozen encoder of sentences of two letters, `salt` standing for its parameters."""

    name = "words"
    encodes_text, encodes_images = True, False

    def __init__(self, salt: int = 0):
        self.table = np.random.default_rng(salt).normal(size=(26, 8)).astype(np.float32)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.table.tobytes()).hexdigest()

    def text(self, sentences) -> Features:
        rows = [[ord(letter) - ord("a") for letter in sentence] for sentence in sentences]
        return Features(self.table[np.array(rows)].reshape(len(rows), -1))


def mixture_of(weights, means, deviations) -> GaussianMixture:
    """One row."""
    return GaussianMixture(
        *(jnp.asarray(part, jnp.float32)[None] for part in (np.log(weights), means, deviations))
    )


def test_likelihood_loss_matches_hand_computation():
    mixture = mixture_of([0.25, 0.75], [[0, 0], [2, 1]], [[1, 1], [1, 0.5]])
    densities = norm.pdf(1) * norm.pdf(1), norm.pdf(-1) * norm.pdf(0) / 0.5
    expected = -np.log(0.25 * densities[0] + 0.75 * densities[1])
    assert likelihood_loss(mixture, jnp.array([[1.0, 1.0]])) == pytest.approx(expected, rel=1e-5)


def test_most_probable_goal_has_the_largest_mass_and_is_a_free_cell():
    """A peak of weight 0.1 has the greatest density but little mass; the rest lies in a wall of
    the U, beside the cell (1, 1)."""
    spike, broad = [3.0, 2.0], [1.6, 1.1]
    mixture = mixture_of([0.1, 0.9], [spike, broad], [[0.1, 0.1], [0.3, 0.3]])
    assert mixture.log_prob(jnp.array([spike])) > mixture.log_prob(jnp.array([broad]))
    assert MAZE.maze.walls[tuple(MAZE.maze.cell_of(np.array(broad)))]
    goal, _ = most_probable_goal(MAZE, mixture, PLANE)
    np.testing.assert_array_equal(goal, [[1, 1]])


def test_confidence_is_the_mass_within_the_radius():
    """For an isotropic Gaussian, the Rayleigh distribution: 1 - exp(-r^2 / (2 s^2))."""
    mixture = mixture_of([0.5, 0.5], [[1, 1], [3, 3]], [[0.5, 0.5], [0.1, 0.1]])
    mass = success_mass(MAZE, mixture, PLANE, jnp.array([[[1.0, 1.0], [3.0, 3.0], [9.0, 9.0]]]))
    radius = MAZE.goal.radius
    expected = [0.5 * (1 - np.exp(-(radius**2) / (2 * 0.25))), 0.5, 0]
    np.testing.assert_allclose(mass[0], expected, atol=0.01)


def test_constant_goal_coordinates_are_copied():
    goals = np.array([[0.1, 0.5, 0.02], [0.2, 0.7, 0.02]])
    scale = GoalScale.of(goals, ARM.goal.radius)
    assert scale.varying == (0, 1)
    np.testing.assert_allclose(scale.spread, [0.05, 0.1], rtol=1e-6)
    mixture = mixture_of([1.0], [[0.12, 0.6]], [[0.01, 0.01]])
    goal, confidence = most_probable_goal(ARM, mixture, scale)
    np.testing.assert_allclose(goal[0], [0.12, 0.6, 0.02], rtol=1e-6)
    assert confidence[0] == 1


def test_nearest_loss_matches_hand_computation():
    """Two rows with the same goal are both correct for each other."""
    point = jnp.array([[0.0], [0.0], [3.0]])
    embedding = jnp.array([[1.0], [1.0], [3.0]])
    goal = jnp.array([[0.0], [0.0], [1.0]])
    loss, metrics = nearest_loss("euclidean", point, embedding, goal)
    near = np.log(2 * np.exp(-1) + np.exp(-3)) - np.log(2 * np.exp(-1))
    own = np.log(2 * np.exp(-2) + 1)
    assert loss == pytest.approx((2 * near + own) / 3, rel=1e-5)
    assert metrics["nearest_accuracy"] == 1


def toy_examples(count: int, seed: int) -> list[Example]:
    """Sentences of two letters, one for each goal."""
    places = [("aa", (1, 2)), ("ab", (1, 3)), ("bb", (3, 2)), ("cb", (3, 1))]
    chosen = np.random.default_rng(seed).integers(len(places), size=count)
    return [
        Example(word, (), tuple(map(float, goal)), "absolute", "t", "", "seen")
        for word, goal in (places[index] for index in chosen)
    ]


def trained(critic: Critic):
    encoder, examples = Words(), toy_examples(256, 0)
    text = encoder.text([example.sentence for example in examples]).pooled
    context = Context(text, np.zeros((256, 1, 2), np.float32))
    source = Source(run_config(task="point_u_maze"), critic, "euclidean")
    recipe = Recipe(updates=300, batch_size=32, learning_rate=1e-2)
    size = HeadSize(depth=4, width=16, components=3, heads=2)
    return fit(source, encoder, examples, context, recipe, size, 0, SilentDisplay())


@pytest.fixture(scope="module")
def grounding():
    torso = TorsoSpec(depth=4, width=32)
    keys = jax.random.split(jax.random.key(1))
    critic = Critic(Encoder.init(keys[0], 6, 16, torso), Encoder.init(keys[1], 2, 16, torso))
    return trained(critic)


def context_of(*sentences: str) -> Context:
    return Context(Words().text(sentences).pooled, np.zeros((len(sentences), 1, 2), np.float32))


def test_training_predicts_the_goals_of_sentences(grounding):
    found = grounding.predict(context_of("aa", "cb", "ab"))
    np.testing.assert_array_equal(found.goal, [[1, 2], [3, 1], [1, 3]])
    np.testing.assert_array_equal(found.embedded_goal, [[1, 2], [3, 1], [1, 3]])
    assert found.confidence.min() > 0.8
    assert grounding.details["held_out"]["right"] == 1


def test_unknown_sentences_get_a_goal_and_are_unfamiliar(grounding):
    grounding = dataclasses.replace(
        grounding, arrays=dataclasses.replace(grounding.arrays, threshold=jnp.float32(0.9))
    )
    found = grounding.predict(context_of("zq", "bb"))
    assert found.familiar.tolist() == [False, True]
    assert found.familiarity[1] == pytest.approx(1, abs=1e-5)
    assert np.isfinite(found.goal).all()
    assert 0 <= found.confidence.min() <= found.confidence.max() <= 1
    assert grounding.nearest_sentences(context_of("bb"), 2)[0][0][0] == "bb"


def test_saved_grounding_opens_unchanged(grounding, tmp_path, assert_trees_equal):
    saved = grounding.save(tmp_path / "g")
    opened = open_grounding(saved.path, Words())
    assert_trees_equal(opened.arrays, grounding.arrays)
    assert (opened.sentences, opened.size) == (grounding.sentences, grounding.size)
    context = context_of("ab", "qq")
    assert_trees_equal(opened.predict(context), grounding.predict(context))


def test_another_encoder_is_refused(grounding, tmp_path):
    saved = grounding.save(tmp_path / "g")
    with pytest.raises(UserError, match="is not the one that"):
        open_grounding(saved.path, Words(salt=1))


def test_another_task_is_refused(grounding):
    grounding.require_task(MAZE)
    with pytest.raises(UserError, match="point_u_maze and this is arm_push_easy"):
        grounding.require_task(ARM)


@pytest.mark.parametrize(
    ("field", "value", "nearest"), [("depth", 6, 8), ("width", 30, 32), ("components", 0, 1)]
)
def test_invalid_head_sizes_are_refused(field, value, nearest):
    with pytest.raises(UserError, match=f"{field} = {value} .* nearest valid choice is {nearest}"):
        dataclasses.replace(HeadSize(), **{field: value})
