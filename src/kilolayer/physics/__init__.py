"""How environments are stepped: MuJoCo on the cores, MJX on an accelerator, points, Gymnasium.

This package handles models and states, not goals. `build.build_physics` builds an engine.
"""
