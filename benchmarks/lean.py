"""One update of actor and critic, in the four ways to take its gradient.

python -m benchmarks.lean [--depths 4 16 64] [--width 256] [--batch-size 512] [--layers 1600]
    [--scan-unroll 1] [--repeats 5] [--clock wall] [--losses 200] [--quick]

- apart: each loss by itself, gradients by autodiff. What the others are compared with.
- joint: the losses together, gradients by autodiff.
- lean: each loss by itself, lean gradients of the stacks.
- towers: the losses together, equal stacks in one scan with lean gradients.

Updates follow one another inside one program; programs are called in turn, both ways round.
Medians, and ratios of medians. --clock processor counts the time that the process computed: with
one thread (XLA_FLAGS=--xla_cpu_multi_thread_eigen=false and taskset) that is what it would take on
an idle machine, nearly. With --losses N: how far the losses of N updates are from those of
`apart`, as the largest difference over the largest loss. Every update has a batch of its own: on
one batch, learnt by heart, a change of the last bit grows to a percent. --repeats 0: no times.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Program, machine
from benchmarks.updates import make_agent, random_batch
from kilolayer.agents.crl import CRL, CRLState
from kilolayer.agents.optimiser import apply_gradients
from kilolayer.losses.actor import temperature_loss
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array, Metrics

Update = Callable[[CRLState, Batch, Array], tuple[CRLState, Metrics]]
WAYS = {"apart": False, "joint": False, "lean": True, "towers": True}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
LOSSES = ("critic/loss", "actor/loss")


def update_apart(agent: CRL, state: CRLState, batch: Batch, key: Array) -> tuple[CRLState, Metrics]:
    """What `CRL.update` does, with the gradient of one loss after the other."""
    parameters = state.parameters
    goal_key, action_key = jax.random.split(key)
    critic_gradient, (critic_metrics, psi) = jax.grad(agent.critic_loss, has_aux=True)(
        parameters.critic, batch
    )
    uniform = jax.random.uniform(goal_key, (len(batch.goal), 1))
    commanded = parameters.critic.goal(batch.commanded_goal) if agent.commanded_goal_share else psi
    actor_gradient, (actor_metrics, log_prob) = jax.grad(agent.actor_loss, has_aux=True)(
        parameters.actor,
        parameters,
        batch.observation,
        agent.actor_goals(uniform, batch.goal, batch.commanded_goal),
        agent.actor_goals(uniform, psi, commanded),
        action_key,
    )
    gradients = {
        "actor": actor_gradient,
        "critic": critic_gradient,
        "log_temperature": jax.grad(temperature_loss)(
            parameters.log_temperature, log_prob, agent.target_entropy(state)
        ),
    }
    state = CRLState(*apply_gradients(agent.optimisers, parameters, gradients, state.optimiser))
    return state, {"critic/loss": critic_metrics["loss"], "actor/loss": actor_metrics["loss"]}


def update_in(way: str, depth: int, width: int, scan_unroll: int = 1) -> tuple[CRL, Update]:
    """The agent and its update, in one of the WAYS."""
    agent = make_agent(depth, width)
    torso = dataclasses.replace(agent.bound.actor_torso, lean=WAYS[way], scan_unroll=scan_unroll)
    agent = agent.on(dataclasses.replace(agent.bound, actor_torso=torso, critic_torso=torso))
    if way in ("joint", "towers"):
        return agent, agent.update
    return agent, lambda *arguments: update_apart(agent, *arguments)


def learnable_batch(batch: Batch, key: Array) -> Batch:
    """The batch with new observations, and with goals near where they and the actions lead."""
    first, second = jax.random.split(key)
    observation = jax.random.normal(first, batch.observation.shape)
    size = batch.goal.shape[1]
    noise = 0.1 * jax.random.normal(second, batch.goal.shape)
    goal = observation[:, :size] + 0.3 * jnp.tanh(batch.action[:, :size]) + noise
    return dataclasses.replace(batch, observation=observation, goal=goal)


def program_of(
    way: str, depth: int, count: int, arguments: argparse.Namespace, fresh: bool = False
) -> Program:
    """Updates, one after the other, on one batch or on `fresh` ones; returns their losses."""
    agent, update = update_in(way, depth, arguments.width, arguments.scan_unroll)
    batch = random_batch(arguments.batch_size)

    def run(state: Any, keys: Array) -> Any:
        def step(state: CRLState, key: Array) -> tuple[CRLState, Array]:
            state, metrics = update(state, learnable_batch(batch, key) if fresh else batch, key)
            return state, jnp.stack([metrics[name] for name in LOSSES])

        return jax.lax.scan(step, state, keys)

    state = jax.jit(agent.init)(jax.random.key(1))
    return Program.compile(run, state, jax.random.split(jax.random.key(2), count))


def seconds_in_turn(
    programs: dict[str, Program], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every call; each round goes through the programs the other way round."""
    names, found = list(programs), {name: [] for name in programs}
    for index in range(1 + repeats):
        for name in names if index % 2 else reversed(names):
            start = clock()
            programs[name]()
            if index > 0:  # the first call is slower
                found[name].append(clock() - start)
    return found


def report_times(depth: int, arguments: argparse.Namespace) -> None:
    count = max(1, arguments.layers // depth)
    programs = {way: program_of(way, depth, count, arguments) for way in arguments.ways}
    seconds = seconds_in_turn(programs, arguments.repeats, CLOCKS[arguments.clock])
    first = statistics.median(seconds[arguments.ways[0]])
    for way, program in programs.items():
        median = statistics.median(seconds[way])
        spread = max(seconds[way]) / min(seconds[way])
        print(
            f"| {depth} | {way} | {1e3 * median / count:.3g} | {median / first:.2f} | "
            f"{spread:.2f} | {program.temporary_bytes / 1e6:.4g} | "
            f"{program.compile_seconds:.1f} |",
            flush=True,
        )


def report_losses(depth: int, arguments: argparse.Namespace) -> None:
    losses = {
        way: np.asarray(program_of(way, depth, arguments.losses, arguments, fresh=True)()[1])
        for way in arguments.ways
    }
    apart = losses[arguments.ways[0]]
    for way, found in losses.items():
        distance = np.abs(found - apart).max(0) / np.abs(apart).max(0)
        print(
            f"depth {depth}, {arguments.losses} updates, {way}: critic's loss differs by "
            f"{distance[0]:.1e}, the actor's by {distance[1]:.1e} of the largest",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--layers", type=int, default=1600, help="that the updates of a call pass")
    parser.add_argument("--scan-unroll", type=int, default=1, help="blocks per iteration")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--losses", type=int, default=0)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.depths, arguments.width, arguments.batch_size = [4], 8, 8
        arguments.repeats, arguments.losses, arguments.layers = 1, 2, 8
    print(f"{machine()}, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    print("| depth | way | ms an update | ratio | slowest / fastest | temporary MB | compile s |")
    print("| --: | --- | --: | --: | --: | --: | --: |")
    for depth in arguments.depths if arguments.repeats else ():
        report_times(depth, arguments)
    for depth in arguments.depths if arguments.losses else ():
        report_losses(depth, arguments)


if __name__ == "__main__":
    main()
