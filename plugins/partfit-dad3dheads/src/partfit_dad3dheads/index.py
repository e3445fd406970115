"""Which samples a split of DAD-3DHeads has: the list `<split>/<split>.json`, read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from partfit.errors import InputError
from partfit_dad3dheads.json_files import read_json

Split: TypeAlias = Literal["train", "val", "test", "val-a", "val-b"]

#: The name of the data set's folder as it is distributed.
FOLDER = "DAD-3DHeadsDataset"
#: Ends the messages about a folder that is not the data set.
HINT = (
    "DAD-3DHeads (CC BY-NC-SA 4.0, not for commercial use) is sent to those who fill in the form on its "
    "page, https://www.pinatafarm.com/research/dad-3dheads/dataset."
)
#: Goes into the digests that halve the validation split. To change it is to change what was tested on.
_HALVES_SEED = "partfit dad3dheads val 0"


@attrs.frozen
class Entry:
    """One entry of a split's list. But for the id it is taken as it was found, and checked when it is used.

    Attributes:
        id: The sample's name, `item_id`.
        image: Path of the picture, relative to the data set.
        annotation: Path of the annotation.
        box: [x, y, w, h], pixels; 0 is the picture's left or top edge.
        attributes: What is known about the picture.
    """

    id: str
    image: Any
    annotation: Any
    box: Any
    attributes: Any


def dataset_folder(root: Path, split: str) -> Path:
    """The folder that holds the splits: `root`, or `DAD-3DHeadsDataset` in it.

    Raises:
        InputError: if neither has the split's list.
    """
    for folder in (root, root / FOLDER):
        if (folder / split / f"{split}.json").is_file():
            return folder
    if not root.is_dir():
        raise InputError(f"{root}: expected the folder of DAD-3DHeads, found no such folder. {HINT}")
    names = sorted(path.name for path in root.iterdir())[:8]
    raise InputError(
        f"{root}: expected the folder of DAD-3DHeads with the list {split}/{split}.json, found "
        f"{', '.join(names) or 'an empty folder'}. {HINT}"
    )


def read_index(root: Path, split: Split) -> tuple[Path, list[Entry]]:
    """The folder that paths are relative to, and the entries of a split in the order of its list.

    `val-a` and `val-b` are the halves of `val`, see `halves`.

    Raises:
        InputError: if the root is not the data set, or the list is broken or names a sample twice.
    """
    name = "val" if split in ("val-a", "val-b") else split
    folder = dataset_folder(root, name)
    entries = read_list(folder / name / f"{name}.json")
    if split != name:
        chosen = halves(entry.id for entry in entries)[0 if split == "val-a" else 1]
        entries = [entry for entry in entries if entry.id in chosen]
    if not entries:
        raise InputError(f"{folder}: expected samples in the split {split!r}, found none.")
    return folder, entries


def read_list(path: Path) -> list[Entry]:
    """The entries of one `<split>.json`.

    Raises:
        InputError: if it is no list of objects that each have an `item_id` of its own.
    """
    content = read_json(path, "a list of samples")
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list of samples, found a {type(content).__name__}.")
    entries = [_entry(path, number, item) for number, item in enumerate(content)]
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise InputError(
                f"{path}: expected each item_id once, found {entry.id!r} twice. Remove one of them."
            )
        seen.add(entry.id)
    return entries


def _entry(path: Path, number: int, item: Any) -> Entry:
    name = item.get("item_id") if isinstance(item, Mapping) else None
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: expected objects with an item_id, found none in entry {number}.")
    return Entry(
        name, item.get("img_path"), item.get("annotation_path"), item.get("bbox"), item.get("attributes")
    )


def halves(ids: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Two halves of some ids, the same on every machine: the first is the larger if their number is odd.

    The ids are sorted by the SHA-256 digest of a fixed seed, a line feed and the id, and cut in the
    middle. The 4,312 ids of the validation split give 2,156 and 2,156: the sizes of the thesis' validation
    and test sets (section 4.5), of which it does not say which samples they are.
    """
    ordered = sorted(ids, key=lambda name: hashlib.sha256(f"{_HALVES_SEED}\n{name}".encode()).digest())
    middle = (len(ordered) + 1) // 2
    return frozenset(ordered[:middle]), frozenset(ordered[middle:])
