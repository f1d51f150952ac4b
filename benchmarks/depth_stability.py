"""Signal and gradient norms by depth, and the losses of the first updates, for ways to scale depth.

python -m benchmarks.depth_stability [--depths 4 16 64 256 1024 4096] [--candidates 1/N ...]
    [--updates 30] [--moments 2] [--width 32] [--batch-size 128]
    [--out results/depth_stability/NAME.json]

The data are transitions that a fresh policy collects in the point U-maze. Norms are those of the
state-action encoder's first, middle and last block, at moments spread evenly from before the first
update on: the residual stream's mean norm, and the norm of the critic loss' gradient for the
block's parameters. At chance the critic's loss is about log(batch size) plus its penalty.
"""

import argparse
import json
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.depth_candidates import CANDIDATES, CandidateAgent
from kilolayer.agents.crl import CRL, CRLState
from kilolayer.analysis.diagnostics import block_norms
from kilolayer.config import run_config
from kilolayer.replay.hindsight import Batch
from kilolayer.training.build import build_trainer
from kilolayer.types import Array

SHOWN = ("critic/loss", "critic/accuracy", "actor/loss")


def collect(batch_size: int, batches: int) -> Batch:
    """Batches `[batches, batch, ...]` from the steps that a fresh shallow policy takes."""
    trainer = build_trainer(run_config(width=16, num_envs=128, batch_size=batch_size))
    state, step = trainer.init(), jax.jit(trainer.collect)
    for _ in range(trainer.schedule.prefill_unrolls):
        state, _ = step(state)
    sample = jax.jit(jax.vmap(trainer.sample, in_axes=(None, 0)))
    return sample(state, jax.random.split(jax.random.key(1), batches))


def norms(agent: CRL, state: CRLState, batch: Batch) -> dict[str, Array]:
    """The two norms, of the first, the middle and the last block."""
    critic = state.parameters.critic
    inputs = jnp.concatenate([batch.observation, batch.action], -1)
    stream = critic.state_action.statistics(inputs).residual
    gradient = jax.grad(lambda critic: agent.critic_loss(critic, batch)[0])(critic)
    at = jnp.array([0, len(stream) // 2, len(stream) - 1])
    return {
        "residual": jnp.linalg.norm(stream, axis=-1).mean(-1)[at],
        "gradient": block_norms(gradient.state_action.stack)[at],
    }


@partial(jax.jit, static_argnums=(0, 1))
def measure(agent: CRL, moments: int, batches: Batch) -> tuple[dict[str, Array], dict[str, Array]]:
    """Norms `[moments, 3]` on the way and the metrics `[updates]` of one update per batch."""

    def update(state: CRLState, inputs: tuple[Batch, Array]):
        return agent.update(state, *inputs)

    def stage(state: CRLState, inputs: tuple[Batch, Array]):
        found = norms(agent, state, jax.tree.map(lambda leaf: leaf[0], inputs[0]))
        state, metrics = jax.lax.scan(update, state, inputs)
        return state, (found, {name: metrics[name] for name in SHOWN})

    keys = jax.random.split(jax.random.key(2), len(batches.goal))
    inputs = jax.tree.map(lambda leaf: leaf.reshape(moments, -1, *leaf.shape[1:]), (batches, keys))
    _, (found, metrics) = jax.lax.scan(stage, agent.init(jax.random.key(0)), inputs)
    return found, {name: values.reshape(-1) for name, values in metrics.items()}


def line(name: str, depth: int, norms: dict[str, Array], metrics: dict[str, Array]) -> str:
    """Losses at some updates and norms at some moments of one candidate."""
    updates = len(metrics["critic/loss"])
    at = sorted({0, 1, updates // 4, updates // 2, updates - 1})
    row = [f"{name:24}", f"{depth:5d}"]
    for key in ("critic/loss", "actor/loss"):
        row += [key.split("/")[0], *(f"{float(metrics[key][i]):8.4g}" for i in at)]
    row += ["accuracy", f"{float(metrics['critic/accuracy'][-8:].mean()):.3f}"]
    for key, values in norms.items():
        row += [key, "; ".join(" ".join(f"{float(v):.2g}" for v in moment) for moment in values)]
    return " ".join(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 16, 64, 256, 1024, 4096])
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--moments", type=int, default=2, help="a divisor of the updates")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rematerialisation", default="block")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    batches = collect(arguments.batch_size, arguments.updates)
    print(f"log(batch size) = {math.log(arguments.batch_size):.3f}")
    found = []
    for depth in arguments.depths:
        config = run_config(
            depth=depth, width=arguments.width, rematerialisation=arguments.rematerialisation
        )
        trainer = build_trainer(config)
        for name in arguments.candidates:
            agent = CandidateAgent.of(trainer.agent, name)
            norms_found, metrics = measure(agent, arguments.moments, batches)
            print(line(name, depth, norms_found, metrics), flush=True)
            values = jax.tree.map(lambda leaf: leaf.tolist(), {**norms_found, **metrics})
            found.append({"candidate": name, "depth": depth, **values})
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        settings = {k: v for k, v in vars(arguments).items() if k not in ("out", "candidates")}
        arguments.out.write_text(json.dumps({"settings": settings, "measured": found}) + "\n")


if __name__ == "__main__":
    main()
