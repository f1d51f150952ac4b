"""Bring a robot of your own: an arm that Gymnasium ships learns to bring its gripper to places.

    python -m examples.own_robot arm.xml
    kilolayer inspect --mjcf arm.xml --goal-site gripper
    kilolayer train --mjcf arm.xml --goal-site gripper

Nothing here is needed for a file that has a named site or body where you want one. Gymnasium's arm
(seven joints, a two-pronged end) has neither between its prongs, so this script adds a site, and
takes away the table's objects. `docs/own_robot.md` says what `--mjcf` assumes and how to change it.
"""

import importlib.util
import sys
from pathlib import Path

import mujoco


def write_arm(target: str) -> None:
    """Write Gymnasium's arm with a site `gripper` between its prongs."""
    gymnasium = importlib.util.find_spec("gymnasium")
    if gymnasium is None or gymnasium.origin is None:
        raise SystemExit("this example takes its arm from Gymnasium: pip install gymnasium")
    assets = Path(gymnasium.origin).parent / "envs" / "mujoco" / "assets"
    spec = mujoco.MjSpec.from_file(str(assets / "pusher_v5.xml"))
    for name in ("object", "goal"):
        spec.delete(spec.body(name))
    spec.body("tips_arm").add_site(name="gripper", pos=[0.1, 0, 0], size=[0.02, 0, 0])
    spec.compile()
    Path(target).write_text(spec.to_xml())


if __name__ == "__main__":
    write_arm(sys.argv[1])
