"""Arithmetic and memory: hand computations and XLA's count."""

import jax
import jax.numpy as jnp
import pytest

from kilolayer.config import run_config
from kilolayer.forecasting.cost import action_arithmetic, device_memory, update_arithmetic
from kilolayer.networks.arithmetic import arithmetic, bytes_of, parameters_of
from kilolayer.recipes import RECIPES
from kilolayer.training.build import build_trainer
from kilolayer.training.step import Trainer

# The point maze senses 4 numbers, takes 2 actions and has goals of 2.
WIDTH, DEPTH, BATCH, OUT = 16, 8, 32, 8
CONFIG = run_config(
    num_envs=8,
    unroll_length=10,
    depth=DEPTH,
    width=WIDTH,
    representation_dim=OUT,
    batch_size=BATCH,
    update_to_data=1 / 8,
    replay_steps_per_env=95,
    min_replay_steps_per_env=20,
    rematerialisation="none",
)


def trainer(**changes) -> Trainer:
    return build_trainer(CONFIG.having(**changes))


def layers(inputs: int, outputs: int, width: int = WIDTH) -> int:
    """Products of one row with the kernels of an encoder, in factor pairs."""
    return inputs * width + DEPTH * width**2 + width * outputs


def test_parameter_count_matches_hand_computation() -> None:
    def network(inputs: int, outputs: int) -> int:
        kernels = layers(inputs, outputs)
        return kernels + (DEPTH + 1) * 3 * WIDTH + outputs  # bias, scale and offset; last bias

    state = jax.eval_shape(trainer().init)
    assert parameters_of(state.agent) == {
        "actor encoder": network(4 + 2, 2 * 2),
        "critic state_action": network(4 + 2, OUT),
        "critic goal": network(2, OUT),
        "log_temperature": 1,
    }


@pytest.mark.parametrize(("way", "again"), [("none", 0), ("block", 1), ("nested", 2)])
def test_update_flops_match_hand_computation(way: str, again: int) -> None:
    """A network that learns is passed once forward, once back for its kernels and once for its
    inputs, but for the gradient of the first layer's inputs; the encoder through which the actor
    learns has no kernels' gradient. Rematerialisation passes the blocks again."""
    learns = 3 * (layers(6, OUT) + layers(2, OUT) + layers(6, 4)) - (6 + 2 + 6) * WIDTH
    through = 2 * layers(6, OUT)
    blocks = 4 * again * DEPTH * WIDTH**2
    energies = 3 * BATCH * OUT
    expected = 2 * BATCH * (learns + through + blocks + energies)
    assert update_arithmetic(trainer(rematerialisation=way)).flops == expected
    commanded = update_arithmetic(trainer(rematerialisation=way, commanded_goal_share=0.5)).flops
    assert commanded == expected + 2 * BATCH * layers(2, OUT)


def test_actor_critic_flops_match_hand_computation() -> None:
    """Both critics learn; both targets evaluate a new action at the next step; the actor learns
    through both critics."""
    critic, actor = layers(8, 1), layers(6, 4)
    learns = 2 * (3 * critic - 8 * WIDTH) + 3 * actor - 6 * WIDTH
    through, judged = 2 * 2 * critic, 2 * critic + actor
    found = update_arithmetic(trainer(agent="sac-her")).flops
    assert found == 2 * BATCH * (learns + through + judged)


def test_work_once_per_round_is_divided_among_updates() -> None:
    """PPO evaluates its unroll of 10 steps and 8 environments before the 10 updates: the value of
    every step, and the density of every step but the last."""
    critic, actor = layers(6, 1), layers(6, 4)
    learns = 3 * critic - 6 * WIDTH + 3 * actor - 6 * WIDTH
    once = 2 * 8 * (10 * critic + 9 * actor)
    assert update_arithmetic(trainer(agent="ppo")).flops == 2 * BATCH * learns + once // 10


def test_action_flops_match_hand_computation() -> None:
    work = action_arithmetic(trainer())
    assert work.flops == 2 * 8 * layers(6, 4)
    assert work.products == DEPTH + 2


def test_flops_count_loop_iterations_and_the_larger_branch() -> None:
    def function(x):
        x = jax.lax.scan(lambda carry, _: (carry @ carry, None), x, length=5)[0]
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x)

    work = arithmetic(function, jnp.zeros((3, 3)))
    assert (work.products, work.flops) == (5 + 2, 7 * 2 * 27)


@pytest.mark.parametrize("recipe", [{"depth": 4}, {"depth": 2, **RECIPES["simba-v2"]}])
def test_flops_match_xla_cost_analysis(recipe) -> None:
    """XLA also counts other operations, a few per cent at this width, and the body of a loop once;
    here the stack is one block."""
    wide = trainer(width=512, batch_size=152, **recipe)
    state, key = jax.eval_shape(wide.init), jax.random.key(0)
    batch = jax.eval_shape(wide.sample, state, key)
    program = jax.jit(wide.agent.update).lower(state.agent, batch, key).compile()
    counted = program.cost_analysis()
    assert counted is not None
    assert 1.0 <= counted["flops"] / update_arithmetic(wide).flops < 1.1


def test_round_memory_matches_hand_computation() -> None:
    memory, _ = device_memory(trainer())
    parameters = 4 * sum(parameters_of(jax.eval_shape(trainer().init).agent).values())
    assert memory["parameters"] == memory["gradients"] == parameters
    assert memory["optimiser"] == 2 * parameters + 3 * 4  # two moments, and three counts
    # 95 steps are rounded up to ten unrolls; one number says where the buffer's head is.
    assert memory["replay buffer"] == 4 * (100 * 8 * (4 + 2 + 2 + 2 + 1) + 1)
    # qpos, qvel, goal, age
    assert memory["environments"] == 4 * 8 * (2 + 2 + 2 + 1)
    assert bytes_of(jax.eval_shape(trainer().init).envs) == memory["environments"]
