"""Stand-alone policies: open, score, compress, export, plan, control and show them.

Loads runs through `analysis` and plays episodes through `training`. `policy.open_policy` opens a
policy.
"""
