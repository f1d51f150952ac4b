"""Tasks: observations, goals, starts and success. `registry.TASKS` lists them.

Each task is written once in `jax.numpy` for every physics engine. This package uses no agent.
"""
