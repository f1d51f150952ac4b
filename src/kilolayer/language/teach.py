"""Trains an action module by imitation of a deep policy, on states that the module visits.

As in DAgger (arXiv 1011.0686), the module acts, the teacher labels every state with its action, and
all states are kept. The teacher gets the true goal; the module gets the reading of an instruction
that means this goal. The target of a chunk is the teacher's actions in the states visited from
there on.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.language.module import ActionModule
from kilolayer.networks.actor import Gaussian, unsquash
from kilolayer.networks.mixture import RoutingStatistics
from kilolayer.physics.base import Physics
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import continue_episodes, step_episodes
from kilolayer.training.rollout import EnvState, reset
from kilolayer.types import Array, Metrics, bad_field

LEAST_SPREAD = 1e-3  # least deviation of an observation coordinate, since some never change

# A pytree: (observation [rows, observation], goal [rows, goal]) -> its action distribution
Teacher = Callable[[Array, Array], Gaussian]


@dataclass(frozen=True)
class Recipe:
    """Settings of the training.

    steps: environment steps over all environments. updates: gradient steps in total; the learning
    rate falls to zero on a cosine schedule. instructions: instructions per batch. moments: states
    per instruction in a batch. teacher_acts: share of the rounds after which the teacher no longer
    acts; until then, the number of environments in which it acts falls from all to none.
    balance_weight, z_weight: weights of the router losses (arXiv 2101.03961, section 2.2;
    2202.08906, section 3.3). Raises UserError for values out of range.
    """

    steps: int = 400_000
    envs: int = 64
    updates: int = 8_000
    instructions: int = 32
    moments: int = 8
    learning_rate: float = 3e-3
    teacher_acts: float = 0.3
    balance_weight: float = 0.01
    z_weight: float = 0.001

    def __post_init__(self) -> None:
        for field in ("steps", "envs", "updates", "instructions", "moments"):
            if getattr(self, field) < 1:
                raise bad_field(field, getattr(self, field), "it must be at least 1", 1)
        if not self.learning_rate > 0:
            raise bad_field("learning_rate", self.learning_rate, "it must be above 0", 3e-3)
        if not 0 <= self.teacher_acts <= 1:
            nearest = float(self.teacher_acts > 1)
            raise bad_field("teacher_acts", self.teacher_acts, "it must lie in [0, 1]", nearest)
        for field in ("balance_weight", "z_weight"):
            if getattr(self, field) < 0:
                raise bad_field(field, getattr(self, field), "it must be 0 or more", 0.0)


class Table(NamedTuple):
    """The examples: their readings `[examples, reading]` and goals `[examples, goal]`."""

    reading: Array
    goal: Array


class Lessons(eqx.Module):
    """The training data, allocated for all rounds. A stretch is a time in which one instruction is
    followed.

    example `[stretches]`: index of the example. observation `[stretches, time, observation]`.
    action: the teacher's action, `[stretches, time, action]`. alive `[stretches, time]`: whether
    the episode had not terminated before.
    """

    example: Array
    observation: Array
    action: Array
    alive: Array


class TeachState(eqx.Module):
    """The state between two rounds.

    teacher: constant; part of the state so that one compiled program serves every teacher of the
    same shape. over `[envs]`: whether the episode has terminated.
    """

    module: ActionModule
    teacher: Teacher
    moments: Any
    envs: EnvState
    over: Array
    lessons: Lessons
    rounds: Array
    key: Array


@dataclass(frozen=True, eq=False)
class Teaching:
    """Training in rounds. In a round, each environment follows its own instruction for `interval`
    control steps, then the module is updated.

    physics: for `recipe.envs` environments. An environment resets only if its episode has
    terminated or has no time for another instruction. Otherwise an instruction starts where the
    last one ended.
    """

    task: Task
    physics: Physics
    recipe: Recipe
    interval: int

    @property
    def rounds(self) -> int:
        return -(-self.recipe.steps // (self.recipe.envs * self.interval))

    @property
    def updates_per_round(self) -> int:
        return -(-self.recipe.updates // self.rounds)

    @property
    def optimiser(self) -> optax.GradientTransformation:
        updates = self.rounds * self.updates_per_round
        return network_optimiser(optax.cosine_decay_schedule(self.recipe.learning_rate, updates))

    def init(self, module: ActionModule, teacher: Teacher, table: Table, key: Array) -> TeachState:
        """The state before the first round.

        The environments' episode steps are spread over an episode. One round of acting gives the
        mean and deviation that standardise the observations.
        """
        task, envs = self.task, self.recipe.envs
        env_key, look_key, key = jax.random.split(key, 3)
        goal = table.goal[jnp.arange(envs) % len(table.goal)]
        started = reset(task, self.physics, env_key, goal, "training")
        stretches = max(1, task.episode_length // self.interval)
        episode_step = self.interval * (jnp.arange(envs) % stretches)
        count = self.rounds * envs

        def room(*shape: int, dtype: Any = jnp.float32) -> Array:
            return jnp.zeros((count, *shape), dtype)

        parameters: Any = module
        state = TeachState(
            module=module,
            # A copy, because a round is compiled to reuse (donate) the memory of its input state.
            teacher=jax.tree.map(jnp.copy, teacher),
            moments=self.optimiser.init(parameters),
            envs=EnvState(started.physics, started.goal, episode_step),
            over=jnp.zeros(envs, bool),
            lessons=Lessons(
                example=room(dtype=jnp.int32),
                observation=room(self.interval, len(task.observation)),
                action=room(self.interval, task.action_dim),
                alive=room(self.interval, dtype=bool),
            ),
            rounds=jnp.zeros((), jnp.int32),
            key=jax.random.key_data(key),
        )
        _, _, looked = self.collect(state, table, look_key)
        seen = looked.observation.reshape(-1, len(task.observation))
        spread = jnp.maximum(seen.std(0), LEAST_SPREAD)
        return eqx.tree_at(
            lambda each: (each.module.centre, each.module.spread), state, (seen.mean(0), spread)
        )

    def round(self, state: TeachState, table: Table) -> tuple[TeachState, Metrics]:
        """Act, store the data, update the module. Metrics are means over the updates."""
        keys = jax.random.split(jax.random.wrap_key_data(state.key), 3)
        envs, over, seen = self.collect(state, table, keys[0])
        first = state.rounds * self.recipe.envs
        lessons = jax.tree.map(
            lambda kept, new: jax.lax.dynamic_update_slice_in_dim(kept, new, first, axis=0),
            state.lessons,
            seen,
        )
        filled = first + self.recipe.envs

        def update(carry: tuple, key: Array) -> tuple[tuple, Metrics]:
            module, moments = carry
            batch = self.sample(lessons, table, filled, key, module.chunk)
            gradient, metrics = jax.grad(self.loss, has_aux=True)(module, batch)
            change, moments = self.optimiser.update(gradient, moments, module)
            return (optax.apply_updates(module, change), moments), metrics

        update_keys = jax.random.split(keys[1], self.updates_per_round)
        carry = (state.module, state.moments)
        (module, moments), metrics = jax.lax.scan(update, carry, update_keys)
        metrics = jax.tree.map(lambda values: values.mean(0), metrics)
        metrics["teach/teacher_share"] = self.teacher_share(state.rounds)
        key = jax.random.key_data(keys[2])
        state = TeachState(
            module, state.teacher, moments, envs, over, lessons, state.rounds + 1, key
        )
        return state, metrics

    def teacher_share(self, rounds: Array) -> Array:
        """Share of the environments in which the teacher acts after `rounds` rounds."""
        last = max(1.0, self.recipe.teacher_acts * self.rounds)
        return jnp.clip(1 - rounds / last, 0, 1) * (self.recipe.teacher_acts > 0)

    def collect(
        self, state: TeachState, table: Table, key: Array
    ) -> tuple[EnvState, Array, Lessons]:
        """Give every environment a new example and act for `interval` steps.

        Every second environment acts without noise, as in deployment. The others visit more states
        because the teacher's noise is added to their actions.
        """
        task, count, module = self.task, self.recipe.envs, state.module
        tell_key, reset_key, steps_key = jax.random.split(key, 3)
        example = jax.random.randint(tell_key, (count,), 0, len(table.goal))
        envs = self._tell(state, table.goal[example], reset_key)
        reading = table.reading[example]
        by_teacher = jnp.arange(count) < jnp.round(count * self.teacher_share(state.rounds))
        with_noise = (jnp.arange(count) % 2)[:, None]

        def control_step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
            playing, chunk = carry
            observation = task.observe(playing.physics)
            mean, log_std = state.teacher(observation, playing.goal)
            own, chunk = module.act(chunk, observation, reading)
            away = with_noise * jnp.exp(log_std) * jax.random.normal(key, mean.shape)
            acting = jnp.where(by_teacher[:, None], mean, unsquash(own))
            seen = (observation, jnp.tanh(mean), playing.alive)
            playing, _ = step_episodes(task, self.physics, playing, jnp.tanh(acting + away))
            return (playing, chunk), seen

        carry = (continue_episodes(envs.physics, envs.goal), module.begin(count))
        (playing, _), seen = jax.lax.scan(
            control_step, carry, jax.random.split(steps_key, self.interval)
        )
        lessons = Lessons(example, *(jnp.swapaxes(each, 0, 1) for each in seen))
        after = EnvState(playing.physics, playing.goal, envs.episode_step + self.interval)
        return after, ~playing.alive, lessons

    def _tell(self, state: TeachState, goal: Array, key: Array) -> EnvState:
        """Set new goals `[envs, goal]`; reset environments whose episode is over or has no time
        left."""
        task, envs = self.task, state.envs
        ended = state.over | (envs.episode_step + self.interval > task.episode_length)
        fresh = task.reset(key, goal, "training")
        physics = self.physics.reset(envs.physics, ended, *fresh)
        episode_step = jnp.where(ended, 0, envs.episode_step)
        return EnvState(physics, task.current_goal(physics, goal), episode_step)

    def sample(
        self, lessons: Lessons, table: Table, filled: Array, key: Array, chunk: int
    ) -> "Batch":
        """Draw a batch from the first `filled` stretches."""
        stretch_key, time_key = jax.random.split(key)
        recipe = self.recipe
        stretch = jax.random.randint(stretch_key, (recipe.instructions,), 0, filled)
        shape = (recipe.instructions, recipe.moments)
        time = jax.random.randint(time_key, shape, 0, self.interval)
        rows = jnp.broadcast_to(stretch[:, None], shape).reshape(-1)
        time = time.reshape(-1)
        ahead = time[:, None] + jnp.arange(chunk)
        within = ahead < self.interval
        at = rows[:, None], jnp.minimum(ahead, self.interval - 1)
        example = lessons.example[rows]
        return Batch(
            reading=table.reading[example],
            observation=lessons.observation[rows, time],
            wanted=lessons.action[at],
            counts=within & lessons.alive[at],
        )

    def loss(self, module: ActionModule, batch: "Batch") -> tuple[Array, Metrics]:
        """Squared error of the actions that count, summed over action coordinates, plus the
        routers' losses.

        Not the KL divergence of the Gaussians before tanh: a teacher that acts at its limits has
        means of large size and either sign, and the KL divergence would average them to zero.
        """
        recipe = self.recipe
        found, routed = module(batch.observation, batch.reading, training=True)
        error = jnp.square(batch.wanted - found).sum(-1)

        def mean(error: Array, counts: Array) -> Array:
            return jnp.where(counts, error, 0).sum() / jnp.maximum(counts.sum(), 1)

        loss = mean(error, batch.counts)
        metrics = {
            "teach/error": loss,
            "teach/first_error": mean(error[:, 0], batch.counts[:, 0]),
        }
        if routed is not None:
            loss = loss + recipe.balance_weight * routed.balance.sum()
            loss = loss + recipe.z_weight * routed.z.sum()
            metrics |= router_metrics(routed)
        return loss, metrics | {"teach/loss": loss}


class Batch(NamedTuple):
    """A batch of `instructions * moments` rows; rows of one instruction are consecutive.

    reading `[rows, reading]`; observation `[rows, observation]`. wanted: the teacher's actions,
    `[rows, chunk, action]`. counts `[rows, chunk]`: which of these actions are valid.
    """

    reading: Array
    observation: Array
    wanted: Array
    counts: Array


def router_metrics(routed: RoutingStatistics) -> Metrics:
    """Router metrics of every layer, `[layers]`, and the load, `[layers, experts]`."""
    names = [field.name for field in dataclasses.fields(routed) if field.name != "use"]
    return {f"router/{name}": getattr(routed, name) for name in names}
