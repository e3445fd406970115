"""One annotation of DAD-3DHeads: the vertices of a head and the two matrices of OpenGL that draw them.

With column vectors, a vertex v lies at c = MV [v; 1] in the frame of the camera (x right, y up, the camera
looks along -z), q = P c, and the picture shows it at q0 / q3 from its left and q1 / q3 from its bottom.

Convention: these are pixels of OpenGL's window, whose 0 is the picture's left or bottom **edge**. Three
things in the published code (https://github.com/PinataFarms/DAD-3DHeads) say so: it turns y over by
H - q1 / q3, which takes the one edge to the other (centres would need H - 1); it calls a point present if it
lies between 0 and the width of the crop; and it draws a point into the pixel of its integer part. Here pixel
(0, 0) is the centre of the top-left pixel, hence

    x = q0 / q3 - 1/2,    y = H - q1 / q3 - 1/2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from jaxtyping import Float
from scipy.linalg import rq

from partfit.errors import InputError
from partfit_dad3dheads.json_files import read_json

#: Between the camera frames of OpenGL (y up, looks along -z) and of OpenCV (y down, looks along +z).
CAMERA_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


def _finite(annotation: Annotation, attribute: attrs.Attribute[Any], array: np.ndarray) -> None:
    if attribute.name == "vertices":
        wanted, fits = "(n, 3), n > 0", array.ndim == 2 and array.shape[1] == 3 and len(array) > 0
    else:
        wanted, fits = "(4, 4)", array.shape == (4, 4)
    if not fits:
        raise InputError(f"{attribute.name}: expected shape {wanted}, found {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError(f"{attribute.name}: expected finite numbers, found NaN or infinity.")


@attrs.frozen(eq=False)
class Annotation:
    """The content of `annotations/<ID>.json`.

    Attributes:
        vertices: (V, 3) in the model's frame and unit.
        model_view: (4, 4) MV, from there to OpenGL's camera frame; it may scale. Its last row is
            (0, 0, 0, 1).
        projection: (4, 4) P, to pixels as this module describes them.

    Raises:
        InputError: if an array has another shape, is not finite, or a matrix is singular.
    """

    vertices: np.ndarray = attrs.field(validator=_finite)
    model_view: np.ndarray = attrs.field(validator=_finite)
    projection: np.ndarray = attrs.field(validator=_finite)

    def __attrs_post_init__(self) -> None:
        if not np.allclose(self.model_view[3], [0, 0, 0, 1], rtol=0, atol=1e-6):
            found = self.model_view[3].tolist()
            raise InputError(f"model_view_matrix: expected the last row (0, 0, 0, 1), found {found}.")
        for name, matrix in (
            ("model_view_matrix", self.model_view[:3, :3]),
            ("projection_matrix without its row of depth", self.projection[[0, 1, 3], :3]),
        ):
            if _is_singular(matrix):
                raise InputError(
                    f"{name}: expected a matrix that can be inverted, found a singular one "
                    f"({np.array2string(matrix, precision=4, separator=', ')})."
                )

    @property
    def scale(self) -> float:
        """The factor by which MV lengthens: the cube root of what it does to volumes, > 0."""
        return float(np.abs(np.linalg.det(self.model_view[:3, :3])) ** (1 / 3))

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """MV's linear part in OpenCV's camera frame, without `scale`: a rotation if MV has no shear."""
        return (CAMERA_AXES @ self.model_view)[:3, :3] / self.scale

    def points(self, height: int) -> Float[np.ndarray, "vertices 2"]:
        """The vertices in a picture of that height; pixel (0, 0) is the centre of the top-left one.

        Raises:
            InputError: if a vertex is not in front of the camera (q3 <= 0), or numbers are too large.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            q = self._camera_points() @ self.projection.T
        if not np.isfinite(q).all():
            raise InputError("expected numbers of a bearable size, found points that are not finite.")
        behind = np.flatnonzero(~(q[:, 3] > 0))
        if len(behind):
            raise InputError(
                f"expected every vertex in front of the camera (q3 > 0), found q3 = {q[behind[0], 3]:g} of "
                f"vertex {behind[0]} ({len(behind)} of {len(q)} are not)."
            )
        return np.stack([q[:, 0] / q[:, 3], height - q[:, 1] / q[:, 3]], axis=1) - 0.5

    def pinhole(self, height: int) -> tuple[Float[np.ndarray, "vertices 3"], Float[np.ndarray, "3 3"]]:
        """The same as a pinhole camera: vertices X in OpenCV's camera frame and intrinsics K, x ~ K X.

        MV's scale is divided out, which a picture cannot show: the vertices keep the size that they have in
        the model's frame. P may be any camera that does not mirror: with [A | b] its rows 0, 1 and 3 as maps
        from OpenCV's frame to pixels, A = K R (R is the identity for a P of the usual form), and the vertices
        are R (X + A^-1 b).

        Raises:
            InputError: if P mirrors.
        """
        row_x, row_y, row_w = self.projection[[0, 1, 3]]
        rows = np.stack([row_x - 0.5 * row_w, (height - 0.5) * row_w - row_y, row_w]) @ CAMERA_AXES
        A, b = rows[:, :3], rows[:, 3]
        if np.linalg.det(A) < 0:
            raise InputError(
                "projection_matrix: expected a camera that does not mirror, found one that does."
            )
        K, R = rq(A)
        signs = np.sign(np.diag(K))
        K, R = K * signs, signs[:, None] * R
        seen = (self._camera_points() @ CAMERA_AXES)[:, :3] + np.linalg.solve(A, b)
        return seen @ R.T / self.scale, K / K[2, 2]

    def _camera_points(self) -> Float[np.ndarray, "vertices 4"]:
        """The points c of the vertices, homogeneous."""
        return self.vertices @ self.model_view[:, :3].T + self.model_view[:, 3]


def read_annotation(path: Path) -> Annotation:
    """Read `annotations/<ID>.json`.

    Raises:
        InputError: if the file is missing, is no JSON, or an entry is missing or not as it should be.
    """
    content = read_json(path, "an annotation")
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a JSON object, found a {type(content).__name__}.")
    names = ("vertices", "model_view_matrix", "projection_matrix")
    try:
        return Annotation(*(numbers(content, name) for name in names))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_annotation(path: Path, annotation: Annotation) -> None:
    """Write `annotations/<ID>.json`; the numbers are read back exactly."""
    content = {
        "vertices": annotation.vertices.tolist(),
        "model_view_matrix": annotation.model_view.tolist(),
        "projection_matrix": annotation.projection.tolist(),
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def numbers(content: Mapping[str, Any], name: str) -> np.ndarray:
    """An entry of a JSON object as an array of real numbers.

    Raises:
        InputError: if there is none of this name, or it holds something else.
    """
    if name not in content:
        raise InputError(f"expected an entry {name!r}, found only: {', '.join(content)[:200]}.")
    try:
        array = np.asarray(content[name])
    except ValueError as error:
        raise InputError(f"{name}: expected rows of one length, found different ones.") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: expected numbers, found something else among them.")
    return array.astype(np.float64)


def _is_singular(matrix: Float[np.ndarray, "3 3"]) -> bool:
    """Whether its determinant is nothing beside that of a matrix of so long rows at right angles."""
    return bool(np.abs(np.linalg.det(matrix)) <= 1e-9 * np.prod(np.linalg.norm(matrix, axis=1)))
