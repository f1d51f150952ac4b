"""The algorithms: contrastive RL, SAC, TD3, PPO, imitation. An agent is its own settings.

Knows networks, losses and batches; knows neither the environment loop nor files. `base.Agent` says
all that the loop calls, `registry` finds agents by name, `crl.CRL` is the method.
"""
