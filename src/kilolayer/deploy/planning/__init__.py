"""Slow planners over a fast policy: they choose the next subgoals on the way to a distant goal.

Offers `build.build_planner`, which makes a run's planner by its name, and
`hierarchy.score_planner`, which plays whole episodes of a planner and a policy. Planners use
recorded steps of the run (`recorded`).
"""
