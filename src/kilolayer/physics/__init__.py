"""How environments are stepped: MuJoCo on the cores, MJX on an accelerator, points, Gymnasium.

Knows models and states, no goals. `build.build_physics` gives the engine of a world.
"""
