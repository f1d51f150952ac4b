"""Access to the machine: checkpoints, files, devices, processes, progress, tracking.

This package contains no reinforcement learning.
"""
