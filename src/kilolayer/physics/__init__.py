"""How environments are stepped: MuJoCo on the cores, MJX on an accelerator, points, Gymnasium.

Offers `build.build_physics`, which builds the engine that steps copies of a world, and the worlds
themselves. Engines handle states and controls; observations, goals and success belong to `tasks`. A
Gymnasium environment draws or is given its goal at the reset, so its engine passes goals on.
"""
