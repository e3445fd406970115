"""Data sets: pictures with what is known about the landmarks in them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import attrs
import numpy as np
from jaxtyping import Int

from partfit.arrays import reals
from partfit.component import Component
from partfit.errors import InputError
from partfit.landmarks import LandmarkScheme


class SampleError(InputError):
    """A sample that cannot be used: its message names the sample, what was expected and what was found."""

    def __init__(self, sample: str, problem: str) -> None:
        super().__init__(f"Sample {sample!r}: {problem}")
        self.sample = sample
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.sample, self.problem)


@attrs.frozen(eq=False)
class Sample:
    """A picture and the truth about the part in it.

    Attributes:
        id: Names it within its data set.
        image: (H, W, 3) RGB, uint8.
        points: (L, 2) landmarks, picture pixels; NaN where a place is not known.
        box: (x0, y0, x1, y1) around the part, picture pixels; it overlaps the picture.
        visible: (L,) True where a landmark is in sight: inside the picture, and hidden neither by the part
            itself nor by anything else. None if not known.
        occlusion: (H, W) True where something else is seen in front of the part. None if not known.
        vertices: (V, 3) of the part, camera frame (OpenCV), metres or the data set's own unit. None if not
            known.
        intrinsics: (3, 3) pinhole camera, picture pixels. Given if `vertices` is.
        parameters: Named parameter groups of the model that was rendered. None if not known.
        attributes: What else is known, for splits and reports.

    Raises:
        SampleError: if an array has another shape, is not finite where it must be, or the box is empty or
            outside the picture.
    """

    id: str
    image: np.ndarray
    points: np.ndarray = attrs.field(converter=reals)
    box: np.ndarray = attrs.field(converter=reals)
    visible: np.ndarray | None = None
    occlusion: np.ndarray | None = None
    vertices: np.ndarray | None = attrs.field(default=None, converter=attrs.converters.optional(reals))
    intrinsics: np.ndarray | None = attrs.field(default=None, converter=attrs.converters.optional(reals))
    parameters: Mapping[str, np.ndarray] | None = None
    attributes: Mapping[str, str | bool | float] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            self._refuse(
                f"expected a picture (H, W, 3) of uint8, found {self.image.shape} of {self.image.dtype}."
            )
        height, width = self.image.shape[:2]
        n = len(self.points)
        shapes = {"points": (n, 2), "box": (4,), "visible": (n,), "occlusion": (height, width)}
        shapes["intrinsics"] = (3, 3)
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                self._refuse(f"expected {name} {shape}, found {array.shape}.")
        if np.isinf(self.points).any():
            self._refuse("expected finite points, or NaN where unknown; found infinite ones.")
        for name in ("box", "vertices", "intrinsics"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                self._refuse(f"expected finite {name}, found NaN or infinity.")
        if (self.vertices is None) != (self.intrinsics is None):
            self._refuse("expected vertices and intrinsics together, or neither.")
        x0, y0, x1, y1 = self.box
        if x1 <= x0 or y1 <= y0:
            self._refuse(f"expected a box of positive area, found {self.box.tolist()}.")
        if x1 <= 0 or y1 <= 0 or x0 >= width - 1 or y0 >= height - 1:
            self._refuse(f"expected a box in the picture of {width} x {height}, found {self.box.tolist()}.")

    def _refuse(self, problem: str) -> None:
        raise SampleError(self.id, problem)


class Dataset(Component):
    """Samples by number. Built from its `Config`; equal configurations give equal samples.

    It must be picklable as built, so that worker processes can read samples.
    """

    kind = "dataset"

    @property
    @abstractmethod
    def scheme(self) -> LandmarkScheme:
        """The scheme of the points of its samples."""

    @property
    def boxed(self) -> Int[np.ndarray, " boxed"] | None:
        """Indices of the landmarks that the boxes of its samples enclose tightly.

        None where that is all of them, or boxes follow another rule. A network's further looks at a part take
        the box around these.
        """
        return None

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample of an index in 0..len-1, the same one each time.

        Raises:
            SampleError: if this sample cannot be used; others may be.
            IndexError: if there is no such index.
        """


def check_boxed(boxed: np.ndarray | None, scheme: LandmarkScheme) -> None:
    """Raise InputError unless `boxed` is None or names landmarks of a scheme."""
    if boxed is None:
        return
    n = len(scheme)
    if boxed.ndim != 1 or not len(boxed) or boxed.min() < 0 or boxed.max() >= n:
        raise InputError(
            f"The boxed landmarks of {scheme.name!r} must be indices in 0..{n - 1}, at least one."
        )
