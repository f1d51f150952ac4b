"""One player in the 3D scene: its floor, bodies, goal and path."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import trimesh
from viser import FrameHandle, MeshHandle, SceneApi

from kilolayer.analysis.value_map import ValueMap
from kilolayer.deploy.page.bodies import poses, shapes
from kilolayer.deploy.page.ground import Ground
from kilolayer.deploy.page.simulation import RobotFrame
from kilolayer.physics.kinematic import PointWorld
from kilolayer.physics.native import MujocoWorld
from kilolayer.render.scene import AGENT, TRAIL
from kilolayer.render.style import FAILURE, SUCCESS, WALL, Mark, rgb

# Lengths as shares of the longer side of the floor.
DOT, THICKNESS, LINE = 0.01, 0.002, 0.003
LINES = 10  # grid cells along the longer side of a floor without a maze
WALL_HEIGHT = 0.3  # cells
PATH_EVERY = 5  # frames between two updates of the drawn path
UNDER, BETWEEN, OVER = 1.0, 1.5, 2.0  # layers above the floor: the map, marks, path and goal


class Figure:
    """Draws one player, shifted by an offset x, y `[2]`.

    Its nodes in the scene are named `/NAME/...`.
    """

    def __init__(self, scene: SceneApi, name: str, ground: Ground, offset: np.ndarray):
        self._scene, self._name, self._ground = scene, f"/{name}", ground
        self._task, self.offset = ground.task, offset
        self._side = float(ground.size.max())
        scene.add_frame(self._name, show_axes=False, position=(*offset, 0))
        self._add_floor(name)
        self._bodies = self._add_bodies()
        self._goals: list[MeshHandle] = []
        self._subgoals: list[MeshHandle] = []
        self._marks: list[MeshHandle] = []
        self._frames = 0
        self._path_lines = scene.add_line_segments(
            f"{self._name}/path",
            np.zeros((1, 2, 3)),
            rgb(TRAIL),
            thickness=LINE * self._side,
        )

    def draw(self, frame: RobotFrame, has_goal: bool) -> None:
        """Draw the player's current frame. has_goal: whether there is a commanded goal to show."""
        self._place_bodies(frame)
        colour = SUCCESS if frame.reached is not None else FAILURE
        goals = self._task.goal_points(frame.goal) if has_goal else np.zeros((0, 3))
        radius, flat = self._task.goal.radius, self._task.goal.dim <= 2
        self._show(self._goals, "goal", goals, radius, flat, colour)
        subgoals = [point for goal in frame.subgoals for point in self._task.goal_points(goal)]
        self._show(self._subgoals, "subgoal", subgoals, 1.5 * DOT * self._side, False, AGENT)
        if self._frames % PATH_EVERY == 0 or len(frame.path) == 1:
            path = frame.path[[0, *range(len(frame.path))]] + self._lift(OVER)
            self._path_lines.points = np.stack([path[:-1], path[1:]], 1).astype(np.float32)
        self._frames += 1

    def show_map(self, values: ValueMap | None) -> None:
        """Draw the critic's values on the floor; None removes them."""
        name = f"{self._name}/map"
        if values is None:
            if self._scene.get_handle_by_name(name) is not None:
                self._scene.remove_by_name(name)
            return
        low, high = np.nanmin(values.value), np.nanmax(values.value)
        share = (values.value.T - low) / max(high - low, 1e-12)
        pixels = matplotlib.colormaps["viridis"](share, bytes=True)
        pixels[np.isnan(share)] = 0
        self._scene.add_image(
            name,
            pixels,
            *self._ground.size.tolist(),
            position=np.array([*self._ground.centre, 0]) + self._lift(UNDER),
        )

    def show_marks(self, marks: Sequence[Mark]) -> None:
        """Replace the coloured discs on the floor."""
        for mark in self._marks:
            mark.remove()
        self._marks = []
        for mark in marks:
            place = np.array([*mark.place, 0]) + self._lift(BETWEEN)
            name = f"mark {mark.name}"
            self._marks.append(self._add_marker(name, mark.radius, True, mark.colour, place))

    def _add_floor(self, name: str) -> None:
        task, ground = self._task, self._ground
        cell = self._side / LINES if task.maze is None else task.maze.cell_size
        centre, (width, height) = ground.centre, ground.size.tolist()
        self._scene.add_grid(
            f"{self._name}/floor",
            width,
            height,
            cell_size=cell,
            section_size=cell,
            plane_color=(238, 240, 243),
            plane_opacity=1.0,
            position=(*centre, 0),
        )
        place = centre[0], ground.bounds[3] + 0.04 * self._side, 0
        self._scene.add_label(f"{self._name}/name", name, position=place)

    def _add_bodies(self) -> list[FrameHandle]:
        """Add the bodies and return their frames; the walls of a point maze have no frame."""
        world = self._task.world
        if not isinstance(world, MujocoWorld):
            self._add_walls()
            radius = world.radius if isinstance(world, PointWorld) else DOT * self._side
            self._radius = radius
            body = self._scene.add_frame(f"{self._name}/body", show_axes=False)
            self._scene.add_icosphere(f"{self._name}/body/point", radius, rgb(AGENT))
            return [body]
        self._poses = poses(world.model)
        bodies = [
            self._scene.add_frame(f"{self._name}/body {number}", show_axes=False)
            for number in range(world.model.nbody)
        ]
        for number, shape in enumerate(shapes(world.model)):
            *colour, opacity = shape.colour
            self._scene.add_mesh_simple(
                f"{self._name}/body {shape.body}/{number}",
                shape.mesh.vertices,
                shape.mesh.faces,
                color=(colour[0], colour[1], colour[2]),
                opacity=None if opacity == 1 else opacity,
                flat_shading=shape.flat,
            )
        return bodies

    def _add_walls(self) -> None:
        if self._task.maze is None:
            return
        height = WALL_HEIGHT * self._task.maze.cell_size
        for number, (x, y, half_x, half_y) in enumerate(self._task.maze.wall_rectangles):
            self._scene.add_box(
                f"{self._name}/wall {number}",
                rgb(WALL),
                (2 * half_x, 2 * half_y, height),
                position=(x, y, height / 2),
            )

    def _place_bodies(self, frame: RobotFrame) -> None:
        if not isinstance(self._task.world, MujocoWorld):
            point = self._task.goal_points(frame.achieved)[0]
            self._bodies[0].position = point + np.array([0, 0, self._radius])
            return
        for body, position, quaternion in zip(self._bodies, *self._poses(frame.qpos), strict=True):
            body.position, body.wxyz = position, quaternion

    def _lift(self, layers: float) -> np.ndarray:
        """Offset `[3]` that keeps flat objects visibly above the floor."""
        return np.array([0, 0, layers * THICKNESS * self._side])

    def _show(
        self,
        markers: list[MeshHandle],
        name: str,
        points: Sequence[np.ndarray] | np.ndarray,
        radius: float,
        flat: bool,
        colour: str,
    ) -> None:
        """Show one marker at each of the points `[points, 3]` and hide the other markers."""
        while len(markers) < len(points):
            label = f"{name} {len(markers)}"
            markers.append(self._add_marker(label, radius, flat, colour, points[len(markers)]))
        for number, marker in enumerate(markers):
            marker.visible = number < len(points)
            if marker.visible:
                marker.position = points[number] + self._lift(OVER if flat else 0)
                marker.color = _bytes(colour)

    def _add_marker(
        self, name: str, radius: float, flat: bool, colour: str, place: Sequence[float] | np.ndarray
    ) -> MeshHandle:
        """Add a disc on the floor, or a translucent ball."""
        if flat:
            mesh = trimesh.creation.cylinder(radius=radius, height=THICKNESS * self._side)
        else:
            mesh = trimesh.creation.icosphere(subdivisions=2, radius=radius)
        return self._scene.add_mesh_simple(
            f"{self._name}/{name}",
            mesh.vertices,
            mesh.faces,
            color=_bytes(colour),
            opacity=0.85 if flat else 0.4,
            flat_shading=flat,
            position=np.asarray(place, float),
        )


def _bytes(colour: str) -> tuple[int, int, int]:
    red, green, blue = rgb(colour)
    return round(255 * red), round(255 * green), round(255 * blue)
