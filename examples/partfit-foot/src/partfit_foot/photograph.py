"""Made-up photographs of feet with stickers, to try the plugin with.

python -m partfit_foot.photograph left foot.png
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from partfit.geometry.camera import Camera
from partfit.meshes import Mesh
from partfit.rendering import render
from partfit_foot.foot import SKIN, Foot
from partfit_foot.markers import COLORS, left_markers, right_markers
from partfit_foot.stickers import decode_srgb

_FINER = 3  # rays a pixel, each way
_STICKER_RADIUS = 0.004
_LIGHT, _AMBIENT = np.array([0.35, -0.6, -0.72]), 0.45
_FLOOR = 0.35


def example_state(model: Foot) -> Float[Tensor, "1 parameters"]:
    """A foot of its own shape with lifted toes, seen from above and in front, half a metre away."""
    mirror = 1.0 if model.config.side == "right" else -1.0
    up = Rotation.from_euler("x", 180 + 52, degrees=True) * Rotation.from_euler(
        "y", 12 * mirror, degrees=True
    )
    values = {
        "betas": [[0.8, -0.7, 0.9, -0.6]],
        "foot_pose": [[-0.25, 0.05, -0.5, -0.2, -0.1, -0.05, 0.1]],
        "global_orient": [up.as_rotvec().tolist()],
        "transl": [[-0.03 * mirror, -0.06, 0.72]],
    }
    parameters = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    return model.pack(parameters, like=torch.zeros((), dtype=torch.float64))


def photograph(
    model: Foot, x: Float[Tensor, "1 parameters"], size: tuple[int, int] = (640, 480)
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture (H, W, 3) of a foot with its stickers, by a camera with the default focal length.

    Args:
        model: A foot.
        x: (1, P) its parameters, in the camera frame.
        size: (width, height) in pixels.
    """
    mesh = Mesh(model.vertices(x)[0].numpy(), model.topology.faces)
    embedding = left_markers() if model.config.side == "left" else right_markers()
    stickers = embedding.apply(model.points(x).numpy())[0]
    fine = (size[0] * _FINER, size[1] * _FINER)
    camera = Camera.for_images([fine])
    cx, cy = camera.principal[0].tolist()
    seen = render([mesh], float(camera.focal[0]), (cx, cy), fine)

    hit = np.isfinite(seen.depth)
    points, normals = (
        np.einsum("nk,nkd->nd", seen.barycentric[hit], values[mesh.faces[seen.face_index[hit]]])
        for values in (mesh.vertices, mesh.normals)
    )
    color = np.tile(decode_srgb(np.array(SKIN)), (len(points), 1))
    distance, nearest = KDTree(stickers).query(points)
    covered = distance < _STICKER_RADIUS
    color[covered] = 0.9 * COLORS[nearest[covered]]
    light = _AMBIENT + (1 - _AMBIENT) * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    linear = np.full((*hit.shape, 3), _FLOOR)
    linear[hit] = color * light[:, None]
    # a pixel shows the mean of its rays
    linear = linear.reshape(size[1], _FINER, size[0], _FINER, 3).mean(axis=(1, 3))
    levels = np.arange(256)
    return np.rint(np.interp(linear, decode_srgb(levels / 255), levels)).astype(np.uint8)


if __name__ == "__main__":
    foot = Foot(Foot.Config("left" if sys.argv[1] == "left" else "right"))
    Image.fromarray(photograph(foot, example_state(foot))).save(sys.argv[2])
