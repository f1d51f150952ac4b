"""What is asked of an agent: observations, goals, starts, success. `registry.TASKS` lists them.

Written once in `jax.numpy` for every physics engine. Knows no agent.
"""
