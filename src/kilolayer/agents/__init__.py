"""The algorithms: contrastive RL, SAC, TD3, PPO, imitation. An agent is its own settings.

This package uses networks, losses and batches. It uses neither the training loop nor files.
`base.Agent` declares everything that the loop calls, `registry` finds agents by name, `crl.CRL` is
the method.
"""
