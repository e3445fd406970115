"""Questions about the surface of a mesh that a ray caster answers."""

from __future__ import annotations

import ctypes
import math

import libusb_package
import numpy as np

ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)  # open3d links to it

import open3d as o3d  # noqa: E402

#: Rays start this far off the surface, metres.
OFFSET = 3e-4
VIEW_YAW = np.radians([-75, -50, -25, 0, 25, 50, 75])
VIEW_PITCH = np.radians([-30, 0, 30])


def visible_directions(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V,) the fraction of the views around the front (+z) of a mesh that see each vertex."""
    scene, normals = _scene(vertices, faces), vertex_normals(vertices, faces)
    seen = np.zeros(len(vertices))
    for yaw in VIEW_YAW:
        for pitch in VIEW_PITCH:
            across, up, forward = math.sin(yaw), math.sin(pitch), math.cos(yaw)
            to_viewer = np.array([across * math.cos(pitch), up, forward * math.cos(pitch)])
            start = vertices + OFFSET * (normals + to_viewer)
            rays = np.concatenate([start, np.broadcast_to(to_viewer, start.shape)], axis=1)
            blocked = np.isfinite(scene.cast_rays(rays.astype(np.float32))["t_hit"].numpy())
            seen += ~blocked & (normals @ to_viewer > 0)
    return seen / (len(VIEW_YAW) * len(VIEW_PITCH))


def first_hits(
    vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What rays from one origin along directions (R, 3) meet first.

    Returns:
        hit (R,) whether a ray meets the mesh; and for those that do: the corners (n, 3) of the triangle, the
        barycentric weights (n, 3) and the smooth normal (n, 3) at the spot.
    """
    rays = np.concatenate([np.broadcast_to(origin, directions.shape), directions], axis=1)
    answer = _scene(vertices, faces).cast_rays(rays.astype(np.float32))
    hit = np.isfinite(answer["t_hit"].numpy())
    corners = faces[answer["primitive_ids"].numpy()[hit].astype(int)]
    second, third = answer["primitive_uvs"].numpy()[hit].astype(float).T
    weights = np.stack([1 - second - third, second, third], axis=1)
    normals = np.einsum("nk,nkd->nd", weights, vertex_normals(vertices, faces)[corners])
    return hit, corners, weights, normals


def closest_on_surface(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The triangle (P,) nearest to each point and the barycentric coordinates (P, 3) of the nearest spot."""
    answer = _scene(vertices, faces).compute_closest_points(points.astype(np.float32))
    face = answer["primitive_ids"].numpy().astype(int)
    second, third = answer["primitive_uvs"].numpy().astype(float).T
    barycentric = np.clip(np.stack([1 - second - third, second, third], axis=1), 0.0, 1.0)
    return face, barycentric / barycentric.sum(axis=1, keepdims=True)


def distances_to_surface(
    vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """How far (R,) rays from one origin along unit directions (R, 3) go to the mesh; infinite past it."""
    rays = np.concatenate([np.broadcast_to(origin, directions.shape), directions], axis=1)
    return _scene(vertices, faces).cast_rays(rays.astype(np.float32))["t_hit"].numpy().astype(float)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, averaged over the triangles by area."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces, np.cross(b - a, c - a)[:, None])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _scene(vertices: np.ndarray, faces: np.ndarray) -> o3d.t.geometry.RaycastingScene:
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(vertices.astype(np.float32), faces.astype(np.uint32))
    return scene
