"""Landmarks: the schemes that name them, their detections in a picture, and where they lie on a model."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from partfit.arrays import integers, reals, strings
from partfit.component import Component
from partfit.errors import InputError, ShapeError
from partfit.geometry.pixels import resize_points


def content_hash(*parts: np.ndarray | str) -> str:
    """Short hexadecimal digest of arrays and texts: it differs if content, kind, shape or order differ."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            array, kind = np.frombuffer(part.encode(), dtype=np.uint8), "|u1"
        else:
            array, kind = part, "<i8" if part.dtype.kind in "iub" else "<f8"
        digest.update(f"{kind}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()[:16]


@attrs.frozen(eq=False)
class LandmarkScheme:
    """What a landmarker speaks: an ordered set of named points.

    Attributes:
        name: For example `mediapipe468` or `ibug68`.
        names: One name a point; length L.
        version: Raised when the meaning of a point changes.
        triangles: (T, 3) point indices, or empty (0, 3).
        edges: (E, 2) point indices for drawing, or empty (0, 2).
        mirror: (L,) a permutation: the points in a left-right flipped picture, taken in this order, are
            those of `mirror_scheme`. None when the scheme has no exact mirror.
        mirror_scheme: Name of the scheme that a flipped picture shows (a left hand for a right one);
            by default the scheme itself, whose mirror is then its own inverse.
        positions: (L, 3) where the points lie on a typical part at rest, metres, in the frame of models (y
            up). It says which points are near one another and where surfaces bend, for what works on the
            mesh of the scheme; the points of a picture are never compared with it, and `hash` leaves it
            out. None when it is not known.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if an array names a point that is not there, the mirror is not as said above, or a
            position is not finite.
    """

    name: str
    names: tuple[str, ...] = attrs.field(converter=strings, repr=False)
    version: str = "1"
    triangles: np.ndarray = attrs.field(factory=lambda: np.zeros((0, 3)), converter=integers)
    edges: np.ndarray = attrs.field(factory=lambda: np.zeros((0, 2)), converter=integers)
    mirror: np.ndarray | None = attrs.field(default=None, converter=attrs.converters.optional(integers))
    mirror_scheme: str | None = None
    positions: np.ndarray | None = attrs.field(
        default=None, converter=attrs.converters.optional(reals), repr=False
    )

    def __attrs_post_init__(self) -> None:
        n = len(self.names)
        for field, width in (("triangles", 3), ("edges", 2)):
            array = getattr(self, field)
            if array.ndim != 2 or array.shape[1] != width:
                raise ShapeError(f"{field} of scheme {self.name!r}", f"(n, {width})", array.shape)
            if array.size and (array.min() < 0 or array.max() >= n):
                raise InputError(f"{field} of scheme {self.name!r} name a point outside 0..{n - 1}.")
        if self.mirror is not None:
            self._check_mirror(self.mirror)
        elif self.mirror_scheme is not None:
            raise InputError(f"Scheme {self.name!r} names a mirror scheme, but has no mirror.")
        if self.positions is not None:
            if self.positions.shape != (n, 3):
                raise ShapeError(f"positions of scheme {self.name!r}", f"({n}, 3)", self.positions.shape)
            if not np.isfinite(self.positions).all():
                raise InputError(f"The positions of scheme {self.name!r} must be finite.")

    def _check_mirror(self, mirror: np.ndarray) -> None:
        points = np.arange(len(self))
        if mirror.shape != points.shape:
            raise ShapeError(f"mirror of scheme {self.name!r}", f"({len(self)},)", mirror.shape)
        if not np.array_equal(np.sort(mirror), points):
            raise InputError(f"mirror of scheme {self.name!r} must name each of its {len(self)} points once.")
        if self.mirror_scheme in (None, self.name) and not np.array_equal(mirror[mirror], points):
            raise InputError(
                f"mirror of scheme {self.name!r} is not its own inverse; a scheme whose flip shows another "
                "one names that as `mirror_scheme`."
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def hash(self) -> str:
        """Digest of the name, the version and the number of points: what two plugins must agree on."""
        return hashlib.sha256(f"{self.name}\n{self.version}\n{len(self)}".encode()).hexdigest()[:16]


@attrs.frozen(eq=False)
class LandmarkEmbedding:
    """Where the points of a scheme lie on a model's topology: L sparse rows over the model's points.

    A model's points are its V vertices followed by its virtual points (joints, finger tips), see
    `partfit.models.ParametricModel.point_names`. Landmark l is sum_k weights[l, k] * point[indices[l, k]],
    applied after posing. Unused entries have weight 0.

    Attributes:
        scheme: The landmark scheme.
        topology: Name of the topology, for example `anny-head`.
        indices: (L, K) point indices.
        weights: (L, K), each row sums to 1.
        reliability: (L,) in [0, 1]: how well each row is known. A fit divides the landmark's scale by
            its square root, and leaves out a landmark of reliability 0, whose place is not known at all.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if an index is negative, a row does not sum to 1, or a reliability is out of range.
    """

    scheme: LandmarkScheme
    topology: str
    indices: np.ndarray = attrs.field(converter=integers)
    weights: np.ndarray = attrs.field(converter=reals)
    reliability: np.ndarray = attrs.field(converter=reals)

    @reliability.default
    def _certain(self) -> np.ndarray:
        return np.ones(len(self.scheme))

    def __attrs_post_init__(self) -> None:
        n = len(self.scheme)
        if self.indices.ndim != 2 or len(self.indices) != n:
            raise ShapeError(f"indices of {self.label}", f"({n}, K)", self.indices.shape)
        if self.weights.shape != self.indices.shape:
            raise ShapeError(f"weights of {self.label}", str(self.indices.shape), self.weights.shape)
        if self.reliability.shape != (n,):
            raise ShapeError(f"reliability of {self.label}", f"({n},)", self.reliability.shape)
        if (self.indices < 0).any():
            raise InputError(
                f"The rows of {self.label} must refer to points counted from 0; found {self.indices.min()}."
            )
        if not np.allclose(self.weights.sum(axis=1), 1.0, atol=1e-5):
            raise InputError(f"The rows of {self.label} must each sum to 1.")
        if not ((self.reliability >= 0) & (self.reliability <= 1)).all():
            raise InputError(f"The reliability of {self.label} must lie in [0, 1].")

    @property
    def label(self) -> str:
        """How messages name it: `scheme on topology`."""
        return f"embedding {self.scheme.name!r} on {self.topology!r}"

    @property
    def highest_point(self) -> int:
        """The largest index of a point that it refers to; -1 without landmarks."""
        return int(self.indices.max(initial=-1))

    @property
    def hash(self) -> str:
        """Digest of all that it holds, see `hash_parts`."""
        return content_hash(*self.hash_parts())

    def hash_parts(self) -> tuple[np.ndarray | str, ...]:
        """What the hash is taken of: the scheme's hash, the topology, the rows, their reliability.

        A subclass that says more about where landmarks lie adds that.
        """
        return self.scheme.hash, self.topology, self.indices, self.weights, self.reliability

    def apply(self, points: Float[np.ndarray, "*batch points 3"]) -> Float[np.ndarray, "*batch landmarks 3"]:
        """The landmarks (*batch, L, 3) of a model's points (*batch, V + virtual, 3)."""
        return np.einsum("...lkd,lk->...ld", points[..., self.indices, :], self.weights)

    @classmethod
    def of_vertices(cls, scheme: LandmarkScheme, topology: str, vertices: Sequence[int]) -> LandmarkEmbedding:
        """An embedding whose points are vertices (one-hot rows)."""
        indices = np.asarray(vertices)[:, None]
        return cls(scheme, topology, indices, np.ones(indices.shape))

    @classmethod
    def on_triangles(
        cls,
        scheme: LandmarkScheme,
        topology: str,
        faces: Int[np.ndarray, "faces 3"],
        face_index: Int[np.ndarray, " landmarks"],
        barycentric: Float[np.ndarray, "landmarks 3"],
        reliability: Float[np.ndarray, " landmarks"] | None = None,
    ) -> LandmarkEmbedding:
        """An embedding whose points lie inside triangles, by barycentric coordinates."""
        known = {} if reliability is None else {"reliability": reliability}
        return cls(scheme, topology, faces[face_index], barycentric, **known)


@attrs.frozen(eq=False)
class Region:
    """Where a detector sees a part: an oriented box in picture pixels.

    Attributes:
        center: (x, y) of its middle.
        size: (width, height) along its own axes.
        angle: In-plane rotation, radians; positive turns x towards y (clockwise on screen).
        score: In [0, 1].
        side: `left`, `right` or None.
    """

    center: tuple[float, float]
    size: tuple[float, float]
    angle: float = 0.0
    score: float = 1.0
    side: str | None = None


@attrs.frozen(eq=False)
class Start:
    """Where the fit of a model may begin, as a network sees it; it holds for any camera.

    Attributes:
        topology: Name of the topology of the model that it is for.
        coefficients: (size,) of some of its groups that are no rigid motion; the others keep their mean.
        rotation: (3, 3) from the model frame to the axes of a camera that looks straight at `pixel`, +x and
            +y along the picture's.
        pixel: (2,) where the mean of the landmarks lies, picture pixels.
        metres_per_pixel: What a pixel spans at the depth of that mean.
        focal: Focal length in pixels, if the network tells it.
    """

    topology: str
    coefficients: Mapping[str, np.ndarray]
    rotation: np.ndarray = attrs.field(converter=reals)
    pixel: np.ndarray = attrs.field(converter=reals)
    metres_per_pixel: float
    focal: float | None = None

    def mapped(self, factor: float) -> Start:
        """The same start in a picture resized by `factor`."""
        return attrs.evolve(
            self,
            pixel=resize_points(self.pixel, factor),
            metres_per_pixel=self.metres_per_pixel / factor,
            focal=None if self.focal is None else self.focal * factor,
        )


@attrs.frozen(eq=False)
class Detection:
    """The landmarks of one part in one picture, in pixels of the whole picture.

    Attributes:
        scheme: The landmark scheme.
        points: (L, 2) positions.
        scale: (L, 2) standard deviation of each coordinate, > 0; infinite where unknown.
        confidence: (L,) in [0, 1], for people and thresholds.
        score: In [0, 1], how sure the landmarker is that the part is there.
        box: (x0, y0, x1, y1).
        side: `left`, `right` or None.
        points_3d: (L, 3) metres, relative to one another: their common origin means nothing. Axes: those of
            a camera that looks straight at the part, +x and +y along the picture's, +z away. None when the
            landmarker says nothing about depth.
        scale_3d: (L, 3) standard deviation of each coordinate of `points_3d`, metres, > 0; infinite where
            unknown. None exactly when `points_3d` is.
        start: Where a fit of a certain model may begin. None when the landmarker knows no model.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if a confidence does not lie in [0, 1], or one of `points_3d` and `scale_3d` comes
            without the other.
    """

    scheme: LandmarkScheme
    points: np.ndarray = attrs.field(converter=reals)
    scale: np.ndarray = attrs.field(converter=reals)
    confidence: np.ndarray = attrs.field(converter=reals)
    score: float = 1.0
    box: np.ndarray = attrs.field(converter=reals, kw_only=True)
    side: str | None = attrs.field(default=None, kw_only=True)
    points_3d: np.ndarray | None = attrs.field(
        default=None, converter=attrs.converters.optional(reals), kw_only=True
    )
    scale_3d: np.ndarray | None = attrs.field(
        default=None, converter=attrs.converters.optional(reals), kw_only=True
    )
    start: Start | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        n = len(self.scheme)
        shapes = {"points": (n, 2), "scale": (n, 2), "confidence": (n,)}
        shapes |= {"points_3d": (n, 3), "scale_3d": (n, 3)}
        for field, shape in shapes.items():
            array = getattr(self, field)
            if array is not None and array.shape != shape:
                raise ShapeError(f"{field} of a {self.scheme.name!r} detection", str(shape), array.shape)
        if (self.points_3d is None) != (self.scale_3d is None):
            raise InputError(
                f"A {self.scheme.name!r} detection needs `points_3d` and `scale_3d` together, or neither."
            )
        outside = ~((self.confidence >= 0) & (self.confidence <= 1))
        if outside.any():
            raise InputError(
                f"The confidence of a {self.scheme.name!r} detection must lie in [0, 1]; found "
                f"{self.confidence[outside][0]} for point {self.scheme.names[int(outside.argmax())]!r}. "
                "A landmark that is not known has confidence 0 and an infinite scale."
            )

    @box.default
    def _enclosing_box(self) -> np.ndarray:
        known = self.points[np.isfinite(self.points).all(axis=-1)]
        return np.concatenate([known.min(axis=0), known.max(axis=0)]) if len(known) else np.full(4, np.nan)

    @property
    def usable(self) -> Bool[np.ndarray, " landmarks"]:
        """(L,) True where a landmark has a finite position and a finite, positive scale."""
        finite = np.isfinite(self.points).all(axis=1) & np.isfinite(self.scale).all(axis=1)
        return finite & (self.scale > 0).all(axis=1)

    def mapped(self, factor: float) -> Detection:
        """The same detection in a picture resized by `factor`: x' = (x + 0.5) * factor - 0.5."""
        return attrs.evolve(
            self,
            points=resize_points(self.points, factor),
            scale=self.scale * factor,
            box=resize_points(self.box, factor),
            start=None if self.start is None else self.start.mapped(factor),
        )


class Detector(Component):
    """Finds the instances of a part in pictures."""

    kind = "detector"

    @abstractmethod
    def detect(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[list[Region]]:
        """Find the parts in each picture, best score first.

        Args:
            images: RGB, uint8, (H, W, 3), of any and mixed sizes.

        Returns:
            One list of regions for each picture; empty where nothing is found.
        """


class Landmarker(Component):
    """Places the points of a landmark scheme on the parts that a detector found."""

    kind = "landmarker"

    @property
    @abstractmethod
    def scheme(self) -> LandmarkScheme:
        """The scheme of the points it returns."""

    @property
    def detector(self) -> str | None:
        """Name of the detector whose regions it was made for; None where not known, or where any will do."""
        return None

    @property
    def inflation(self) -> float:
        """How many of its landmarks, whose errors are alike, tell as much as one independent one.

        For covariances, see `partfit.fitting.uncertainty.inflation_factor`; 1 where it was not measured.
        """
        return 1.0

    @abstractmethod
    def locate(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        """Locate the landmarks of each region.

        Args:
            images: RGB, uint8, (H, W, 3), of any and mixed sizes.
            regions: For each picture, the regions to look at.

        Returns:
            For each picture, the detections that the landmarker accepts, in the order of the regions;
            a region without the part yields none.
        """
