"""Deep residual networks, scanned over their blocks: encoders, actor, critics, surgery on depth.

This package works on arrays only. `config.NetworkConfig` holds depth, width and architecture.
"""
