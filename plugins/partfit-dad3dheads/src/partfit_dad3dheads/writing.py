"""Writes samples of any data set in the format of DAD-3DHeads, for it and for other programs that read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from partfit.errors import InputError
from partfit.files import atomic_write, ensure_writable_folder
from partfit.learning.datasets import Dataset, Sample, SampleError
from partfit_dad3dheads.annotations import CAMERA_AXES, Annotation, write_annotation

#: The attributes that the format has, and their values.
ATTRIBUTES: dict[str, tuple[str | bool, ...]] = {
    "quality": ("hq", "lq"),
    "gender": ("female", "male", "undefined"),
    "expression": (True, False),
    "age": ("child", "young", "middle_aged", "senior"),
    "occlusions": (True, False),
    "pose": ("front", "sided", "atypical"),
    "standard light": (True, False),
}


def write_dataset(
    samples: Dataset | Sequence[Sample], root: str | Path, split: Literal["train", "val", "test"]
) -> Path:
    """Write samples as the split of a data set; begun work is taken up where it ended.

    Each file is whole or absent, and the list of the split comes last: a data set without it is not finished.
    Called again with the same samples, in this or another process, it reads the first one to make sure that
    they are the same, and goes on behind the last one that was written. A finished split that is given more
    samples grows.

    The vertices of an annotation lie about their mean, in the axes of the model where the sample says how it
    is turned: by `parameters["global_orient"]`, a rotvec from the model's frame to OpenCV's camera frame;
    otherwise in the axes of OpenGL's camera. They may be of any model; to read those of another than FLAME,
    set the option `topology` of `dad3dheads`, and `indices` or `mesh`. Of the attributes those are written
    that the format has, and `occlusions` where the sample knows its occlusion. What the format has no place
    for is left out: visibility, occlusion mask, parameters, other attributes.

    Args:
        samples: Samples with vertices and intrinsics, and different ids that can be names of files.
        root: The folder of the data set; made if it is missing.
        split: Which of its splits.

    Returns:
        The list of the split, `<root>/<split>/<split>.json`.

    Raises:
        SampleError: if a sample cannot be used: it has no vertices, or its id is that of another or no name
            of a file. Also what `samples` raises. What was written before stays.
        InputError: if the split was begun with other samples.
        OutputError: if a file cannot be written.
    """
    folder = Path(root) / split
    for part in ("images", "annotations"):
        ensure_writable_folder(folder / part)
    list_file, journal = folder / f"{split}.json", folder / f".{split}.jsonl"
    entries = _begun(list_file, journal)
    if entries:
        _check_same(entries, samples, folder)
    with atomic_write(journal) as temporary:
        temporary.write_text("".join(map(_line, entries)), encoding="utf-8")
    ids = {entry["item_id"] for entry in entries}
    with journal.open("a", encoding="utf-8") as file:
        for index in range(len(entries), len(samples)):
            entry = _write_sample(samples[index], folder, ids)
            file.write(_line(entry))
            file.flush()
            entries.append(entry)
            ids.add(entry["item_id"])
    with atomic_write(list_file) as temporary:
        temporary.write_text(json.dumps(entries), encoding="utf-8")
    journal.unlink(missing_ok=True)
    return list_file


def annotation_of(sample: Sample) -> Annotation:
    """The vertices and matrices that draw a sample as its own camera does, see `write_dataset`.

    P has the sample's intrinsics, from pixels whose centre is a whole number to edges, and y up; its row of
    depth is OpenGL's, from half the depth of the nearest vertex to twice that of the farthest.

    Raises:
        SampleError: if the sample has no vertices, or one that is not in front of the camera.
    """
    if sample.vertices is None or sample.intrinsics is None:
        raise SampleError(sample.id, "expected vertices and intrinsics to write, found none.")
    depth = sample.vertices[:, 2]
    if not (len(depth) and (depth > 0).all()):
        raise SampleError(
            sample.id, "expected vertices in front of the camera (z > 0), found others or none."
        )
    turn = CAMERA_AXES[:3, :3]
    if sample.parameters is not None and "global_orient" in sample.parameters:
        turn = Rotation.from_rotvec(np.ravel(sample.parameters["global_orient"])).as_matrix()
    middle = sample.vertices.mean(axis=0)
    model_view = np.eye(4)
    model_view[:3, :3], model_view[:3, 3] = turn, middle
    row_x, row_y, row_w = sample.intrinsics
    near, far = depth.min() / 2, depth.max() * 2
    projection = np.zeros((4, 4))
    projection[0, :3] = row_x + 0.5 * row_w
    projection[1, :3] = (len(sample.image) - 0.5) * row_w - row_y
    projection[2] = 0, 0, (far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, :3] = row_w
    return Annotation((sample.vertices - middle) @ turn, CAMERA_AXES @ model_view, projection @ CAMERA_AXES)


def _write_sample(sample: Sample, folder: Path, taken: set[str]) -> dict[str, Any]:
    """Write the files of a sample; its entry in the list."""
    if sample.id in taken:
        raise SampleError(sample.id, "expected ids that differ, found this one a second time.")
    if Path(sample.id).name != sample.id or sample.id.startswith(".") or "\\" in sample.id:
        raise SampleError(sample.id, "expected an id that can be the name of a file.")
    annotation = annotation_of(sample)
    entry = _entry(sample, folder.name)
    with atomic_write(folder.parent / entry["img_path"]) as temporary:
        Image.fromarray(sample.image).save(temporary, compress_level=1)  # fast, and hardly larger
    with atomic_write(folder.parent / entry["annotation_path"]) as temporary:
        write_annotation(temporary, annotation)
    return entry


def _entry(sample: Sample, split: str) -> dict[str, Any]:
    """A sample's entry in the list; its box counts from the edges of pixels."""
    x0, y0, x1, y1 = (sample.box + 0.5).tolist()
    return {
        "item_id": sample.id,
        "annotation_path": f"{split}/annotations/{sample.id}.json",
        "img_path": f"{split}/images/{sample.id}.png",
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "attributes": _attributes(sample),
    }


def _attributes(sample: Sample) -> dict[str, str | bool | float]:
    """Those attributes of a sample that the format has."""
    given = dict(sample.attributes)
    if sample.occlusion is not None:
        given.setdefault("occlusions", bool(sample.occlusion.any()))
    known = {}
    for name, values in ATTRIBUTES.items():
        if name in given:
            value = given[name]
            if value not in values or isinstance(value, bool) != isinstance(values[0], bool):
                raise SampleError(sample.id, f"expected the attribute {name!r} in {values}, found {value!r}.")
            known[name] = value
    return known


def _begun(list_file: Path, journal: Path) -> list[dict[str, Any]]:
    """The entries that are written already: those of the journal, or of the finished list."""
    if journal.exists():
        # what follows the last line feed is half a line: the writing was killed
        lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]
    entries: list[dict[str, Any]] = []
    return json.loads(list_file.read_text(encoding="utf-8")) if list_file.exists() else entries


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _check_same(entries: list[dict[str, Any]], samples: Dataset | Sequence[Sample], folder: Path) -> None:
    """Refuse to go on where other samples were begun."""
    same = len(entries) <= len(samples) and _entry(samples[0], folder.name) == entries[0]
    if not same:
        raise InputError(
            f"{folder}: expected these samples or nothing, found {len(entries)} of other ones, the first of "
            f"them {entries[0]['item_id']!r}. Choose another folder, or remove this one."
        )
