"""One update of this package beside that of the published script, on the same JAX.

python -m benchmarks.published_code TRAIN_PY [--depths 4 16 64] [--width 256] [--batch-size 256]
    [--layers 400] [--repeats 5] [--clock wall] [--quick]

TRAIN_PY: `train.py` of github.com/wang-kevin3290/scaling-crl, which needs flax. Its networks and
its `sgd_step` are taken out of the script by their names into a module of their own, unchanged:
the script itself needs Brax, Weights & Biases and a GPU to be imported. No line of it is kept.

Both sides update an ant's agent on random batches, many updates in one program, as both do while
they train. Programs are called in turn, both ways round. Medians, and ratios of medians.
"""

import argparse
import ast
import importlib.util
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp

from benchmarks.lean import CLOCKS, seconds_in_turn
from benchmarks.measure import Program, machine
from benchmarks.updates import TASK, make_agent, random_batch

IMPORTS = """
from typing import Any, NamedTuple
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.linen.initializers import variance_scaling
from flax.training.train_state import TrainState
"""
# Of the script, in its order; the functions of the second line are nested in its main part.
MODULE_NAMES = ("residual_block", "SA_encoder", "G_encoder", "Actor", "TrainingState", "Transition")
UPDATE_NAMES = ("update_actor_and_alpha", "update_critic", "sgd_step")
# What the nested functions read from the script's main part.
FREE_NAMES = ("args", "actor", "sa_encoder", "g_encoder", "target_entropy")
CONSTANTS = ("lecun_unfirom", "bias_init")


def published_module(script: Path) -> ModuleType:
    """The named classes and functions of the script, with `make_update(...)` that returns its step.

    Raises SystemExit if the script lacks one of them.
    """
    tree = ast.parse(script.read_text(encoding="utf-8"))
    named: dict[str, ast.stmt] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            named.setdefault(node.name, node)
    missing = [name for name in (*MODULE_NAMES, *UPDATE_NAMES) if name not in named]
    if missing:
        raise SystemExit(f"{script} has no {missing[0]}: is it train.py of scaling-crl?")
    constants = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in CONSTANTS
    ]
    make_update = ast.parse(f"def make_update({', '.join(FREE_NAMES)}):\n    return sgd_step").body[
        0
    ]
    assert isinstance(make_update, ast.FunctionDef)
    make_update.body[:0] = [named[name] for name in UPDATE_NAMES]
    body = [*ast.parse(IMPORTS).body, *constants, *(named[n] for n in MODULE_NAMES), make_update]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "published.py"
        path.write_text(ast.unparse(ast.Module(body, [])), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("published", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def published_program(
    module: ModuleType, depth: int, count: int, arguments: argparse.Namespace
) -> Program:
    """`count` updates of the published agent; the goal is part of the observation there."""
    args = SimpleNamespace(
        batch_size=arguments.batch_size,
        obs_dim=TASK.observation_dim,
        goal_start_idx=0,
        goal_end_idx=TASK.goal_dim,
        disable_entropy=0,
        logsumexp_penalty_coeff=0.1,
    )
    sizes = {"network_width": arguments.width, "network_depth": depth}
    actor = module.Actor(action_size=TASK.action_dim, **sizes)
    pair, goal = module.SA_encoder(**sizes), module.G_encoder(**sizes)
    keys = jax.random.split(jax.random.key(1), 3)
    observation, action, place = (
        jnp.ones((1, size)) for size in (TASK.observation_dim, TASK.action_dim, TASK.goal_dim)
    )

    def with_adam(parameters: object) -> object:
        adam = module.optax.adam(3e-4)
        return module.TrainState.create(apply_fn=None, params=parameters, tx=adam)

    both = jnp.concatenate([observation, place], axis=-1)
    state = module.TrainingState(
        env_steps=jnp.zeros(()),
        gradient_steps=jnp.zeros(()),
        actor_state=with_adam(jax.jit(actor.init)(keys[0], both)),
        critic_state=with_adam(
            {
                "sa_encoder": jax.jit(pair.init)(keys[1], observation, action),
                "g_encoder": jax.jit(goal.init)(keys[2], place),
            }
        ),
        alpha_state=with_adam({"log_alpha": jnp.zeros(())}),
    )
    step = module.make_update(args, actor, pair, goal, -0.5 * TASK.action_dim)
    batch = random_batch(arguments.batch_size)
    transitions = module.Transition(
        observation=jnp.concatenate([batch.observation, batch.goal], axis=-1),
        action=batch.action,
        reward=jnp.zeros(()),
        discount=jnp.zeros(()),
        extras={"future_state": batch.observation},
    )

    def run(state: object, key: jax.Array) -> object:
        def body(carry: object, _: None) -> tuple[object, jax.Array]:
            carry, metrics = step(carry, batched)
            return carry, metrics["critic_loss"]

        batched = transitions._replace(
            reward=jnp.zeros(arguments.batch_size), discount=jnp.zeros(arguments.batch_size)
        )
        return jax.lax.scan(body, (state, key), None, length=count)

    return Program.compile(run, state, jax.random.key(2))


def our_program(depth: int, count: int, arguments: argparse.Namespace) -> Program:
    """`count` updates of this package with the published recipe."""
    agent, batch = make_agent(depth, arguments.width), random_batch(arguments.batch_size)

    def run(state: object, keys: jax.Array) -> object:
        def body(state: object, key: jax.Array) -> tuple[object, jax.Array]:
            state, metrics = agent.update(state, batch, key)
            return state, metrics["critic/loss"]

        return jax.lax.scan(body, state, keys)

    state = jax.jit(agent.init)(jax.random.key(1))
    return Program.compile(run, state, jax.random.split(jax.random.key(2), count))


def rows(module: ModuleType, depths: Sequence[int], arguments: argparse.Namespace) -> None:
    print("| depth | code | ms an update | ratio | slowest / fastest | temporary MB | compile s |")
    print("| --: | --- | --: | --: | --: | --: | --: |")
    for depth in depths:
        count = max(1, arguments.layers // depth)
        programs = {
            "published": published_program(module, depth, count, arguments),
            "kilolayer": our_program(depth, count, arguments),
        }
        seconds = seconds_in_turn(programs, arguments.repeats, CLOCKS[arguments.clock])
        first = statistics.median(seconds["published"])
        for name, program in programs.items():
            median = statistics.median(seconds[name])
            print(
                f"| {depth} | {name} | {1e3 * median / count:.3g} | {median / first:.2f} | "
                f"{max(seconds[name]) / min(seconds[name]):.2f} | "
                f"{program.temporary_bytes / 1e6:.4g} | {program.compile_seconds:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", type=Path)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=400, help="that the updates of a call pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.depths, arguments.width, arguments.batch_size = [4], 8, 8
        arguments.repeats, arguments.layers = 1, 8
    print(f"{machine()}, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    rows(published_module(arguments.script), arguments.depths, arguments)


if __name__ == "__main__":
    main()
