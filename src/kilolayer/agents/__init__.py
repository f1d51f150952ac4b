"""The algorithms: contrastive RL, SAC, TD3, PPO, imitation. An agent is its own settings.

Offers `base.Agent`, which declares everything that the loop calls, `registry.agent_class`, which
finds agents by name, and `crl.CRL`, the method of the paper. Agents use networks, losses and
batches, not the training loop or files. `registry` alone reads tasks: their sizes.
"""
