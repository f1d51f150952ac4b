"""Meshes and poses of the bodies of a MuJoCo model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import trimesh

GEOM = mujoco.mjtGeom
SHOWN_GROUPS = 3  # MuJoCo's viewer shows geoms of the first three groups
PLAIN = (0.5, 0.5, 0.5, 1)  # MuJoCo's default colour of a geom


@dataclass(frozen=True)
class Shape:
    """All geoms of one body with the same colour, as one mesh.

    mesh: in the body's frame, m. colour: red, green, blue, opacity, in 0 to 1. flat: whether to
    shade each face flat, for boxes.
    """

    body: int
    mesh: trimesh.Trimesh
    colour: tuple[float, float, float, float]
    flat: bool


def shapes(model: Any) -> list[Shape]:
    """The visible shapes of a model, without its planes."""
    shown = (
        geom
        for geom in range(model.ngeom)
        if model.geom_group[geom] < SHOWN_GROUPS and _colour(model, geom)[3] > 0
    )
    parts: dict[tuple, list[trimesh.Trimesh]] = {}
    for geom in shown:
        mesh = _mesh(model, geom)
        if mesh is not None:
            flat = model.geom_type[geom] == GEOM.mjGEOM_BOX
            key = int(model.geom_bodyid[geom]), _colour(model, geom), bool(flat)
            parts.setdefault(key, []).append(mesh)
    return [
        Shape(body, _merged(meshes), colour, flat) for (body, colour, flat), meshes in parts.items()
    ]


def _merged(meshes: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    merged = trimesh.util.concatenate(meshes)
    assert isinstance(merged, trimesh.Trimesh)
    return merged


def _colour(model: Any, geom: int) -> tuple[float, float, float, float]:
    material, own = model.geom_matid[geom], model.geom_rgba[geom]
    colour = model.mat_rgba[material] if material >= 0 and np.allclose(own, PLAIN) else own
    red, green, blue, opacity = colour.tolist()
    return red, green, blue, opacity


def _mesh(model: Any, geom: int) -> trimesh.Trimesh | None:
    """A geom's mesh in the frame of its body; None for planes and other types without a mesh."""
    size, creation = model.geom_size[geom], trimesh.creation
    match GEOM(model.geom_type[geom]):
        case GEOM.mjGEOM_BOX:
            mesh = creation.box(extents=2 * size)
        case GEOM.mjGEOM_SPHERE:
            mesh = creation.icosphere(subdivisions=2, radius=size[0])
        case GEOM.mjGEOM_ELLIPSOID:
            mesh = creation.icosphere(subdivisions=2)
            mesh.apply_scale(size)
        case GEOM.mjGEOM_CAPSULE:
            mesh = creation.capsule(height=2 * size[1], radius=size[0], count=[16, 8])
        case GEOM.mjGEOM_CYLINDER:
            mesh = creation.cylinder(radius=size[0], height=2 * size[1])
        case GEOM.mjGEOM_MESH:
            mesh = _mesh_asset(model, model.geom_dataid[geom])
        case _:
            return None
    pose = trimesh.transformations.quaternion_matrix(model.geom_quat[geom])
    pose[:3, 3] = model.geom_pos[geom]
    mesh.apply_transform(pose)
    return mesh


def _mesh_asset(model: Any, number: int) -> trimesh.Trimesh:
    vertex, face = model.mesh_vertadr[number], model.mesh_faceadr[number]
    vertices = model.mesh_vert[vertex : vertex + model.mesh_vertnum[number]]
    faces = model.mesh_face[face : face + model.mesh_facenum[number]]
    return trimesh.Trimesh(vertices, faces, process=False)


# qpos [nq] -> positions [bodies, 3] and quaternions [bodies, 4], w first
Poses = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def poses(model: Any) -> Poses:
    """A function from joint positions to the poses of the model's bodies."""
    data = mujoco.MjData(model)

    def at(qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        return data.xpos, data.xquat

    return at
