"""Maps frozen features to a goal distribution and to a point in the goal-embedding space."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, qmc

from kilolayer.errors import bad_field
from kilolayer.language.base import Context
from kilolayer.language.fusion import ContextScale, Fusion, patch_positions
from kilolayer.losses.energies import Energy, pairwise
from kilolayer.networks.block import Dense, NormedLayer, TorsoSpec
from kilolayer.networks.stack import Stack
from kilolayer.settings import Count, Settings
from kilolayer.tasks.base import Task
from kilolayer.types import Array, Metrics

LAYERS_PER_BLOCK = 4
# Least deviation as a share of the success radius. Without it, goals at exact cell centres would
# drive the deviations to zero and the density to infinity.
MIN_DEVIATION = 0.2
CANDIDATE_GOALS = 1024  # for the embedding space, outside a maze
SAMPLES = 256  # per Gaussian, to estimate the mass within the success radius


@dataclass(frozen=True)
class HeadSize(Settings):
    """Size of the network, set by the user. depth counts layers, as everywhere in this package.

    components: Gaussians of the mixture. heads: attention heads.
    """

    depth: Count = 8
    width: Count = 128
    components: Count = 8
    heads: Count = 4

    def check(self) -> None:
        if self.depth % LAYERS_PER_BLOCK:
            nearest = max(1, round(self.depth / LAYERS_PER_BLOCK)) * LAYERS_PER_BLOCK
            allowed = f"it must be a multiple of {LAYERS_PER_BLOCK}, the layers of a block"
            raise bad_field("depth", self.depth, allowed, nearest)
        if self.width % self.heads:
            nearest = max(1, round(self.width / self.heads)) * self.heads
            raise bad_field("width", self.width, f"{self.heads} heads must divide it", nearest)


class GaussianMixture(NamedTuple):
    """A mixture of diagonal Gaussians over the goal coordinates that vary, in the goal's unit.

    log_weight `[rows, components]`; mean and deviation `[rows, components, varying]`.
    """

    log_weight: Array
    mean: Array
    deviation: Array

    def log_prob(self, point: Array) -> Array:
        """Log density of `point [rows, varying]`, `[rows]`."""
        z = (point[:, None] - self.mean) / self.deviation
        log_density = -0.5 * jnp.square(z) - jnp.log(self.deviation) - 0.5 * jnp.log(2 * jnp.pi)
        return jax.nn.logsumexp(self.log_weight + log_density.sum(-1), axis=-1)


class GoalScale(eqx.Module):
    """Standardises goals and fills in the coordinates that never vary, such as a cube's height.

    centre: mean of the training goals, `[goal]`. spread: their deviation in the coordinates that
    vary, `[varying]`. least: smallest deviation of a Gaussian, in the goal's unit.
    """

    centre: Array
    spread: Array
    least: Array
    varying: tuple[int, ...] = eqx.field(static=True)

    @staticmethod
    def of(goals: np.ndarray, radius: float) -> "GoalScale":
        """The scale of training goals `[rows, goal]`. A coordinate varies if its deviation exceeds
        a thousandth of the success radius."""
        spread = np.asarray(goals, np.float64).std(0)
        varying = tuple(int(index) for index in np.flatnonzero(spread > 1e-3 * radius))
        return GoalScale(
            jnp.asarray(goals.mean(0), jnp.float32),
            jnp.asarray(spread[list(varying)], jnp.float32),
            jnp.float32(MIN_DEVIATION * radius),
            varying,
        )

    def select_varying(self, goal: Array) -> Array:
        """The coordinates that vary, `[..., goal] -> [..., varying]`."""
        return goal[..., np.array(self.varying)]

    def fill_constant(self, varying: Array) -> Array:
        """The full goal from the coordinates that vary, `[..., varying] -> [..., goal]`."""
        goal = jnp.broadcast_to(self.centre, (*varying.shape[:-1], len(self.centre)))
        return goal.at[..., np.array(self.varying)].set(varying)


class EmbeddingScale(NamedTuple):
    """Mean and deviation of the embeddings of training goals, each `[representation]`."""

    centre: Array
    spread: Array


class GoalHead(eqx.Module):
    """Predicts the goal from the text and the places that the text attends to in the picture.

    A stack over the text alone gives each Gaussian an offset and a weight for each head's place.
    The same words therefore act the same at every place, which lets the head predict goals that
    never occur in training. A stack over text and picture gives weights and deviations, and the
    point in the goal-embedding space of the run's contrastive critic, if it has one.

    words, saying, recipe: the layers over the text. to_goal: from a place in the picture to goal
    coordinates. The fields name the arrays in the files of groundings.
    """

    fusion: Fusion
    words: NormedLayer
    saying: Stack
    recipe: Dense
    to_goal: Dense
    stack: Stack
    certainty: Dense
    point: Dense | None
    components: int = eqx.field(static=True)

    @staticmethod
    def init(
        key: Array, context: Context, size: HeadSize, varying: int, representation: int | None
    ) -> "GoalHead":
        """context: only its shapes are used. varying: number of coordinates that vary."""
        keys = jax.random.split(key, 8)
        width, scale = size.width, 1 / (size.depth // LAYERS_PER_BLOCK)
        torso = TorsoSpec(size.depth, width, LAYERS_PER_BLOCK, branch_scale=scale)

        return GoalHead(
            fusion=Fusion.init(keys[0], context, width, size.heads),
            words=NormedLayer.init(keys[1], context.text.shape[-1], width),
            saying=Stack.init(keys[2], torso),
            recipe=Dense.init(keys[3], width, size.components * (varying + size.heads)),
            to_goal=Dense.init(keys[4], 2, varying),
            stack=Stack.init(keys[5], torso),
            certainty=Dense.init(keys[6], width, size.components * (1 + varying)),
            point=None if representation is None else Dense.init(keys[7], width, representation),
            components=size.components,
        )

    def __call__(
        self, context: Context, goals: GoalScale, embeddings: EmbeddingScale | None
    ) -> tuple[GaussianMixture, Array | None]:
        """The distribution, and the point `[rows, representation]` or None without a critic."""
        mixture, features = self.predict(context, goals)
        if self.point is None or embeddings is None:
            return mixture, None
        return mixture, embeddings.centre + embeddings.spread * self.point(features)

    def predict(self, context: Context, goals: GoalScale) -> tuple[GaussianMixture, Array]:
        """The distribution, and the features that give its certainty, `[rows, width]`."""
        fused, attention = self.fusion.attend(context)
        features = self.stack(fused)
        positions = patch_positions(self.fusion.patches)
        places = self.to_goal(attention @ positions)  # [rows, heads, varying]
        text = self.recipe(self.saying(self.words(context.text)))
        text = text.reshape(len(text), self.components, -1)
        offset, weight = jnp.split(text, [places.shape[-1]], -1)
        # Initially the mean is the average of the heads' places: with weights near zero, the
        # attention would get almost no gradient.
        weight = weight + 1 / self.fusion.heads
        certainty = self.certainty(features).reshape(len(text), self.components, -1)
        mixture = GaussianMixture(
            jax.nn.log_softmax(certainty[..., 0]),
            goals.select_varying(goals.centre) + goals.spread * (offset + weight @ places),
            goals.least + goals.spread * jax.nn.softplus(certainty[..., 1:]),
        )
        return mixture, features


@dataclass(frozen=True)
class HeadSpec:
    """The size of a head and the shapes of its inputs and outputs. varying: see `GoalScale`."""

    size: HeadSize
    text_dim: int
    patches: int
    patch_dim: int
    goal_dim: int
    varying: tuple[int, ...]

    def init(self, representation: int | None = None) -> tuple[GoalHead, ContextScale, GoalScale]:
        """An untrained head and the scales of its inputs and outputs, for the shapes of their
        arrays."""
        patches = jnp.zeros((self.patches, self.patch_dim))
        text, spread = jnp.zeros(self.text_dim), jnp.zeros(len(self.varying))
        context = Context(text[None], patches[None])
        head = GoalHead.init(
            jax.random.key(0), context, self.size, len(self.varying), representation
        )
        features = ContextScale(text, text, patches, jnp.zeros(self.patch_dim))
        scale = GoalScale(jnp.zeros(self.goal_dim), spread, jnp.float32(0), self.varying)
        return head, features, scale

    @staticmethod
    def from_json(values: dict) -> "HeadSpec":
        size, varying = HeadSize(**values["size"]), tuple(values["varying"])
        return HeadSpec(**{**values, "size": size, "varying": varying})


def likelihood_loss(mixture: GaussianMixture, goal: Array) -> Array:
    """Mean negative log likelihood of the goals' varying coordinates `[rows, varying]`, in nats."""
    return -mixture.log_prob(goal).mean()


def nearest_loss(
    energy: Energy, point: Array, embedding: Array, goal: Array, sharpness: float = 1.0
) -> tuple[Array, Metrics]:
    """Cross-entropy of classifying each row's goal among all rows' goals, with energies as logits.

    point, embedding `[rows, representation]`. Rows with the same `goal [rows, goal]` also count as
    correct. sharpness: multiplies the energies.
    """
    energies = sharpness * pairwise(energy, point, embedding)
    same = (goal[:, None] == goal[None]).all(-1)
    correct = jax.nn.logsumexp(jnp.where(same, energies, -jnp.inf), axis=1)
    loss = (jax.nn.logsumexp(energies, axis=1) - correct).mean()
    nearest = jnp.take_along_axis(same, energies.argmax(1)[:, None], axis=1)
    return loss, {"nearest_accuracy": nearest.mean()}


def most_probable_goal(
    task: Task, mixture: GaussianMixture, scale: GoalScale
) -> tuple[Array, Array]:
    """The goal `[rows, goal]` most likely to count as success, and its probability `[rows]`.

    The candidates are the means of the Gaussians, in a maze moved to the centre of the nearest free
    cell. The result is the candidate with the largest mass of the distribution within its success
    radius. This is the mode of the distribution blurred by the radius, so a narrow peak of small
    weight does not win.
    """
    candidates = nearest_free_cell(task, scale.fill_constant(mixture.mean))
    probability = success_mass(task, mixture, scale, candidates)
    best = probability.argmax(1)[:, None]
    goal = jnp.take_along_axis(candidates, best[..., None], axis=1)[:, 0]
    return goal, jnp.take_along_axis(probability, best, axis=1)[:, 0]


def success_mass(
    task: Task, mixture: GaussianMixture, scale: GoalScale, candidates: Array
) -> Array:
    """Mass of the distribution within the success radius of `candidates [rows, candidates, goal]`,
    `[rows, candidates]`. The quasi-random samples are the same in every call."""
    sobol = qmc.Sobol(len(scale.varying), scramble=False).random(2 * SAMPLES)[1 : SAMPLES + 1]
    noise = jnp.asarray(norm.ppf(sobol), jnp.float32)
    samples = mixture.mean[:, :, None] + mixture.deviation[:, :, None] * noise
    goals = scale.fill_constant(samples)[:, None]  # [rows, 1, components, samples, goal]
    close = task.distance(goals, candidates[:, :, None, None]) < task.goal.radius
    return jnp.einsum("rk,rak->ra", jnp.exp(mixture.log_weight), close.mean(-1))


def nearest_free_cell(task: Task, goals: Array) -> Array:
    """The centre of the nearest free cell for goals in a maze; other goals are unchanged.

    `[..., goal] -> same`.
    """
    cells = maze_cells(task)
    if cells is None:
        return goals
    nearest = jnp.linalg.norm(goals[..., None, :] - cells, axis=-1).argmin(-1)
    return cells[nearest]


def maze_cells(task: Task) -> Array | None:
    """The centres of a maze's free cells, `[cells, 2]`; None unless a goal is a position in a maze,
    without other coordinates."""
    if task.maze is None or [c.name for c in task.goal.coordinates] != ["x", "y"]:
        return None
    return jnp.asarray(task.maze.free_cells, jnp.float32)


def candidate_goals(task: Task) -> Array:
    """Candidate goals for the embedding space, `[candidates, goal]`: the free cells of a maze, or
    training goals drawn from the task."""
    cells = maze_cells(task)
    if cells is not None:
        return cells
    return task.sample_goal(jax.random.key(0), CANDIDATE_GOALS, "training")
