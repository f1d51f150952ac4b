"""The content of the page: the players in the scene and the control panel."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
import viser

from kilolayer.deploy.page.figure import Figure
from kilolayer.deploy.page.session import Frame, Session
from kilolayer.errors import UserError
from kilolayer.physics.native import MujocoWorld
from kilolayer.render.scene import CAMERA_EXTENTS, FIELD_OF_VIEW

GAP = 1.15  # distance between the floors of two players, in widths of the floor
SLIDER_STEPS = 200
ROUNDING = 1e-3  # tolerance in slider steps when the ends are rounded outward
TEXT_INTERVAL = 0.2  # seconds of an episode between two updates of the numbers
# Initial downward angle of the camera, degrees: over open ground, into a maze, and at most.
OPEN, MAZE, STEEPEST = 40, 65, 70
WAITING = {
    True: "Click on the floor, or move the sliders, to set the agent's goal.",
    False: "Move the sliders, or press New goal, to set the agent's goal.",
}


class View:
    """Draws a session's frames and forwards the user's input.

    Input is checked again here, because a page can send any number.
    """

    def __init__(self, server: viser.ViserServer, session: Session):
        self.server, self._session, self._ground = server, session, session.ground
        self._note, self._interpretation = "", ""
        self._last_text: tuple[Any, ...] = ()
        self._mapped_goal: list[float] | None = None
        self._shown_marks: list[Any] | None = None
        width = float(self._ground.size[0])
        self._figures = [
            Figure(server.scene, player.name, self._ground, np.array([number * GAP * width, 0]))
            for number, player in enumerate(session.players)
        ]
        self._aim_camera()
        # Shadows halve the frame rate of a browser without a GPU.
        server.scene.configure_default_lights(cast_shadow=False)
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        server.gui.main_panel.dock_right()
        self._build_panel()
        if self._ground.places:
            server.scene.on_click()(self._clicked)
        server.on_client_connect(lambda client: session.redraw())
        server.on_client_disconnect(lambda client: session.redraw())
        session.attach(self.draw, lambda: len(server.get_clients()))

    def draw(self, frame: Frame) -> None:
        """Update the page to this frame."""
        with self.server.atomic():
            for figure, robot in zip(self._figures, frame.robots, strict=True):
                figure.draw(robot, has_goal=frame.goal is not None)
            self._show_map(frame)
            self._show_marks()
            self._write(frame)

    def _build_panel(self) -> None:
        gui, session = self.server.gui, self._session
        self._status = gui.add_markdown("")
        if session.interpreter is not None:
            self._sentence = gui.add_text("Say where to go", session.interpreter.example)
            self._on_press("Go there", self._say)
            self._on_press("Other markers", session.rearrange)
        self._sliders = {int(number): self._add_slider(int(number)) for number in self._ground.free}
        self._on_press("New goal", lambda: session.new_goal(self._restart.value))
        self._on_press("Start over", session.reset)
        self._pause = gui.add_checkbox("Pause", False)
        self._pause.on_update(self._guarded(lambda: session.pause(self._pause.value)))
        self._restart = gui.add_checkbox("Each goal from the start", len(session.players) > 1)
        self._map = gui.add_checkbox("Critic's map", session.has_map, visible=session.has_map)
        self._map.on_update(self._guarded(session.redraw))
        self._numbers = gui.add_html("")

    def _add_slider(self, number: int) -> Any:
        """Add a slider for one goal coordinate."""
        coordinate = self._ground.task.goal.coordinates[number]
        ends = float(self._ground.low[number]), float(self._ground.high[number])
        # A step that is a power of ten, with ends that are its multiples, is easy to read.
        step = 10.0 ** math.floor(math.log10((ends[1] - ends[0]) / SLIDER_STEPS))
        low = math.floor(ends[0] / step + ROUNDING) * step
        high = math.ceil(ends[1] / step - ROUNDING) * step
        low, high = round(low, 6), round(high, 6)
        start = float(np.clip(self._ground.template[number], low, high))
        label = f"Goal {coordinate.name} ({coordinate.unit})"
        slider = self.server.gui.add_slider(label, low, high, step, start)
        slider.on_update(self._guarded(lambda: self._send(self._slider_goal())))
        return slider

    def _slider_goal(self) -> np.ndarray:
        """The goal `[goal]` that the sliders show."""
        goal = self._ground.template.copy()
        for number, slider in self._sliders.items():
            goal[number] = slider.value
        return goal

    def _on_press(self, label: str, action: Callable[[], None]) -> None:
        self.server.gui.add_button(label).on_click(self._guarded(action))

    def _guarded(self, action: Callable[[], None]) -> Callable[[Any], None]:
        """A callback for viser that reacts to the user only, not to updates by this program."""

        def run(event: Any) -> None:
            if event.client is None:
                return
            self._note, self._interpretation = "", ""
            try:
                action()
            except UserError as error:
                self._note = str(error)
            self._session.redraw()

        return run

    def _send(self, goal: np.ndarray) -> None:
        if not np.isfinite(goal).all():
            raise UserError("a goal is made of finite numbers.")
        self._note_if_moved(self._session.set_goal(goal, self._restart.value))

    def _note_if_moved(self, moved: bool) -> None:
        if moved:
            self._note = "No goal is allowed there, so the goal is the nearest reachable place."

    def _clicked(self, event: viser.SceneClickEvent) -> None:
        """Set the goal's x and y to where the ray of the click meets the floor."""
        origin, direction = np.array(event.ray_origin), np.array(event.ray_direction)
        far = -origin[2] / direction[2] if direction[2] else math.inf
        if not 0 < far < math.inf:
            return  # the sky
        place = (origin + far * direction)[:2]
        centres = [figure.offset + self._ground.centre for figure in self._figures]
        nearest = np.linalg.norm(place - np.array(centres), axis=-1).argmin()
        goal = self._slider_goal()
        goal[:2] = place - self._figures[nearest].offset
        self._guarded(lambda: self._send(goal))(event)

    def _say(self) -> None:
        found, moved = self._session.say(self._sentence.value, self._restart.value)
        self._note_if_moved(moved)
        names = (coordinate.name for coordinate in self._ground.task.goal.coordinates)
        goal = ", ".join(f"{n} {v:.2f}" for n, v in zip(names, found.goal, strict=False))
        self._interpretation = f"Understood: {goal}, confidence {100 * found.confidence:.0f} %."
        if not found.familiar:
            self._interpretation += (
                f" The sentence is unlike the training sentences; the nearest is “{found.nearest}”."
            )

    def _show_map(self, frame: Frame) -> None:
        shown = frame.goal if self._map.value else None
        goal = None if shown is None else shown.tolist()
        if goal == self._mapped_goal:
            return
        self._mapped_goal = goal
        values = None if shown is None else self._session.value_map(shown)
        for figure in self._figures:
            figure.show_map(values)

    def _show_marks(self) -> None:
        if self._session.interpreter is None:
            return
        marks = list(self._session.interpreter.marks)
        if marks != self._shown_marks:
            self._shown_marks = marks
            for figure in self._figures:
                figure.show_marks(marks)

    def _write(self, frame: Frame) -> None:
        """Update status, numbers and sliders, at a rate that stays readable."""
        goal = None if frame.goal is None else tuple(frame.goal.tolist())
        interval = int(frame.time / TEXT_INTERVAL)
        text_key = (frame.phase, frame.episode, goal, interval, self._note, self._interpretation)
        if text_key == self._last_text:
            return
        self._last_text = text_key
        sentences = (self._interpretation, self._note, self._status_of(frame))
        self._status.content = " ".join(sentence for sentence in sentences if sentence)
        self._numbers.content = self._table(frame)
        for number, slider in self._sliders.items():
            if goal is not None:
                slider.value = round(round(goal[number] / slider.step) * slider.step, 6)

    def _status_of(self, frame: Frame) -> str:
        reached = [
            player.name
            for player, robot in zip(self._session.players, frame.robots, strict=True)
            if robot.reached is not None
        ]
        if frame.failure is not None:
            return frame.failure
        if frame.phase == "waiting":
            return WAITING[self._ground.places]
        if len(reached) == len(frame.robots):
            return "Goal reached."
        if frame.phase == "over":
            return "The episode is over."
        if frame.phase == "paused":
            return "Paused."
        return (
            f"The {' and the '.join(reached)} reached the goal."
            if reached
            else "The agent moves toward the goal."
        )

    def _table(self, frame: Frame) -> str:
        unit = self._ground.task.goal.coordinates[0].unit
        episode = self._ground.task.episode_length * self._ground.task.world.control_step
        pace = "–" if frame.pace is None else f"{100 * min(frame.pace, 1):.0f} % of real time"
        robots, players = frame.robots, self._session.players
        latency = [
            ("–", "–") if robot.latency is None else [f"{ms:.3g} ms" for ms in robot.latency]
            for robot in robots
        ]
        rows = [
            ("", [player.name for player in players]),
            ("", [player.about for player in players]),
            ("to the goal", [f"{robot.distance:.2f} {unit}" for robot in robots]),
            ("goal reached after", [_seconds(robot.reached) for robot in robots]),
            ("time at goal", [_seconds(robot.at_goal) for robot in robots]),
            ("median latency", [median for median, _ in latency]),
            ("99th percentile", [p99 for _, p99 in latency]),
        ]
        if any(robot.ended for robot in robots):
            rows.append(("ended", [robot.ended or "" for robot in robots]))
        body = "".join(_row(head, cells) for head, cells in rows)
        clock = f"{frame.time:.1f} s of {episode:.1f} s; {pace}"
        style = "margin:0.5em; font-size:0.8em"
        return f'<div style="{style}"><p>{clock}</p><table>{body}</table></div>'

    def _aim_camera(self) -> None:
        """Place the camera in the south and above; for a fixed robot, use its model's camera."""
        ground, world = self._ground, self._ground.task.world
        camera, side = self.server.initial_camera, float(ground.size.max())
        across = self._figures[-1].offset / 2
        width = 1 + 2 * across[0] / side
        target, distance = np.array([*(ground.centre + across), 0.0]), 1.25 * side
        azimuth, elevation = 90.0, -OPEN if ground.task.maze is None else -MAZE
        if not ground.places and isinstance(world, MujocoWorld):
            azimuth = float(world.model.vis.global_.azimuth)
            elevation = max(float(world.model.vis.global_.elevation), -STEEPEST)
            target = world.model.stat.center + np.array([*across, 0])
            distance = CAMERA_EXTENTS * float(world.model.stat.extent)
        turn, tilt = math.radians(azimuth), math.radians(elevation)
        ahead = np.array(
            [math.cos(tilt) * math.cos(turn), math.cos(tilt) * math.sin(turn), math.sin(tilt)]
        )
        camera.position, camera.look_at = target - distance * width * ahead, target
        camera.fov = FIELD_OF_VIEW


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _row(head: str, cells: Sequence[str]) -> str:
    columns = "".join(f'<td style="padding:0 0 0.2em 1em">{escape(cell)}</td>' for cell in cells)
    return f"<tr><td>{escape(head)}</td>{columns}</tr>"
