"""Words shared by every room: arrays, metrics and the one error a user may see."""

import jax

# One class for both packages: what the robot's package raises is told in one sentence here too.
from kilolayer_robot.errors import UserError as UserError
from kilolayer_robot.errors import bad_field as bad_field

Array = jax.Array
Metrics = dict[str, jax.Array]
