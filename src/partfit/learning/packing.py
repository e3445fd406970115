"""Data sets packed into a folder, so that slow samples are read or rendered once.

Each sample is kept as an upright square picture around its box, large enough for every crop that augmentation
takes, with its landmarks in pixels of that picture. A packed data set is a folder:

    index.json          what was packed and how, which samples could not be used; see `pack`
    shard-00000/        of SHARD_SIZE samples of the data set each: images.npy (N, 3, S, S) uint8, ...;
                        parameters.npy (N, P) and intrinsics.npy (N, 3, 3) where they were asked for

Shards are written under another name and renamed, so that each is whole or absent: packing that was killed
goes on where it stopped, and several processes may pack into one folder. What a shard holds depends on its
samples alone, not on the number of workers.
"""

from __future__ import annotations

import functools
import json
import math
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from partfit.config import to_dict
from partfit.errors import ConfigError, InputError, OutputError
from partfit.files import atomic_write, ensure_writable_folder
from partfit.geometry.crops import Crop, extract_crops
from partfit.landmarks import LandmarkScheme, content_hash
from partfit.learning.augmentation import AugmentationConfig
from partfit.learning.crops import CropRule
from partfit.learning.datasets import Dataset, Sample, SampleError
from partfit.learning.processes import done_by_processes
from partfit.learning.tables import differences

SHARD_SIZE = 64
#: Shards whose pictures are mapped at a time: each holds a file open.
_OPEN_SHARDS = 64
#: Visibility of a landmark of which it is not known.
UNKNOWN = 255
#: Raised when the files of a packed data set change their meaning.
FORMAT_VERSION = 1


@attrs.frozen
class PackRule:
    """How much of a picture around the box is stored, and how finely.

    Attributes:
        extent: Side of the stored square, in units of the box's longer side; its middle is the box's.
        side: Of the stored picture, pixels.
    """

    extent: float
    side: int

    def __attrs_post_init__(self) -> None:
        if not (0 < self.extent < math.inf and self.side >= 2):
            raise ConfigError(f"packing: expected an extent > 0 and a side >= 2 pixels, found {self}.")

    @classmethod
    def for_training(
        cls, crop: CropRule, augmentation: AugmentationConfig, resolution: int, oversampling: float = 1.25
    ) -> PackRule:
        """The rule by which nothing outside the stored picture is needed.

        Args:
            crop: The crops' rule.
            augmentation: How they vary; see `AugmentationConfig.extent`.
            resolution: Of the crops, pixels.
            oversampling: Pixels of the stored picture per pixel of the crop in evaluation. The more, the
                sharper are crops that are looked up between its pixels. Lowered where the largest crop
                would reduce the stored picture by more than two: a bilinear look-up would miss pixels.
        """
        extent = augmentation.extent(crop)
        density = oversampling / (1 + 2 * crop.margin)
        side = math.ceil(min(density, 2 / augmentation.largest_side(crop)) * resolution * extent)
        # two pixels more for the look-up at the border
        return cls(round(extent * (side + 2) / side, 6), side + 2)

    @classmethod
    def for_evaluation(cls, crop: CropRule, resolution: int) -> PackRule:
        """The rule by which the stored picture is the crop itself, as in use."""
        return cls(1 + 2 * crop.margin, resolution)

    def crop(self, box: Float[np.ndarray, " 4"]) -> Crop:
        """The stored square of a box."""
        x0, y0, x1, y1 = box
        return Crop(((x0 + x1) / 2, (y0 + y1) / 2), self.extent * max(x1 - x0, y1 - y0), resolution=self.side)


@attrs.frozen
class BadSample:
    """A sample that was left out.

    Attributes:
        index: Its index in the data set.
        id: Its name, or its index as text where it could not be named.
        problem: Why.
    """

    index: int
    id: str
    problem: str


@attrs.frozen
class PackReport:
    """What came of packing a data set.

    Attributes:
        packed: How many samples can be used.
        bad: Those that were left out.
    """

    packed: int
    bad: tuple[BadSample, ...]

    def __str__(self) -> str:
        lines = [f"{self.packed} samples, {len(self.bad)} left out" + (":" if self.bad else ".")]
        return "\n".join(lines + [f"  {bad.id}: {bad.problem}" for bad in self.bad])


def pack(
    dataset: Dataset,
    folder: str | Path,
    rule: PackRule,
    *,
    source: str = "",
    groups: Mapping[str, int] | None = None,
    workers: int = 1,
    on_bad: Literal["stop", "skip"] = "stop",
    progress: Callable[[int, int], None] | None = None,
) -> PackReport:
    """Pack a data set into a folder; what is there already is kept, so that it can be called each time.

    Samples that could not be used are looked at again: where one can be used now, its shard is packed anew.

    Args:
        dataset: The data set.
        folder: Made if it is missing.
        rule: What is stored of each picture.
        source: The distribution that the data set's code comes from and its version, if known: another
            version may read or render other samples.
        groups: Names and sizes of the model's parameter groups, if their true values and the cameras are to
            be packed too; a sample without them cannot be used.
        workers: Processes that read or render samples, each with one thread. With 1 this process does it.
        on_bad: Whether a sample that cannot be used stops packing, or is left out and reported.
        progress: Called with the numbers of samples that are done and that there are.

    Raises:
        SampleError: for the first sample found that cannot be used, if `on_bad` is `stop`.
        InputError: if the folder holds a data set packed from another configuration, or something else.
        OutputError: if the folder cannot be written.
    """
    folder = ensure_writable_folder(folder)
    content = _Content(dataset.scheme, rule, tuple((groups or {}).items()))
    _claim(folder, _description(dataset, content, source))
    total = len(dataset)
    shards = range(math.ceil(total / SHARD_SIZE))
    there = [shard for shard in shards if _shard_folder(folder, shard).exists()]
    stale = [shard for shard in there if _is_stale(folder, shard, dataset, content)]
    left = sorted({*shards} - {*there} | {*stale})
    done = total - sum(len(_members(total, shard)) for shard in left)
    packer = _Packer(dataset, folder, content, on_bad, frozenset(stale))
    for shard in done_by_processes(packer.pack, left, workers):
        done += len(_members(total, shard))
        if progress is not None:
            progress(done, total)
    report = _report(folder, len(shards))
    if on_bad == "stop" and report.bad:  # packed earlier, when they were to be left out
        raise SampleError(report.bad[0].id, report.bad[0].problem)
    if report.packed == 0:
        raise InputError(f"{folder}: expected samples that can be used, found none. {report}")
    index = {**_read_json(folder / "index.json"), "packed": report.packed}
    _write_json(folder / "index.json", {**index, "bad": [attrs.asdict(bad) for bad in report.bad]})
    for left_over in folder.glob(".shard-*"):  # of processes that were killed
        shutil.rmtree(left_over, ignore_errors=True)
    return report


@attrs.frozen(eq=False)
class PackedSamples:
    """Samples of a packed data set.

    Attributes:
        images: (B, 3, S, S) RGB.
        points: (B, L, 2) landmarks, pixels of the stored picture; NaN where unknown.
        visible: (B, L) 1 in sight, 0 hidden, `UNKNOWN` where that is not known.
        boxes: (B, 4), pixels of the stored picture.
        regions: (B, 3) middle (x, y) and side of the stored square, pixels of the data set's picture.
        index: (B,) indices in the data set.
        ids: Names in the data set.
        parameters: (B, P) of the model, its groups one after another; None if they were not packed.
        intrinsics: (B, 3, 3) cameras, pixels of the data set's pictures; None if they were not packed.
    """

    images: UInt8[np.ndarray, "batch 3 S S"]
    points: Float[np.ndarray, "batch landmarks 2"]
    visible: UInt8[np.ndarray, "batch landmarks"]
    boxes: Float[np.ndarray, "batch 4"]
    regions: Float[np.ndarray, "batch 3"]
    index: Int[np.ndarray, " batch"]
    ids: tuple[str, ...]
    parameters: Float[np.ndarray, "batch P"] | None = None
    intrinsics: Float[np.ndarray, "batch 3 3"] | None = None


class PackedDataset:
    """A packed data set; its pictures are mapped into memory as they are needed.

    Samples that could not be used are not counted.

    Attributes:
        folder: Where it lies.
        scheme: The scheme of its landmarks.
        rule: What is stored of each picture.
        report: How many samples it has, and which were left out.
        knows_visibility: Whether the visibility of any landmark is known.
        groups: Names and sizes of the parameter groups that were packed; empty if none were.
    """

    def __init__(self, folder: str | Path, scheme: LandmarkScheme) -> None:
        """Open a folder that `pack` has filled.

        Raises:
            InputError: if it is not one, is not complete, or is of another scheme.
        """
        folder = Path(folder)
        index = _read_json(folder / "index.json")
        if "packed" not in index:
            raise InputError(f"{folder}: expected a packed data set, found one half packed. Pack it again.")
        if index["packing"]["scheme"] != scheme.hash:
            raise InputError(
                f"{folder}: expected landmarks of the scheme {scheme.name!r} (hash {scheme.hash}), found "
                f"those of another one (hash {index['packing']['scheme']})."
            )
        self.folder = folder
        self.scheme = scheme
        self.rule = PackRule(index["packing"]["extent"], index["packing"]["side"])
        self.groups: dict[str, int] = dict(index["packing"].get("parameters", ()))
        self.report = PackReport(index["packed"], tuple(BadSample(**bad) for bad in index["bad"]))
        folders = [
            _shard_folder(folder, k) for k in range(math.ceil(index["packing"]["samples"] / SHARD_SIZE))
        ]
        shards = [_read_json(shard / "samples.json") for shard in folders]
        self.ids = tuple(name for shard in shards for name in shard["ids"])
        self._starts = np.cumsum([0, *(len(shard["ids"]) for shard in shards)])
        self._images = functools.lru_cache(_OPEN_SHARDS)(
            lambda shard: np.load(folders[shard] / "images.npy", mmap_mode="r")
        )
        names = ["points", "visible", "boxes", "regions", "index"]
        names += ["parameters", "intrinsics"] if self.groups else []
        self._arrays = {
            name: np.concatenate([np.load(shard / f"{name}.npy") for shard in folders]) for name in names
        }
        self.knows_visibility = bool((self._arrays["visible"] != UNKNOWN).any())

    def __reduce__(self) -> tuple[type, tuple[Path, LandmarkScheme]]:
        return type(self), (self.folder, self.scheme)  # a worker process maps the files itself

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: Sequence[int] | np.ndarray) -> PackedSamples:
        """The samples of some rows 0..len-1."""
        rows = np.asarray(rows, dtype=np.int64)
        images = np.empty((len(rows), 3, self.rule.side, self.rule.side), dtype=np.uint8)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        for k, (row, shard) in enumerate(zip(rows, shards, strict=True)):
            images[k] = self._images(int(shard))[row - self._starts[shard]]
        arrays = {name: array[rows] for name, array in self._arrays.items()}
        return PackedSamples(images, ids=tuple(self.ids[row] for row in rows), **arrays)

    @property
    def points(self) -> Float[np.ndarray, "samples landmarks 2"]:
        """(N, L, 2) landmarks of all samples, pixels of their stored pictures; NaN where unknown."""
        return self._arrays["points"]

    @property
    def boxes(self) -> Float[np.ndarray, "samples 4"]:
        """(N, 4) boxes of all samples, pixels of their stored pictures."""
        return self._arrays["boxes"]


@attrs.frozen(eq=False)
class _Content:
    """What is stored of a sample.

    Attributes:
        scheme: Of its landmarks.
        rule: How much of its picture.
        groups: Names and sizes of the parameter groups that are stored, with the camera.
    """

    scheme: LandmarkScheme
    rule: PackRule
    groups: tuple[tuple[str, int], ...]

    def of(self, sample: Sample) -> dict[str, Any]:
        """The arrays of a sample, by the names of the files.

        Raises:
            SampleError: if it cannot be used.
        """
        if len(sample.points) != len(self.scheme):
            expected = len(self.scheme)
            raise SampleError(sample.id, f"expected {expected} landmarks, found {len(sample.points)}.")
        if not np.isfinite(sample.points).all(axis=1).any():
            raise SampleError(sample.id, "expected landmarks of which some place is known, found none.")
        crop = self.rule.crop(sample.box)
        image = torch.tensor(sample.image).permute(2, 0, 1)
        picture = extract_crops(image, [crop])[0].round().clamp(0, 255).to(torch.uint8).numpy()
        unknown = np.full(len(self.scheme), UNKNOWN, dtype=np.uint8)
        return {
            "images": picture,
            "points": crop.from_image(sample.points).astype(np.float32),
            "visible": unknown if sample.visible is None else sample.visible.astype(np.uint8),
            "boxes": crop.from_image(sample.box.reshape(2, 2)).reshape(4).astype(np.float32),
            "regions": np.array([*crop.center, crop.size]),
            **(self._model(sample) if self.groups else {}),
        }

    def _model(self, sample: Sample) -> dict[str, np.ndarray]:
        """The true parameters and the camera."""
        known = {name: np.shape(value) for name, value in (sample.parameters or {}).items()}
        if sample.intrinsics is None or any(known.get(name) != (size,) for name, size in self.groups):
            sizes = ", ".join(f"{name} ({size})" for name, size in self.groups)
            found = ", ".join(f"{name} {shape}" for name, shape in known.items()) or "none"
            raise SampleError(sample.id, f"expected a camera and parameters {sizes}; found {found}.")
        parameters = sample.parameters or {}
        vector = np.concatenate([parameters[name] for name, _ in self.groups])
        return {"parameters": vector.astype(float), "intrinsics": sample.intrinsics}

    def none(self) -> dict[str, np.ndarray]:
        """The arrays of no sample."""
        n, side = len(self.scheme), self.rule.side
        shapes: dict[str, tuple[int, ...]] = {
            "images": (3, side, side),
            "points": (n, 2),
            "visible": (n,),
            "boxes": (4,),
            "regions": (3,),
        }
        if self.groups:
            shapes |= {"parameters": (sum(size for _, size in self.groups),), "intrinsics": (3, 3)}
        types = {"images": np.uint8, "visible": np.uint8, "points": np.float32, "boxes": np.float32}
        return {k: np.zeros((0, *shape), types.get(k, np.float64)) for k, shape in shapes.items()}


@attrs.frozen(eq=False)
class _Packer:
    """Packs single shards; it is what worker processes are given.

    Attributes:
        stale: Shards to pack although they are there.
    """

    dataset: Dataset
    folder: Path
    content: _Content
    on_bad: Literal["stop", "skip"]
    stale: frozenset[int]

    def pack(self, shard: int) -> int:
        """Write a shard, unless it is there and not stale, and return its number."""
        if shard not in self.stale and _shard_folder(self.folder, shard).exists():
            return shard
        rows: list[dict[str, Any]] = []
        ids: list[str] = []
        bad: list[BadSample] = []
        for index in _members(len(self.dataset), shard):
            try:
                sample = self.dataset[index]
                rows.append({**self.content.of(sample), "index": np.int64(index)})
                ids.append(sample.id)
            except SampleError as error:
                if self.on_bad == "stop":
                    raise
                bad.append(BadSample(index, error.sample, error.problem))
            except Exception as error:
                error.add_note(f"This was sample number {index} of the data set.")
                raise
        self._write(shard, self._arrays(rows), {"ids": ids, "bad": [attrs.asdict(one) for one in bad]})
        return shard

    def _arrays(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        if rows:
            return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return {**self.content.none(), "index": np.zeros(0, np.int64)}

    def _write(self, shard: int, arrays: dict[str, np.ndarray], samples: dict[str, Any]) -> None:
        target = _shard_folder(self.folder, shard)
        temporary, old = (self.folder / f".{target.name}-{secrets.token_hex(6)}" for _ in range(2))
        try:
            temporary.mkdir()
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            (temporary / "samples.json").write_text(json.dumps(samples), encoding="utf-8")
            if shard in self.stale:
                target.rename(old)
            temporary.rename(target)
        except OSError as error:
            if not target.exists():  # else another process was quicker
                raise OutputError(f"Cannot write {target}: {error.strerror or error}.") from error
        finally:
            for folder in (temporary, old):
                shutil.rmtree(folder, ignore_errors=True)


def cache_name(
    dataset: Dataset, rule: PackRule, source: str = "", groups: Mapping[str, int] | None = None
) -> str:
    """A name for the folder of a packed data set, unlike that of what is packed otherwise; see `pack`."""
    content = _Content(dataset.scheme, rule, tuple((groups or {}).items()))
    description = json.dumps(_description(dataset, content, source), sort_keys=True)
    return f"{type(dataset).__name__.lower()}-{content_hash(description)}"


def _description(dataset: Dataset, content: _Content, source: str) -> dict[str, Any]:
    """What determines the content of a packed data set."""
    kind = type(dataset)
    return {
        "format": FORMAT_VERSION,
        "dataset": f"{kind.__module__}:{kind.__qualname__}",
        "source": source,
        "config": to_dict(dataset.config),
        "scheme": dataset.scheme.hash,
        "samples": len(dataset),
        "extent": content.rule.extent,
        "side": content.rule.side,
        **({"parameters": content.groups} if content.groups else {}),
    }


def _claim(folder: Path, packing: dict[str, Any]) -> None:
    """Write what is packed into the index, or raise InputError if the folder holds something else."""
    index = folder / "index.json"
    packing = json.loads(json.dumps(packing))
    if not index.exists():
        others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if not others:
            _write_json(index, {"packing": packing})
        elif not index.exists():  # else another process has begun meanwhile
            raise InputError(f"{folder}: expected an empty folder or a packed data set, found {others[0]!r}.")
    changes = [
        f"{key} = {found} (now {asked})"
        for key, (found, asked) in differences(_read_json(index)["packing"], packing).items()
    ]
    if changes:
        raise InputError(
            f"{folder}: expected a data set packed as it is asked for, found one with "
            f"{', '.join(changes)}. Choose another folder, or delete this one."
        )


def _is_stale(folder: Path, shard: int, dataset: Dataset, content: _Content) -> bool:
    """Whether a shard lacks a sample that can be used now."""
    return any(_can_be_used(dataset, bad["index"], content) for bad in _samples(folder, shard)["bad"])


def _can_be_used(dataset: Dataset, index: int, content: _Content) -> bool:
    try:
        content.of(dataset[index])
    except SampleError:
        return False
    return True


def _samples(folder: Path, shard: int) -> dict[str, Any]:
    """What a shard says of its samples: `ids` of the good ones, and `bad` ones."""
    return _read_json(_shard_folder(folder, shard) / "samples.json")


def _report(folder: Path, shards: int) -> PackReport:
    contents = [_samples(folder, shard) for shard in range(shards)]
    bad = tuple(BadSample(**one) for content in contents for one in content["bad"])
    return PackReport(sum(len(content["ids"]) for content in contents), bad)


def _members(total: int, shard: int) -> range:
    """The indices of a shard's samples in the data set."""
    return range(shard * SHARD_SIZE, min(total, (shard + 1) * SHARD_SIZE))


def _shard_folder(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a file of a packed data set: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a file of a packed data set, found something else.")
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
