"""A robot of one's own in the control loop: a slow planner, a fast controller, faults and all.

    python -m examples.own_robot_loop

Any object with `observe()`, `act(action)` and `safe_action()` will do. Here it is a cart on a track
that loses its camera now and then. Planner and controller are plain functions;
`kilolayer_robot.Policy.open("policy/")` is a controller that `kilolayer export RUN --to policy/`
wrote.
"""

import time

import numpy as np

from kilolayer_robot import Card, ControlLoop, Pursuit, Sensed, Timing
from kilolayer_robot.records import Summary

RADIUS = 0.05  # m, within which a subgoal counts as reached


class Cart:
    """Moves at up to 1 m/s. Observation and goals: its place along the track in m."""

    def __init__(self, goal: float):
        self.place, self.goal = 0.0, goal
        self._speed, self._since, self._looks = 0.0, time.monotonic(), 0

    def observe(self) -> Sensed:
        self._move()
        self._looks += 1
        seen = np.nan if self._looks % 20 == 0 else self.place
        return Sensed(np.array([seen]), np.array([self.place]), np.array([self.goal]))

    def act(self, action: np.ndarray) -> None:
        self._move()
        self._speed = float(action[0])

    def safe_action(self) -> np.ndarray:
        """Stand still: what it does while it sees nothing."""
        return np.zeros(1)

    def _move(self) -> None:
        now = time.monotonic()
        self.place += self._speed * (now - self._since)
        self._since = now


def plan(sensed: Sensed) -> np.ndarray:
    """Three subgoals, `[3, 1]`, evenly on the way."""
    assert sensed.goal is not None
    return np.linspace(sensed.achieved_goal, sensed.goal, 4)[1:]


def control(observation: np.ndarray, subgoal: np.ndarray) -> np.ndarray:
    return 10.0 * (subgoal - observation)


def drive(cart: Cart, seconds: float) -> Summary:
    card = Card.plain(observation=1, goal=1, action=1, radius=RADIUS)
    pursuit, timing = Pursuit(chunk=3, execute=3), Timing(rate=100, plan_rate=5)
    return ControlLoop(cart, card, control, plan, pursuit=pursuit, timing=timing).run(seconds)


if __name__ == "__main__":
    cart = Cart(goal=1.0)
    print(drive(cart, seconds=5.0))
    print(f"the cart is at {cart.place:.2f} m, its goal at {cart.goal:.2f} m")
