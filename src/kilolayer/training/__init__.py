"""The training loop: rollouts, one jitted round, evaluation, the life of a run on the host.

`step.Trainer` is pure; `loop` and `rounds` have all side effects. Offers `start_run`, `resume_run`
and `Evaluator`.
"""
