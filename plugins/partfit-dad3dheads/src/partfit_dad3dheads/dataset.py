"""The data set `dad3dheads`: heads in photographs, with the mesh that people fitted to each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import attrs
import numpy as np
from jaxtyping import Float

from partfit.errors import InputError
from partfit.geometry.pixels import resize_points
from partfit.images import Picture, load_picture
from partfit.landmarks import LandmarkScheme
from partfit.learning.datasets import Dataset, Sample, SampleError
from partfit.model_files import home_path
from partfit_dad3dheads.annotations import Annotation, numbers, read_annotation
from partfit_dad3dheads.index import HINT, Entry, Split, read_index
from partfit_dad3dheads.landmark_sets import FLAME, landmark_set


class Dad3DHeads(Dataset):
    """Samples of DAD-3DHeads, or of data written in its format (`partfit_dad3dheads.writing`).

    The points are vertices, projected by the annotation's own matrices; `partfit_dad3dheads.annotations` says
    how, and where half a pixel comes from. The box is the list's, which counts from the edges of pixels too.
    Vertices are in OpenCV's camera frame, in the model's own unit and size. Which points are in sight is not
    known. Attributes are those of the list, those that are null left out.

    Of the split `test` as it is distributed, without annotations, the points are NaN.

    What the data set is read from is checked when it is built; a sample when it is asked for.

    Raises:
        InputError: if the root is not the data set, or a list or a file of landmarks is not as it should be.
        ConfigError: if the options do not fit together.
    """

    @attrs.frozen
    class Config:
        """Options of the data set `dad3dheads`.

        Attributes:
            root: The folder `DAD-3DHeadsDataset`, with a folder for each split, or the one it lies in.
            split: `train`, `val` or `test`; `val-a` or `val-b`: the halves of `val`, fixed for ever, the
                first to validate on and the second to test on.
            indices: Which vertices are landmarks: a file of indices counted from 0 (.npy, .txt or .json), or
                one of named regions such as `FLAME_masks.pkl`. By default all vertices.
            region: Of a file of named regions, which one (`head_without_neck` is what its `neck` and
                `boundary` leave over); otherwise what to call the landmarks, by default as the file.
            mesh: A file with the triangles and the vertices at rest: FLAME's model file, or a mesh. Needed
                for `subset`, for flips (a mirror is known only from it), and by heads and losses that ask for
                triangles.
            subset: How many landmarks to keep: halved again and again by decimation, 1609, 805, 403, ...
            topology: Whose vertices they are, as embeddings name it: what scheme names begin with. `flame`
                has 5023 vertices. An annotation of another one has as many as `mesh`, and without a mesh any
                number that holds the landmarks.
        """

        root: Path = attrs.field(metadata={"hint": HINT})
        split: Split = "train"
        indices: Path | None = None
        region: str | None = None
        mesh: Path | None = None
        subset: int | None = None
        topology: str = FLAME

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._folder, self._entries = read_index(home_path(config.root), config.split)
        self._landmarks = landmark_set(
            config.topology, config.indices, config.region, config.mesh, config.subset
        )
        self._withheld = config.split == "test" and not (self._folder / "test" / "annotations").is_dir()

    @property
    def scheme(self) -> LandmarkScheme:  # noqa: D102 (inherited)
        return self._landmarks.scheme

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        """See `Dataset.__getitem__`."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected an index in 0..{len(self) - 1}, found {index}")
        entry = self._entries[index]
        try:
            return self._sample(entry)
        except SampleError:
            raise
        except (InputError, OSError) as error:
            raise SampleError(entry.id, str(error)) from error

    def _sample(self, entry: Entry) -> Sample:
        picture = load_picture(self._path("img_path", entry.image))
        box = picture.to_pixels(_box(entry.box).reshape(2, 2) - 0.5).ravel()
        facts: dict[str, Any] = {"attributes": _attributes(entry.attributes)}
        if self._withheld:
            points = np.full((len(self.scheme), 2), np.nan)
        else:
            annotation = read_annotation(self._path("annotation_path", entry.annotation))
            self._check_count(annotation)
            height = picture.size[1]
            points = picture.to_pixels(annotation.points(height)[self._landmarks.vertices])
            facts["vertices"], intrinsics = annotation.pinhole(height)
            facts["intrinsics"] = _reduction(picture) @ intrinsics
        return Sample(entry.id, picture.pixels, points, box, **facts)

    def _path(self, name: str, relative: Any) -> Path:
        """A file of the data set: its path is relative to the folder of the splits, or to the one above."""
        if not isinstance(relative, str) or not relative:
            raise InputError(f"{name}: expected a path relative to {self._folder}, found {relative!r}.")
        parts = PureWindowsPath(relative)  # which knows the separators and roots of all systems
        if parts.anchor or ".." in parts.parts:
            raise InputError(f"{name}: expected a path that stays in {self._folder}, found {relative!r}.")
        path, above = self._folder / relative, self._folder.parent / relative
        return above if above.exists() and not path.exists() else path

    def _check_count(self, annotation: Annotation) -> None:
        n, expected = len(annotation.vertices), self._landmarks.n_vertices
        if expected is not None and n != expected:
            raise InputError(
                f"expected {expected} vertices, of the topology {self.config.topology!r}, found {n}. For "
                "data of another model set the option topology to its name."
            )
        if self._landmarks.vertices[-1] >= n:
            raise InputError(
                f"expected more than {self._landmarks.vertices[-1]} vertices, as the landmarks' indices ask, "
                f"found {n}. Are the indices those of another model?"
            )


def _box(given: Any) -> Float[np.ndarray, " 4"]:
    """(x0, y0, x1, y1) of [x, y, w, h]."""
    box = numbers({"bbox": given}, "bbox")
    if box.shape != (4,):
        raise InputError(f"bbox: expected the numbers [x, y, w, h], found {given!r}.")
    x, y, w, h = box
    if not (w > 0 and h > 0):
        raise InputError(f"bbox: expected a width and a height above 0, found {given!r}.")
    return np.array([x, y, x + w, y + h])


def _attributes(given: Any) -> Mapping[str, str | bool | float]:
    """The attributes that are known."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"attributes: expected an object, found {given!r}.")
    known = {name: value for name, value in given.items() if value is not None}
    for name, value in known.items():
        if not isinstance(value, str | bool | int | float):
            raise InputError(
                f"attributes: expected a text, true, false or a number as {name!r}, found {value!r}."
            )
    return known


def _reduction(picture: Picture) -> Float[np.ndarray, "3 3"]:
    """From homogeneous pixels of the file's picture to those of what was read, which may be smaller."""
    factor = 1 / picture.reduction
    shift = resize_points(np.zeros(2), factor)
    return np.array([[factor, 0.0, shift[0]], [0.0, factor, shift[1]], [0.0, 0.0, 1.0]])
