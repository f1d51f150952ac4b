"""What touches the machine: checkpoints, files, devices, processes, progress, tracking.

Knows nothing of reinforcement learning.
"""
