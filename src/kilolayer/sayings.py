"""Options that name a goal in a sentence, and what was understood. Like `cli.py`, no logic."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kilolayer.errors import bad_field
from kilolayer.terminal import OUTPUT

if TYPE_CHECKING:
    from kilolayer.deploy.listener import Heard
    from kilolayer.tasks.base import Task


def require_alone(
    sentence: str | None, with_it: Mapping[str, Any], without_it: Mapping[str, Any]
) -> None:
    """Raises UserError for options that need a sentence, or that a sentence makes useless."""
    if sentence is None:
        for name, value in with_it.items():
            if value is not None:
                raise bad_field(name, str(value), "it goes with a sentence, add --say SENTENCE")
        return
    for name, value in without_it.items():
        if value:
            raise bad_field(name, value, "--say says where to go, leave one of them away")


def tell_heard(heard: "Heard", task: "Task") -> None:
    """Print the goal that was understood from a sentence, and the confidence."""
    goal = ", ".join(
        f"{coordinate.name} {value:.2f} {coordinate.unit}"
        for coordinate, value in zip(task.goal.coordinates, heard.goal, strict=True)
    )
    OUTPUT.print(f"understood  {goal}   confidence {heard.confidence:.0%}")
    if heard.familiar:
        OUTPUT.print("the sentence is like those that were learnt")
    else:
        OUTPUT.print(
            "the sentence is unlike those that were learnt; the nearest of them is "
            f"“{heard.nearest}”"
        )
