"""The training loop: rollouts, one jitted round, evaluation, the life of a run on the host.

Offers `loop.start_run` and `loop.resume_run`, `evaluate.Evaluator` and `collect.collect_steps`.
`rollout` and `step.Trainer` are pure. On the host, `loop`, `rounds` and `saving` write the run,
`seeds` opens its trackers, and `offline` and `starting` read datasets and other runs.
"""
