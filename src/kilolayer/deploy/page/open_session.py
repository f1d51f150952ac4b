"""Opens the page's session from run or policy directories."""

from pathlib import Path

from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Run, load
from kilolayer.analysis.value_map import ValueMapper
from kilolayer.deploy.interpreter import Interpreter
from kilolayer.deploy.page.session import MapMaker, Session
from kilolayer.deploy.page.simulation import NamedPolicy, Planner
from kilolayer.deploy.policy import is_policy, open_policy
from kilolayer.tasks.base import Task
from kilolayer.types import UserError


def open_session(
    teacher: str | Path,
    student: str | Path | None = None,
    planner: Planner | None = None,
    interpreter: Interpreter | None = None,
    seed: int = 0,
) -> Session:
    """A session of one policy, or of two policies side by side.

    teacher, student: run or policy directories of the same task. If the teacher is a run, its
    critic gives the map. Raises UserError if the policies cannot be opened or do not fit, or if the
    task's bodies cannot be shown.
    """
    name = "agent" if student is None else "teacher"
    player, task, maps = _open(name, Path(teacher))
    players = [player]
    if student is not None:
        second, second_task, _ = _open("student", Path(student))
        if (second_task.name, task_spec(second_task)) != (task.name, task_spec(task)):
            raise UserError(
                f"the student {student} plays {second_task.name} and the teacher {teacher} plays "
                f"{task.name}: give two policies of one task."
            )
        players.append(second)
    return Session(task, players, maps, planner, interpreter, seed)


def _open(name: str, path: Path) -> tuple[NamedPolicy, Task, MapMaker | None]:
    if is_policy(path):
        deployed = open_policy(path)
        about = _about(deployed.spec.torso.depth, path)
        return NamedPolicy(name, about, deployed.policy), deployed.task, None
    run = load(path)
    # Open the policy first: a run without a checkpoint is an error, one without a map is not.
    player = NamedPolicy(name, _about(run.plan.actor_torso.depth, path), run.policy)
    return player, run.task, _maps(run)


def _maps(run: Run) -> MapMaker | None:
    try:
        return ValueMapper(run)
    except UserError:
        return None


def _about(depth: int, path: Path) -> str:
    return f"depth {depth}, {path.resolve().name}"
