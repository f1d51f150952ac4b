"""Trains an action module by imitation of a deep policy, on states that the module visits.

As in DAgger (arXiv 1011.0686), the module acts, the teacher labels every state with its action, and
all states are kept. The teacher gets the true goal; the module gets the embedding of an instruction
that means this goal. The target of a chunk is the teacher's actions in the states visited from
there on.
"""

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
from kilolayer.physics.base import Physics
from kilolayer.settings import Count, NonNegative, Positive, Settings, Share, Steps
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import continue_episodes, step_episodes
from kilolayer.training.rollout import EnvState, reset
from kilolayer.types import Array, Metrics

MIN_DEVIATION = 1e-3  # of an observation coordinate, since some never change

# A pytree: (observation [rows, observation], goal [rows, goal]) -> its action distribution
Teacher = Callable[[Array, Array], Gaussian]


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of the training.

    steps: environment steps over all environments. updates: gradient steps in total, rounded up to
    the same number in each round; the learning rate falls to zero on a cosine schedule.
    instructions: instructions per batch. moments: states per instruction in a batch. teacher_acts:
    share of the rounds after which the teacher no longer acts; until then, the number of
    environments in which it acts falls from all to none. balance_weight, z_weight: weights of the
    router losses (arXiv 2101.03961, section 2.2; 2202.08906, section 3.3).
    """

    steps: Steps = 400_000
    envs: Count = 64
    updates: Count = 8_000
    instructions: Count = 32
    moments: Count = 8
    learning_rate: Positive = 3e-3
    teacher_acts: Share = 0.3
    balance_weight: NonNegative = 0.01
    z_weight: NonNegative = 0.001


class Instructions(NamedTuple):
    """Embeddings `[instructions, embedding]` of instructions and their goals
    `[instructions, goal]`."""

    embedding: Array
    goal: Array


class Dataset(eqx.Module):
    """The aggregated dataset, allocated for all rounds. A segment is the part of an episode with
    one instruction.

    instruction `[segments]`: its index. observation `[segments, time, observation]`. action: the
    teacher's action, `[segments, time, action]`. alive `[segments, time]`: whether the episode had
    not terminated before.
    """

    instruction: Array
    observation: Array
    action: Array
    alive: Array


class DAggerState(eqx.Module):
    """The state between two rounds. terminated `[envs]`: whether the episode has terminated."""

    module: ActionModule
    optimiser_state: Any
    envs: EnvState
    terminated: Array
    dataset: Dataset
    rounds: Array
    key: Array


@dataclass(frozen=True, eq=False)
class DAgger:
    """Training in rounds. In a round, each environment has its own instruction for `interval`
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

    def init(
        self, module: ActionModule, teacher: Teacher, instructions: Instructions, key: Array
    ) -> DAggerState:
        """The state before the first round.

        The environments' episode steps are spread over an episode. One round of acting gives the
        mean and deviation that standardise the observations.
        """
        task, envs = self.task, self.recipe.envs
        env_key, collect_key, key = jax.random.split(key, 3)
        goal = instructions.goal[jnp.arange(envs) % len(instructions.goal)]
        started = reset(task, self.physics, env_key, goal, "training")
        segments = max(1, task.episode_length // self.interval)
        episode_step = self.interval * (jnp.arange(envs) % segments)
        count = self.rounds * envs

        def zeros(*shape: int, dtype: Any = jnp.float32) -> Array:
            return jnp.zeros((count, *shape), dtype)

        parameters: Any = module
        state = DAggerState(
            module=module,
            optimiser_state=self.optimiser.init(parameters),
            envs=EnvState(started.physics, started.goal, episode_step),
            terminated=jnp.zeros(envs, bool),
            dataset=Dataset(
                instruction=zeros(dtype=jnp.int32),
                observation=zeros(self.interval, len(task.observation)),
                action=zeros(self.interval, task.action_dim),
                alive=zeros(self.interval, dtype=bool),
            ),
            rounds=jnp.zeros((), jnp.int32),
            key=jax.random.key_data(key),
        )
        _, _, collected = self.collect(state, teacher, instructions, collect_key)
        observations = collected.observation.reshape(-1, len(task.observation))
        scale = observations.mean(0), jnp.maximum(observations.std(0), MIN_DEVIATION)
        return eqx.tree_at(lambda each: (each.module.centre, each.module.spread), state, scale)

    def round(
        self, state: DAggerState, teacher: Teacher, instructions: Instructions
    ) -> tuple[DAggerState, Metrics]:
        """Act, store the data, update the module. Metrics are means over the updates."""
        keys = jax.random.split(jax.random.wrap_key_data(state.key), 3)
        envs, terminated, collected = self.collect(state, teacher, instructions, keys[0])
        first = state.rounds * self.recipe.envs
        dataset = jax.tree.map(
            lambda stored, new: jax.lax.dynamic_update_slice_in_dim(stored, new, first, axis=0),
            state.dataset,
            collected,
        )
        size = first + self.recipe.envs

        def update(carry: tuple, key: Array) -> tuple[tuple, Metrics]:
            module, optimiser_state = carry
            batch = self.sample(dataset, instructions, size, key, module.chunk)
            gradient, metrics = jax.grad(self.loss, has_aux=True)(module, batch)
            change, optimiser_state = self.optimiser.update(gradient, optimiser_state, module)
            return (optax.apply_updates(module, change), optimiser_state), metrics

        update_keys = jax.random.split(keys[1], self.updates_per_round)
        carry = (state.module, state.optimiser_state)
        (module, optimiser_state), metrics = jax.lax.scan(update, carry, update_keys)
        metrics = jax.tree.map(lambda values: values.mean(0), metrics)
        metrics["teach/teacher_share"] = self.teacher_share(state.rounds)
        key = jax.random.key_data(keys[2])
        state = DAggerState(
            module, optimiser_state, envs, terminated, dataset, state.rounds + 1, key
        )
        return state, metrics

    def teacher_share(self, rounds: Array) -> Array:
        """Share of the environments in which the teacher acts after `rounds` rounds."""
        last = max(1.0, self.recipe.teacher_acts * self.rounds)
        return jnp.clip(1 - rounds / last, 0, 1) * (self.recipe.teacher_acts > 0)

    def collect(
        self, state: DAggerState, teacher: Teacher, instructions: Instructions, key: Array
    ) -> tuple[EnvState, Array, Dataset]:
        """Give every environment a new instruction and act for `interval` steps.

        Every second environment acts without noise, as in deployment. The others visit more states
        because the teacher's noise is added to their actions.
        """
        task, count, module = self.task, self.recipe.envs, state.module
        instruction_key, reset_key, steps_key = jax.random.split(key, 3)
        index = jax.random.randint(instruction_key, (count,), 0, len(instructions.goal))
        envs = self._set_goals(state, instructions.goal[index], reset_key)
        embedding = instructions.embedding[index]
        by_teacher = jnp.arange(count) < jnp.round(count * self.teacher_share(state.rounds))
        with_noise = (jnp.arange(count) % 2)[:, None]

        def control_step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
            playing, chunk = carry
            observation = task.observe(playing.physics)
            mean, log_std = teacher(observation, playing.goal)
            action, chunk = module.act(chunk, observation, embedding)
            noise = with_noise * jnp.exp(log_std) * jax.random.normal(key, mean.shape)
            before_tanh = jnp.where(by_teacher[:, None], mean, unsquash(action))
            recorded = (observation, jnp.tanh(mean), playing.alive)
            playing, _ = step_episodes(task, self.physics, playing, jnp.tanh(before_tanh + noise))
            return (playing, chunk), recorded

        carry = (continue_episodes(envs.physics, envs.goal), module.initial_carry(count))
        (playing, _), recorded = jax.lax.scan(
            control_step, carry, jax.random.split(steps_key, self.interval)
        )
        dataset = Dataset(index, *(jnp.swapaxes(each, 0, 1) for each in recorded))
        after = EnvState(playing.physics, playing.goal, envs.episode_step + self.interval)
        return after, ~playing.alive, dataset

    def _set_goals(self, state: DAggerState, goal: Array, key: Array) -> EnvState:
        """Set new goals `[envs, goal]`; reset environments whose episode has terminated or has no
        time left."""
        task, envs = self.task, state.envs
        ended = state.terminated | (envs.episode_step + self.interval > task.episode_length)
        physics = self.physics.reset(envs.physics, ended, *task.reset(key, goal, "training"))
        episode_step = jnp.where(ended, 0, envs.episode_step)
        return EnvState(physics, task.current_goal(physics, goal), episode_step)

    def sample(
        self, dataset: Dataset, instructions: Instructions, size: Array, key: Array, chunk: int
    ) -> "Batch":
        """Draw a batch from the first `size` segments."""
        segment_key, time_key = jax.random.split(key)
        shape = (self.recipe.instructions, self.recipe.moments)
        segment = jax.random.randint(segment_key, shape[:1], 0, size)
        segment = jnp.broadcast_to(segment[:, None], shape).reshape(-1)
        time = jax.random.randint(time_key, shape, 0, self.interval).reshape(-1)
        steps = time[:, None] + jnp.arange(chunk)
        at = segment[:, None], jnp.minimum(steps, self.interval - 1)
        return Batch(
            embedding=instructions.embedding[dataset.instruction[segment]],
            observation=dataset.observation[segment, time],
            target=dataset.action[at],
            mask=(steps < self.interval) & dataset.alive[at],
        )

    def loss(self, module: ActionModule, batch: "Batch") -> tuple[Array, Metrics]:
        """Squared error of the unmasked actions, summed over action coordinates, plus the routers'
        losses.

        Not the KL divergence of the Gaussians before tanh: a teacher that acts at its limits has
        means of large size and either sign, and the KL divergence would average them to zero.
        """
        recipe = self.recipe
        actions, routed = module(batch.observation, batch.embedding, training=True)
        error = jnp.square(batch.target - actions).sum(-1)

        def masked_mean(error: Array, mask: Array) -> Array:
            return jnp.where(mask, error, 0).sum() / jnp.maximum(mask.sum(), 1)

        loss = masked_mean(error, batch.mask)
        first_error = masked_mean(error[:, 0], batch.mask[:, 0])
        metrics = {"teach/error": loss, "teach/first_error": first_error}
        if routed is not None:
            loss = loss + recipe.balance_weight * routed.balance.sum()
            loss = loss + recipe.z_weight * routed.z.sum()
            # Per layer, `[layers]`, except the load `[layers, experts]`.
            statistics = {name: value for name, value in vars(routed).items() if name != "use"}
            metrics |= {f"router/{name}": value for name, value in statistics.items()}
        return loss, metrics | {"teach/loss": loss}


class Batch(NamedTuple):
    """A batch of `instructions * moments` rows; rows of one instruction are consecutive.

    embedding `[rows, embedding]`; observation `[rows, observation]`. target: the teacher's actions,
    `[rows, chunk, action]`. mask `[rows, chunk]`: which of these actions lie in the segment.
    """

    embedding: Array
    observation: Array
    target: Array
    mask: Array
