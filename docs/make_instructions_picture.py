"""Draws docs/instructions.png: pictures of four tasks with an instruction under each.

Run from the root of the repository: python -m docs.make_instructions_picture
"""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from kilolayer.language.base import Kind
from kilolayer.language.instructions import draw_examples
from kilolayer.language.scenes import draw_pictures
from kilolayer.tasks.registry import make_task

SHOWN: tuple[tuple[str, Kind], ...] = (
    ("point_u_maze", "absolute"),
    ("point_hardest_maze", "relative"),
    ("ant_u_maze", "relative"),
    ("arm_push_hard", "relative"),
    ("arm_reach", "marker"),
    ("pusher_easy", "absolute"),
)
SCALE = 3


def main() -> None:
    figure, axes = plt.subplots(2, 3, figsize=(11, 7.6), layout="constrained")
    for seed, (axis, (name, kind)) in enumerate(zip(axes.flat, SHOWN, strict=True)):
        task = make_task(name)
        example = next(e for e in draw_examples(task, "seen", 30, seed) if e.kind == kind)
        picture = draw_pictures(task, [example.markers])[0]
        axis.imshow(np.repeat(np.repeat(picture, SCALE, 0), SCALE, 1), interpolation="none")
        axis.set_title(name, fontsize=9, color="0.4")
        axis.set_xlabel(example.sentence, fontsize=9)
        axis.set(xticks=[], yticks=[])
    figure.savefig(Path(__file__).with_name("instructions.png"), dpi=80)


if __name__ == "__main__":
    main()
