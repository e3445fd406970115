"""Find where MediaPipe's 21 hand landmarks lie in the Anny hand; writes `hand21_offsets.npz`.

Run as `python tools/locate_hand21.py` after `bake_hand.py`, and `bake_hand.py` again afterwards; needs
partfit-mediapipe and open3d.

Random hands in random poses are coloured, lit and rendered from random sides, and shown to MediaPipe's
landmarker. A landmark lies at a constant offset, in the rest frame of the joint that carries it, from the
joint or finger tip of its name: the offset whose projections are nearest to what the landmarker said, by
robust least squares over the renders. The residuals of renders that were held out are printed.
"""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from surface import first_hits, vertex_normals

from partfit.geometry.topology import boundary_edges
from partfit.landmarks import Region
from partfit.models import SkinnedModel, SkinningArrays, Topology
from partfit_anny.hand import AnnyHand
from partfit_anny.hand_assets import HandArrays, hand_arrays
from partfit_mediapipe.hand_landmarker import HandLandmarker

OUTPUT = Path(__file__).parent / "hand21_offsets.npz"
SEED = 21
RENDERS = 1500
#: One render in so many is held out.
HELD_OUT = 4
SIZE = 288
#: Camera distance and field covered at that distance, metres.
DISTANCE, FIELD = 0.6, 0.34
#: Length and widening of the fore-arm that is added to the wrist, metres and factor.
ARM, ARM_WIDENING = 0.12, 1.25
#: Renders whose landmarks are, in the median, farther off than this are failures of the landmarker, metres.
FAILURE = 0.02
#: Scale of the robust weights and standard deviation of the prior of an offset, metres.
NOISE, PRIOR = 4e-3, 1e-2

SKIN = np.array([0.85, 0.65, 0.54])


@attrs.frozen(eq=False)
class View:
    """A render and how its pixels follow from the model frame.

    Attributes:
        image: (SIZE, SIZE, 3) RGB uint8.
        rotation: (3, 3) from the model frame to one whose z axis points at the camera.
        center: (3,) the point of the model frame that the camera looks at.
    """

    image: np.ndarray
    rotation: np.ndarray
    center: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3) in the model frame; pixel (0, 0) is a pixel's centre."""
        turned = (points - self.center) @ self.rotation.T
        return turned[..., :2] * [1.0, -1.0] * self._scale(turned) + (SIZE - 1) / 2

    def jacobian(self, points: np.ndarray) -> np.ndarray:
        """Derivative (n, 2, 3) of the pixels by the points (n, 3)."""
        turned = (points - self.center) @ self.rotation.T
        scale = self._scale(turned)[..., None]
        flat = np.zeros((len(points), 2, 3))
        flat[:, 0, 0], flat[:, 1, 1] = 1.0, -1.0
        flat[:, :, 2] = turned[:, :2] * [1.0, -1.0] / (DISTANCE - turned[:, 2:])
        return scale * flat @ self.rotation

    @staticmethod
    def _scale(turned: np.ndarray) -> np.ndarray:
        return SIZE * DISTANCE / FIELD / (DISTANCE - turned[..., 2:])


def main() -> None:
    """Render, ask the landmarker, solve, and save the offsets."""
    hand, rng = hand_arrays("right"), np.random.default_rng(SEED)
    probe, painter = Probe(hand), Painter(hand)
    vertices, bases, turns = probe.evaluate(probe.random_states(RENDERS, rng))
    views = [painter.render(own, rng) for own in vertices]
    seen = _landmarks(views, bases)
    residuals = {i: points - views[i].project(bases[i]) for i, points in seen.items()}
    sane = [i for i, r in residuals.items() if np.median(np.linalg.norm(r, axis=1)) < _pixels(FAILURE)]
    print(f"a hand was found in {len(seen)} of {RENDERS} renders, {len(sane)} of them usable")
    jacobians = np.array([views[i].jacobian(bases[i]) @ turns[i] for i in sane])
    offsets = solve(hand, jacobians, np.array([residuals[i] for i in sane]))
    np.savez_compressed(OUTPUT, names=np.array(hand.landmark_names), offsets=offsets.astype(np.float32))


class Probe:
    """The hand model with a tripod at each landmark's joint or tip: a base, and a point along each axis."""

    def __init__(self, hand: HandArrays) -> None:
        model = AnnyHand(AnnyHand.Config(n_betas=hand.shapedirs.shape[-1]))
        base = hand.landmarks - hand.landmark_offsets
        tripods = base[:, None] + np.concatenate([np.zeros((1, 3)), np.eye(3)])
        n, old = len(hand.v_template), model.arrays
        arrays = SkinningArrays(
            np.concatenate([old.v_template[:n], tripods.reshape(-1, 3)]),
            np.concatenate([old.shapedirs[:n], np.repeat(hand.landmark_shapedirs, 4, axis=0)]),
            np.concatenate([old.lbs_weights[:n], np.repeat(old.lbs_weights[n:], 4, axis=0)]),
            old.joints,
            old.joint_dirs,
            old.parents,
        )
        names = [f"{name}_{foot}" for name in hand.landmark_names for foot in ("base", "x", "y", "z")]
        topology = Topology("probe", n, hand.faces, tuple(names))
        self.model = SkinnedModel(arrays, topology, model.coefficients, model.poses)

    def random_states(self, count: int, rng: np.random.Generator) -> torch.Tensor:
        """Parameters (count, P): identities and poses drawn from the priors, within the limits."""
        x = np.zeros((count, self.model.n_parameters))
        betas, pose = self.model.group("betas"), self.model.group("hand_pose")
        x[:, self.model.slices["betas"]] = rng.normal(size=(count, betas.size))
        root = np.linalg.cholesky(np.linalg.inv(pose.information))
        drawn = pose.prior_mean + rng.normal(size=(count, pose.size)) @ root.T
        x[:, self.model.slices["hand_pose"]] = drawn.clip(pose.lower, pose.upper)
        return torch.as_tensor(x)

    def evaluate(self, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (N, V, 3), bases (N, 21, 3) and rotations of the carrying joints (N, 21, 3, 3)."""
        points = torch.cat([self.model.points(chunk) for chunk in x.split(100)]).numpy()
        n = self.model.topology.n_vertices
        tripods = points[:, n:].reshape(len(x), -1, 4, 3)
        turns = np.swapaxes(tripods[:, :, 1:] - tripods[:, :, :1], -1, -2)
        return points[:, :n], tripods[:, :, 0], turns


def solve(hand: HandArrays, jacobians: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Offsets (21, 3) of all landmarks, metres; prints how far held-out landmarks are off.

    Args:
        hand: The hand.
        jacobians: (N, 21, 2, 3) derivatives of the pixels by the offset.
        residuals: (N, 21, 2) pixels from the joints and tips to what the landmarker said.
    """
    held = np.arange(len(residuals)) % HELD_OUT == 0
    offsets = np.stack([_offset(jacobians[~held, i], residuals[~held, i]) for i in range(residuals.shape[1])])
    left = residuals - np.einsum("nlra,la->nlr", jacobians, offsets)
    before, after = (
        np.median(np.linalg.norm(r[held], axis=2), axis=0) / _pixels(1e-3) for r in (residuals, left)
    )
    for name, offset, old, new in zip(hand.landmark_names, offsets, before, after, strict=True):
        print(
            f"{name:12s} offset {(offset * 1e3).round(1)} mm; held out {old:.1f} mm before, {new:.1f} after"
        )
    print(f"mean of the medians: {before.mean():.2f} mm before, {after.mean():.2f} mm after")
    return offsets


def _offset(jacobian: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """(3,) by iteratively re-weighted least squares with Cauchy weights and a normal prior."""
    offset, noise = np.zeros(3), _pixels(NOISE)
    for _ in range(30):
        left = residual - jacobian @ offset
        weight = 1 / (noise**2 + (left**2).sum(axis=1))
        normal = np.einsum("n,nia,nib->ab", weight, jacobian, jacobian) + np.eye(3) / PRIOR**2
        offset = np.linalg.solve(normal, np.einsum("n,nia,ni->a", weight, jacobian, residual))
    return offset


class Painter:
    """Renders hands with a piece of the fore-arm."""

    def __init__(self, hand: HandArrays) -> None:
        rim = boundary_edges(hand.faces)
        n = len(hand.v_template)
        self._rim = np.unique(rim)
        new = {int(v): n + i for i, v in enumerate(self._rim)}
        arm = [face for a, b in rim for face in ((b, a, new[int(a)]), (b, new[int(a)], new[int(b)]))]
        self._faces = np.concatenate([hand.faces, arm])
        self._colour = np.ones((n + len(self._rim), 3))
        normals = vertex_normals(hand.v_template, hand.faces)
        pale = np.clip(normals[:, 2:] + 0.2, 0, 1)
        self._colour[:n] += 0.12 * pale * [0.9, 1.0, 1.1]
        self._colour[hand.regions["nails"]] = [1.1, 1.05, 1.08]

    def render(self, vertices: np.ndarray, rng: np.random.Generator) -> View:
        """A hand (V, 3) from a random side, in random light, before a plain background."""
        yaw, pitch, roll = rng.uniform([-math.pi, -0.7, -0.5], [math.pi, 0.7, 0.5])
        rotation = Rotation.from_euler("yxz", [yaw, pitch, roll]).as_matrix()
        center = vertices.mean(axis=0) - np.array([0.0, 0.02, 0.0])
        end = vertices[self._rim] * [ARM_WIDENING, 1.0, ARM_WIDENING] - [0, ARM, 0]
        turned = (np.concatenate([vertices, end]) - center) @ rotation.T
        step = FIELD / DISTANCE / SIZE
        x, y = np.meshgrid(np.arange(SIZE) - (SIZE - 1) / 2, (SIZE - 1) / 2 - np.arange(SIZE))
        directions = np.stack([x * step, y * step, np.full_like(x, -1.0)], axis=-1).reshape(-1, 3)
        eye = np.array([0, 0, DISTANCE])
        hit, corners, weights, normals = first_hits(turned, self._faces, eye, directions)
        light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.3, 0.9), 1.0])
        shade = 0.35 + 0.65 * np.clip(normals @ light / np.linalg.norm(light), 0, 1)
        skin = SKIN * rng.uniform(0.5, 1.1) * np.einsum("nk,nkd->nd", weights, self._colour[corners])
        image = np.tile(rng.uniform(0.05, 0.95, 3), (SIZE * SIZE, 1))
        image[hit] = skin * shade[:, None]
        image += rng.normal(scale=0.01, size=image.shape)
        pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8).reshape(SIZE, SIZE, 3)
        return View(pixels, rotation, center)


def _landmarks(views: list[View], bases: np.ndarray) -> dict[int, np.ndarray]:
    """(21, 2) pixels by the index of each render in which the landmarker accepts a hand."""
    regions = []
    for view, points in zip(views, bases, strict=True):
        pixels = view.project(points)
        up = view.project(np.array([[0.0, 0.09, 0.0], [0.0, 0.0, 0.0]]))
        angle = math.atan2(up[0, 0] - up[1, 0], up[1, 1] - up[0, 1])
        side = 1.5 * np.ptp(pixels, axis=0).max()
        regions.append([Region(tuple((pixels.min(axis=0) + pixels.max(axis=0)) / 2), (side, side), angle)])
    found = HandLandmarker().locate([view.image for view in views], regions)
    right = np.mean([own[0].side == "right" for own in found if own])
    print(f"taken for a right hand: {right:.1%}")
    return {i: own[0].points for i, own in enumerate(found) if own}


def _pixels(metres: float) -> float:
    """Pixels of a length at the camera's distance."""
    return metres * SIZE / FIELD


if __name__ == "__main__":
    main()
