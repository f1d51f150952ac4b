"""Types shared by every package: arrays, metrics and the one error that a user may see."""

import jax

from kilolayer.errors import UserError as UserError
from kilolayer.errors import bad_field as bad_field
from kilolayer.errors import nearest as nearest

Array = jax.Array
Metrics = dict[str, jax.Array]
