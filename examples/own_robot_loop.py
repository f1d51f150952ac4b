"""A robot of your own in the control loop, driven by an exported policy, with faults.

    kilolayer export zoo:point_u_maze --to policy/
    python -m examples.own_robot_loop policy/ --goal 1,3
    kilolayer-robot run policy/ --robot examples.own_robot_loop:Cart --goal 1,3 --seconds 5

Any object with `observe()`, `act(action)` and `safe_action()` is a robot. This one is a cart on a
floor that loses its camera now and then. It moves like the point that the policy was trained with.
The first command needs `kilolayer`, the others only `kilolayer-robot`. The planner is a plain
function; without one, the policy pursues the goal itself.
"""

import argparse
import time

import numpy as np

from kilolayer_robot import ControlLoop, Policy, Pursuit, Sensed, Timing
from kilolayer_robot.records import Summary

ACCELERATION, DRAG = 6.0, 3.0  # cells/s^2 for an action of 1, and 1/s
LONGEST_STEP = 0.1  # s, of the simulation


class Cart:
    """Observation: place in cells and velocity in cells/s, `[4]`. Goals: places `[2]`. Action: the
    acceleration along each axis, a share of the largest, `[2]`."""

    def __init__(self) -> None:
        self.place, self._velocity, self._action = np.ones(2), np.zeros(2), np.zeros(2)
        self._since, self._looks = time.monotonic(), 0

    def observe(self) -> Sensed:
        self._move()
        self._looks += 1
        seen = np.full(2, np.nan) if self._looks % 20 == 0 else self.place
        return Sensed(np.concatenate([seen, self._velocity]), self.place)

    def act(self, action: np.ndarray) -> None:
        self._move()
        self._action = np.array(action)

    def safe_action(self) -> np.ndarray:
        """Roll to a stop: what the cart does while it sees nothing."""
        return np.zeros(2)

    def _move(self) -> None:
        left, self._since = time.monotonic() - self._since, time.monotonic()
        while left > 0:
            step = min(left, LONGEST_STEP)
            force = ACCELERATION * self._action - DRAG * self._velocity
            self._velocity = self._velocity + step * force
            self.place = self.place + step * self._velocity
            left -= step


def plan(sensed: Sensed) -> np.ndarray:
    """Three subgoals, `[3, 2]`, evenly on the way."""
    assert sensed.goal is not None
    return np.linspace(sensed.achieved_goal, sensed.goal, 4)[1:]


def drive(cart: Cart, policy: Policy, goal: np.ndarray, seconds: float) -> Summary:
    pursuit = Pursuit(chunk=3, execute=3)
    timing = Timing(rate=1 / policy.card.control_step, plan_rate=2)
    loop = ControlLoop(cart, policy.card, policy, plan, goal=goal, pursuit=pursuit, timing=timing)
    return loop.run(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Drive the cart with an exported policy.")
    parser.add_argument("policy", help="the folder of `kilolayer export zoo:point_u_maze --to`")
    parser.add_argument("--goal", default="1,3", help="x,y in cells; default 1,3")
    options = parser.parse_args()
    cart, policy = Cart(), Policy.open(options.policy)
    goal = policy.card.parse_goal(options.goal)
    print(drive(cart, policy, goal, seconds=5.0))
    print(f"the cart is {np.linalg.norm(cart.place - goal):.2f} cells from its goal")
