"""A policy on its own: opened, scored, made smaller, exported, planned over, run in a loop, shown.

Knows runs through `analysis`, and rolls out through `training`. Offers `policy.open_policy`.
"""
