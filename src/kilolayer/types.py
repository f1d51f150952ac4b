"""Types shared by every package: arrays and metrics."""

import jax

Array = jax.Array
Metrics = dict[str, jax.Array]
