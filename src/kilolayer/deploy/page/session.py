"""Players side by side in real time: same start, same goal, one clock."""

import dataclasses
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.analysis.value_map import ValueMap
from kilolayer.deploy.listener import Listener
from kilolayer.deploy.page.ground import Ground
from kilolayer.deploy.page.lane import Lane, Planner, Player, Simulator, rounded
from kilolayer.runtime.progress import ProgressDisplay, Silent
from kilolayer.tasks.base import Task
from kilolayer.types import UserError

MAP_RESOLUTION = 40
LINGER = 5.0  # seconds that the clock goes on after the last one has stopped watching
KEEP_ALIVE = 5.0  # seconds until a watcher is told that there is nothing new
PACE_STEPS = 20  # newest steps that the pace is told of

# (goal [goal], x [columns], y [rows]) -> the critic's values there
MapMaker = Callable[[np.ndarray, np.ndarray, np.ndarray], ValueMap]


class Session:
    """A task with one or more players, stepped by a thread of its own while someone watches.

    Everything happens under one lock, so that no step is timed beside a map or another step.
    maps: of the critic, if there is one. listener: who takes sentences, if somebody does. Raises
    UserError if the task's goals are not places x, y.
    """

    def __init__(
        self,
        task: Task,
        players: Sequence[Player],
        maps: MapMaker | None = None,
        planner: Planner | None = None,
        listener: Listener | None = None,
        seed: int = 0,
    ):
        self._task, self._maps, self._listener = task, maps, listener
        self.ground = Ground.of(task)
        self._simulator = Simulator(task)
        self._lanes = [
            Lane(player, task, self.ground, self._simulator, planner) for player in players
        ]
        self._key = jax.random.key(seed)
        self._name = secrets.token_hex(4)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stopped = False
        self._failure: str | None = None
        self._watchers, self._left = 0, 0.0
        self._finished: deque[float] = deque(maxlen=PACE_STEPS)
        self._version, self._episode, self._steps = 0, 0, 0
        self._goal: np.ndarray | None = None
        self._begin()

    def warm_up(self, display: ProgressDisplay | None = None) -> None:
        """Compile all that is needed; seconds, or minutes for a very deep network."""
        display = display or Silent()
        for lane in self._lanes:
            display.phase(lane.player.name)
            lane.warm_up()
        if self._maps is not None:
            display.phase("map")
            self.value_map(self.ground.template[:2])
        if self._listener is not None:
            display.phase("sentences")
            self._listener.hear(self._listener.example)
        self._begin()

    def start(self) -> None:
        """Begin to step, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and let all who watch go."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def set_goal(self, place: Sequence[float], restart: bool) -> dict[str, Any]:
        """Send all players to a place x, y, or to the nearest one that can be a goal.

        restart: from the start of a new episode; else from where they stand, unless that episode
        is over. Returns the place chosen and whether it is not the one asked for.
        """
        asked = np.array(place, float)
        with self._changed:
            chosen = self.ground.nearest(asked)
            over = self._phase() not in ("waiting", "moving")
            self._goal = self.ground.goal(chosen)
            if restart or over:
                self._begin()
            else:
                self._steps = 0
                for lane in self._lanes:
                    lane.tell(self._goal)
            self._publish()
        return {"goal": rounded(chosen), "moved": bool((chosen != asked).any())}

    def say(self, sentence: str, restart: bool) -> dict[str, Any]:
        """Send all players where a sentence says, as `set_goal` does, and tell what it was taken
        for. Raises UserError if nobody listens here, or for what is no sentence."""
        with self._changed:
            heard = self._require_listener().hear(sentence)
            self._finished.clear()
            told = self.set_goal(heard.goal[:2].tolist(), restart)
        return {
            **told,
            "confidence": round(heard.confidence, 4),
            "familiar": heard.familiar,
            "nearest": heard.nearest,
        }

    def rearrange(self) -> None:
        """Other marks, and a new episode that waits for a goal; raises UserError as `say` does."""
        with self._changed:
            self._require_listener().rearrange()
            self._goal = None
            self._begin()
            self._publish()

    def _require_listener(self) -> Listener:
        if self._listener is None:
            raise UserError(
                "nobody understands sentences here: serve the run with a grounding, "
                "`kilolayer serve RUN --grounding DIR`; `kilolayer ground RUN` makes one."
            )
        return self._listener

    def reset(self) -> None:
        """A new episode with the same goal, if there is one."""
        with self._changed:
            self._begin()
            self._publish()

    def value_map(self, place: Sequence[float] | np.ndarray) -> ValueMap:
        """The critic's map for a goal at this place; raises UserError if there is no critic."""
        if self._maps is None:
            raise UserError("there is no critic's map: a policy on its own has no critic.")
        with self._changed:
            goal = self.ground.goal(np.array(place, float))
            found = self._maps(goal, *self.ground.axes(MAP_RESOLUTION))
            self._finished.clear()
            return found

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, someone watches and the clock goes on."""
        with self._changed:
            self._watchers += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._watchers -= 1
                self._left = time.monotonic()

    def frames(self) -> Iterator[str]:
        """Frames as JSON, the first with whole trails; empty where nothing new came for a while."""
        with self._changed:
            seen, episode, frame = self._version, self._episode, self._frame(whole=True)
        while not self._stopped:
            yield frame
            with self._changed:
                news = self._changed.wait_for(
                    lambda seen=seen: self._version != seen or self._stopped, KEEP_ALIVE
                )
                frame = self._frame(whole=self._episode != episode) if news else ""
                seen, episode = self._version, self._episode

    def scene(self) -> dict[str, Any]:
        """What does not change, and the frame of now, as JSON values."""
        with self._changed:
            frame = json.loads(self._frame(whole=True))
        task, x = self._task, self._task.goal.coordinates[0]
        return {
            "task": task.name,
            "unit": x.unit,
            "bounds": self.ground.bounds,
            "walls": self.ground.walls,
            "radius": task.goal.radius,
            "episode": round(task.episode_length * task.world.control_step, 4),
            "players": [
                {"name": lane.player.name, "about": lane.player.about} for lane in self._lanes
            ],
            "map": self._maps is not None,
            "listens": self._listener is not None,
            "frame": frame,
        }

    def _sentences(self) -> dict[str, Any] | None:
        """The marks and a sentence about them, if somebody listens."""
        if self._listener is None:
            return None
        marks = [
            dataclasses.asdict(mark) | {"place": rounded(mark.place)}
            for mark in self._listener.marks
        ]
        return {"marks": marks, "example": self._listener.example}

    def _begin(self) -> None:
        """A new episode: all players in one and the same situation."""
        goal = self.ground.template if self._goal is None else self._goal
        key = jax.random.fold_in(self._key, self._episode)
        situation = self._simulator.begin(key, jnp.asarray(goal))
        for lane in self._lanes:
            lane.begin(situation)
        self._episode, self._steps, self._failure = self._episode + 1, 0, None
        self._finished.clear()

    def _phase(self) -> str:
        if self._failure is not None:
            return "failed"
        if self._goal is None:
            return "waiting"
        ended = all(lane.ended is not None for lane in self._lanes)
        return "over" if ended or self._steps >= self._task.episode_length else "moving"

    def _watched(self) -> bool:
        return self._watchers > 0 or time.monotonic() - self._left < LINGER

    def _may_step(self) -> bool:
        return self._phase() == "moving" and self._watched()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                if not self._may_step():
                    self._finished.clear()
                self._changed.wait_for(lambda: self._stopped or self._may_step())
                if self._stopped:
                    return
                self._step()
                self._publish()
            # A clock that fell behind goes on from now, and gives others a turn at the lock.
            now = time.monotonic()
            due = max(due + self._task.world.control_step, now + 1e-3)
            time.sleep(due - now)

    def _step(self) -> None:
        try:
            # Turn about: on a busy machine the second to be timed has the worse of it.
            for lane in self._lanes[:: 1 if self._steps % 2 else -1]:
                lane.step()
        except UserError as error:
            self._failure = str(error)
        self._steps += 1
        self._finished.append(time.monotonic())

    def _publish(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _pace(self) -> float | None:
        """Simulated over real time, of the newest steps."""
        if len(self._finished) < 2:
            return None
        gone = self._finished[-1] - self._finished[0]
        return (len(self._finished) - 1) * self._task.world.control_step / gone

    def _frame(self, whole: bool) -> str:
        pace = self._pace()
        frame = {
            "session": self._name,
            "phase": self._phase(),
            "failure": self._failure,
            "episode": self._episode,
            "goal": None if self._goal is None else rounded(self._goal[:2]),
            "time": round(self._steps * self._task.world.control_step, 4),
            "pace": None if pace is None else round(pace, 3),
            "lanes": [lane.frame(whole) for lane in self._lanes],
        }
        # What is new with an episode alone.
        frame |= {"sentences": self._sentences()} if whole else {}
        return json.dumps(frame, allow_nan=False)
