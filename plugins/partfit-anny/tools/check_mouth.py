"""Measure how much of the mouth's inside breaks through the skin of the Anny head.

Run as `python tools/check_mouth.py` after `bake_head.py`.

Heads with all kinds of identities and expressions are seen from the front, from both sides, from above and
from below, a pixel to about a square millimetre. A pixel that shows the mouth's inside (cavity, tongue,
teeth) although the skin alone would show its outer face there is a break: through an open mouth the skin
alone shows its inner face, if any. Where that skin is a lip, the lips have crossed one another: the inside of
one lies before the other.
"""

from __future__ import annotations

import attrs
import numpy as np
from scipy.spatial.transform import Rotation

from partfit.meshes import Mesh
from partfit.rendering import render
from partfit_anny.head_assets import HeadArrays, head_arrays

SEED = 6
IDENTITIES, RANDOM_EXPRESSIONS = 40, 200
#: Parts of the mouth's inside.
INSIDE = ("upper_teeth", "lower_teeth", "tongue", "mouth_cavity")
#: What `break_areas` tells apart.
KINDS = (*INSIDE, "lips crossed")
#: Directions of view, degrees: yaw and pitch.
VIEWS = ((0, 0), (-45, 0), (45, 0), (0, 30), (0, -30))
#: Distance of the camera, metres, and side of the square picture, pixels; a pixel at the lips is 1 mm wide.
DISTANCE, SIZE, PIXEL = 0.6, 100, 1e-3
#: A break counts from this area in one view, square metres.
BREAK = 1.5e-6


@attrs.frozen(eq=False)
class Head:
    """The baked head.

    Attributes:
        arrays: Its arrays.
        owner: (F,) which of `INSIDE` a triangle belongs to, -1 for none.
        lips: (F,) whether a triangle belongs to the lips.
    """

    arrays: HeadArrays
    owner: np.ndarray
    lips: np.ndarray

    @classmethod
    def load(cls) -> Head:
        """The asset as it is."""
        arrays = head_arrays()
        owner = np.full(len(arrays.faces), -1)
        for index, name in enumerate(INSIDE):
            owner[np.isin(arrays.faces, arrays.regions[name]).all(axis=1)] = index
        return cls(arrays, owner, np.isin(arrays.faces, arrays.regions["lips"]).all(axis=1))

    def vertices(self, betas: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(V, 3) of a head with these coefficients."""
        arrays = self.arrays
        return arrays.v_template + arrays.shapedirs @ betas + arrays.exprdirs @ expression

    def action(self, name: str, amount: float = 1.0) -> np.ndarray:
        """Coefficients (52,) of one facial action."""
        return amount * (np.array(self.arrays.expression_names) == name)

    def random_betas(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients of a random identity."""
        return rng.normal(size=self.arrays.shapedirs.shape[-1])

    def random_expression(self, rng: np.random.Generator) -> np.ndarray:
        """All actions at once, each as strong as its prior has it; the tongue stays in."""
        std = self.arrays.expression_std
        return np.clip(np.abs(rng.normal(size=len(std))) * std, 0, 1) * (1 - self.action("tongueOut"))


def main() -> None:
    """Print the breaks: by kind, worst cases first."""
    head, rng = Head.load(), np.random.default_rng(SEED)
    neutral, mean = head.action("none"), np.zeros(head.arrays.shapedirs.shape[-1])
    actions = [(name, 1.0) for name in mouth_actions(head)] + [("jawOpen", x) for x in (0.25, 0.5, 0.75)]
    report(
        head,
        "random identities, neutral",
        {f"identity {i}": (head.random_betas(rng), neutral) for i in range(IDENTITIES)},
    )
    report(
        head,
        "single actions, mean head",
        {f"{name} {amount:g}": (mean, head.action(name, amount)) for name, amount in actions},
    )
    report(
        head,
        "random identities and expressions",
        {
            f"head {i}": (head.random_betas(rng), head.random_expression(rng))
            for i in range(RANDOM_EXPRESSIONS)
        },
    )


def mouth_actions(head: Head) -> list[str]:
    """The facial actions of jaw, mouth and cheeks."""
    return [name for name in head.arrays.expression_names if name.startswith(("jaw", "mouth", "cheek"))]


def break_areas(head: Head, vertices: np.ndarray) -> np.ndarray:
    """(5,) square metres of each of `KINDS` that break the skin, in the worst view."""
    middle = vertices[head.arrays.regions["lips"]].mean(axis=0)
    skin = np.flatnonzero(head.owner < 0)
    areas = np.zeros((len(VIEWS), len(KINDS)))
    for row, (yaw, pitch) in zip(areas, VIEWS, strict=True):
        turned = (vertices - middle) @ Rotation.from_euler("yx", [-yaw, pitch], degrees=True).as_matrix().T
        seen = turned * [1.0, -1.0, -1.0] + [0.0, 0.0, DISTANCE]
        shown = _faces_shown(seen, head.arrays.faces)
        behind = _faces_shown(seen, head.arrays.faces[skin])
        broken = (head.owner[shown] >= 0) & (shown >= 0) & (behind >= 0)
        broken[broken] = _faces_camera(seen, head.arrays.faces[skin[behind[broken]]])
        kind = np.where(head.lips[skin[behind[broken]]], len(INSIDE), head.owner[shown[broken]])
        row[:] = np.bincount(kind, minlength=len(KINDS)) * PIXEL**2
    return areas.max(axis=0)


def report(head: Head, title: str, cases: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Print how many cases break, the largest area of each kind, and the three worst cases."""
    areas = np.array([break_areas(head, head.vertices(*case)) for case in cases.values()])
    print(f"{title}: {len(cases)} cases, {(areas > BREAK).any(axis=1).sum()} with breaks")
    for kind, found in zip(KINDS, areas.T, strict=True):
        print(f"  {kind}: {(found > BREAK).sum()} cases, largest {found.max() * 1e6:.0f} mm^2")
    for index in np.argsort(-areas.sum(axis=1), kind="stable")[:3]:
        print(f"    {list(cases)[index]}: {areas[index].sum() * 1e6:.0f} mm^2")


def _faces_shown(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(SIZE * SIZE,) the triangle that each pixel shows, -1 where there is none."""
    middle = (SIZE - 1) / 2
    return render(
        [Mesh(vertices, faces)], DISTANCE / PIXEL, (middle, middle), (SIZE, SIZE)
    ).face_index.ravel()


def _faces_camera(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(n,) whether triangles (n, 3) turn their outer face to the camera at the origin."""
    a, b, c = np.moveaxis(vertices[triangles], 1, 0)
    return (np.cross(b - a, c - a) * a).sum(axis=1) < 0


if __name__ == "__main__":
    main()
