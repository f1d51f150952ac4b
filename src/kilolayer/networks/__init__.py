"""Deep residual networks, scanned over their blocks: encoders, actor, critics, surgery on depth.

Knows arrays alone. `config.NetworkConfig` holds depth, width and the make of the blocks.
"""
