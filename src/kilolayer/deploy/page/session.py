"""Players side by side in real time, with the same start, goal and clock; opened from runs."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Run, load
from kilolayer.analysis.value_map import ValueMap, ValueMapper
from kilolayer.deploy.interpreter import Interpretation, Interpreter
from kilolayer.deploy.page.ground import Ground
from kilolayer.deploy.page.simulation import (
    NamedPolicy,
    Planner,
    RobotFrame,
    RobotSimulation,
    Simulator,
)
from kilolayer.deploy.policy import is_policy, open_policy
from kilolayer.errors import OutsideError, UserError
from kilolayer.runtime.progress import ProgressDisplay, SilentDisplay
from kilolayer.tasks.base import Task

MAP_RESOLUTION = 40
GRACE_PERIOD = 5.0  # seconds that the clock runs on after the last viewer has left
PACE_STEPS = 20  # newest steps that the shown pace covers
FRAME_INTERVAL = 1 / 30  # least seconds between two frames

# (goal [goal], x [columns], y [rows]) -> the critic's values there
MapMaker = Callable[[np.ndarray, np.ndarray, np.ndarray], ValueMap]
Phase = Literal["waiting", "moving", "paused", "over", "failed"]


@dataclass(frozen=True)
class Frame:
    """The visible state of a session.

    goal `[goal]`: the commanded goal. time: of the episode, s. pace: simulated time divided by real
    time, over the newest steps.
    """

    phase: Phase
    failure: str | None
    episode: int
    goal: np.ndarray | None
    time: float
    pace: float | None
    robots: tuple[RobotFrame, ...]


class Session:
    """A task with one or more players, stepped by its own thread while there are viewers.

    All work happens under one lock, so that no step is timed while a map or another step runs.
    maps: computes the critic's maps, or None. interpreter: understands instructions, or None.
    Raises UserError if the task's bodies cannot be shown.
    """

    def __init__(
        self,
        task: Task,
        players: Sequence[NamedPolicy],
        maps: MapMaker | None = None,
        planner: Planner | None = None,
        interpreter: Interpreter | None = None,
        seed: int = 0,
    ):
        self.task, self.players, self.interpreter = task, tuple(players), interpreter
        self.ground, self._maps, self.has_map = Ground.of(task), maps, maps is not None
        self._simulator = Simulator(task)
        self._robots = [
            RobotSimulation(player, task, self._simulator, planner) for player in players
        ]
        self._key, self._goal_key = jax.random.split(jax.random.key(seed))
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stopped, self._paused = False, False
        self._failure: str | None = None
        self._draw: Callable[[Frame], None] = lambda frame: None
        self._watchers: Callable[[], int] = lambda: 0
        self._last_watched, self._drawn = float("-inf"), 0.0
        self._step_times: deque[float] = deque(maxlen=PACE_STEPS)
        self._episode, self._steps, self._new_goals = 0, 0, 0
        self._goal: np.ndarray | None = None
        self._begin()

    def warm_up(self, display: ProgressDisplay | None = None) -> None:
        """Compile all functions: takes seconds, or minutes for a very deep network."""
        display = display or SilentDisplay()
        for robot in self._robots:
            display.phase(robot.player.name)
            robot.warm_up()
        if self.has_map:
            display.phase("map")
            self.value_map(self.ground.template)
        if self.interpreter is not None:
            display.phase("sentences")
            self.interpreter.interpret(self.interpreter.example)
        self._begin()

    def attach(self, draw: Callable[[Frame], None], watchers: Callable[[], int]) -> None:
        """Draw each frame with `draw`, and step while `watchers` returns more than 0."""
        with self._condition:
            self._draw, self._watchers = draw, watchers
            self._publish()

    def start(self) -> None:
        """Start the thread that steps the session."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and stop drawing."""
        with self._condition:
            self._stopped, self._draw = True, lambda frame: None
            self._condition.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def set_goal(self, goal: np.ndarray, restart: bool) -> bool:
        """Set the goal `[goal]` of all players, or the nearest allowed goal.

        restart: begin a new episode. Otherwise the players continue from their current state,
        unless the episode is over. Returns whether the goal differs from the requested one.
        """
        with self._condition:
            self._goal = self.ground.nearest(np.asarray(goal, float))
            if restart or self._phase() in ("over", "failed"):
                self._begin()
            else:
                self._steps = 0
                for robot in self._robots:
                    robot.set_goal(self._goal)
            self._publish()
            return not np.allclose(self._goal, goal, atol=1e-6)

    def new_goal(self, restart: bool) -> None:
        """Set a goal from the evaluation distribution for all players."""
        with self._condition:
            key = jax.random.fold_in(self._goal_key, self._new_goals)
            self._new_goals += 1
            self.set_goal(np.asarray(self.task.sample_goal(key, 1, "evaluation"))[0], restart)

    def say(self, sentence: str, restart: bool) -> tuple[Interpretation, bool]:
        """Set the goal that a sentence means, as `set_goal` does; return its interpretation and
        whether the goal differs. Raises UserError without an interpreter or for an invalid
        sentence."""
        with self._condition:
            interpretation = self._require_interpreter().interpret(sentence)
            self._step_times.clear()
            return interpretation, self.set_goal(interpretation.goal, restart)

    def rearrange(self) -> None:
        """Replace the marks and begin an episode that waits for a goal.

        Raises UserError without an interpreter.
        """
        with self._condition:
            self._require_interpreter().rearrange()
            self._goal = None
            self._begin()
            self._publish()

    def _require_interpreter(self) -> Interpreter:
        if self.interpreter is None:
            raise UserError(
                "this page has no grounding, so it cannot interpret sentences: use "
                "`kilolayer serve RUN --grounding DIR`; `kilolayer ground RUN` makes a grounding."
            )
        return self.interpreter

    def reset(self) -> None:
        """Begin a new episode with the same goal, if there is one."""
        with self._condition:
            self._begin()
            self._publish()

    def pause(self, paused: bool) -> None:
        """Stop the clock, or let it continue."""
        with self._condition:
            self._paused = paused
            self._publish()

    def redraw(self) -> None:
        """Draw the newest frame; called also when a viewer comes or leaves."""
        with self._condition:
            if not self._watchers():
                self._last_watched = time.monotonic()
            self._publish()

    def value_map(self, goal: np.ndarray) -> ValueMap:
        """The critic's value map for a goal `[goal]`; raises UserError if there is no critic."""
        if self._maps is None:
            raise UserError("there is no critic's map: a policy without its run has no critic.")
        with self._condition:
            found = self._maps(np.asarray(goal, np.float32), *self.ground.axes(MAP_RESOLUTION))
            self._step_times.clear()
            return found

    def frame(self) -> Frame:
        """The current visible state."""
        with self._condition:
            return Frame(
                phase=self._phase(),
                failure=self._failure,
                episode=self._episode,
                goal=self._goal,
                time=self._steps * self.task.world.control_step,
                pace=self._pace(),
                robots=tuple(robot.frame() for robot in self._robots),
            )

    def _begin(self) -> None:
        """Begin a new episode: all players start in the same state."""
        goal = self.ground.template if self._goal is None else self._goal
        key = jax.random.fold_in(self._key, self._episode)
        snapshot = self._simulator.begin(key, jnp.asarray(goal, jnp.float32))
        for robot in self._robots:
            robot.begin(snapshot)
        self._episode, self._steps, self._failure = self._episode + 1, 0, None
        self._step_times.clear()

    def _phase(self) -> Phase:
        if self._failure is not None:
            return "failed"
        if self._goal is None:
            return "waiting"
        all_ended = all(robot.ended is not None for robot in self._robots)
        if all_ended or self._steps >= self.task.episode_length:
            return "over"
        return "paused" if self._paused else "moving"

    def _may_step(self) -> bool:
        watched = self._watchers() > 0 or time.monotonic() - self._last_watched < GRACE_PERIOD
        return self._phase() == "moving" and watched

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._condition:
                if not self._may_step():
                    self._step_times.clear()
                self._condition.wait_for(lambda: self._stopped or self._may_step())
                if self._stopped:
                    return
                self._step()
                if not self._may_step() or time.monotonic() - self._drawn >= FRAME_INTERVAL:
                    self._publish()
            # A clock that is late continues from now. The sleep lets other threads take the lock.
            now = time.monotonic()
            due = max(due + self.task.world.control_step, now + 1e-3)
            time.sleep(due - now)

    def _step(self) -> None:
        try:
            # Alternate the order, since on a busy machine the second player measures as slower.
            for robot in self._robots[:: 1 if self._steps % 2 else -1]:
                robot.step()
        except UserError as error:
            self._failure = str(error)
        # A controller or planner may be the caller's own. Without this the thread would end and the
        # page stand still.
        except Exception as error:
            what, way_out = "a controller or the planner failed", "mend it and start anew"
            self._failure = str(OutsideError.of(what, error, way_out))
        self._steps += 1
        self._step_times.append(time.monotonic())

    def _publish(self) -> None:
        self._drawn = time.monotonic()
        self._draw(self.frame())
        self._condition.notify_all()

    def _pace(self) -> float | None:
        if len(self._step_times) < 2:
            return None
        elapsed = self._step_times[-1] - self._step_times[0]
        return (len(self._step_times) - 1) * self.task.world.control_step / elapsed


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
    player = NamedPolicy(name, _about(run.schedule.actor_torso.depth, path), run.policy)
    return player, run.task, _maps(run)


def _maps(run: Run) -> MapMaker | None:
    try:
        return ValueMapper(run)
    except UserError:
        return None


def _about(depth: int, path: Path) -> str:
    return f"depth {depth}, {path.resolve().name}"
