"""How well the landmarkers of faces and hands know their own errors, on labelled photographs.

    python benchmarks/calibration.py FACES.json [--hands HANDS.json]

FACES.json is that of `benchmarks/faces.py`, HANDS.json that of `benchmarks/hands.py`. The script prints JSON:
`faces`, and for hands `points` and `points_3d`, each with

- `looks`: for each number of looks at a part the mean distance from the labels, in percent of its size;
  Spearman's rank correlation over all points of all parts between that distance and the spread of the looks,
  the scale and the confidence; `gain`, by how many nats a coordinate Gaussians of the scales make the errors
  likelier than those of the scales without spread do, each kind multiplied by its best factor; and
  milliseconds of CPU a part;
- `spread_factor`: the landmarker's factor fitted on all pictures, and its range over the fits that leave out
  one fold each. It is 0 where the scales without spread are large enough;
- `coverage_percent`: how many of the errors lie in the regions that should hold 50, 68, 90 and 95% of them:
  the ellipses of a Gaussian with the scales as standard deviations. With `held_out` each fold is judged by
  the factor fitted on the others. `about_mean_offset` subtracts from each error the point's mean error in the
  other folds: what labels and network define differently;
- `single_look_factor`: by how much the scales of a single look would have to grow to hold 90%.

A fold is one picture of faces; of hands, whose file may hold neighbours of one film of one person, seven
consecutive pictures: figures of one hand say little about another's. The size of a part in the picture is
sqrt(w h) of the box of its labelled points. `points_3d` are compared after the best rotation and translation;
the size is there the labelled length from the wrist to the knuckle of the middle finger.

`iris` is the standard deviation of the iris points when the same face is resampled (shifted, zoomed, turned
and flipped), in parts of the eye's width, for eyes of less and of more than 10 pixels; and how many eyes of
how many count as closed.

Labels are taken as they are. Those of faces are whole pixels, whose rounding alone has a standard deviation
of 0.29 pixels a coordinate.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from faces import IBUG_IN_MEDIAPIPE
from hands import MIDDLE, WRIST, aligned
from PIL import Image
from scipy.optimize import brentq
from scipy.stats import chi, spearmanr

import partfit
from partfit.geometry.crops import Crop, extract_crops
from partfit.landmarks import Detection, Region
from partfit_mediapipe import face_landmarker, hand_landmarker
from partfit_mediapipe.face_scheme import COUNT
from partfit_mediapipe.hand_scheme import hand21
from partfit_mediapipe.looks import jittered

LOOKS = (1, 2, 4, 6, 8, 10, 12, 16)
CHOSEN = 8  # the number of looks that the factors are fitted for
LEVELS = (0.5, 0.68, 0.9, 0.95)

_NEGLIGIBLE = 1e-9  # an error that leaves nothing of the scale but the spread
_JOINTS = [name.endswith(("_pip", "_dip")) for name in hand21().names]


@attrs.frozen(eq=False)
class Kind:
    """A kind of part.

    Attributes:
        component: Name of its detector and its landmarker.
        key: Of its points in a label file.
        landmarks: The landmarker's points at the places of the labelled ones.
        groups: Points that are reported together, among the labelled ones.
        errors: The landmarker's options that make the part of the scales that does not depend on the looks.
        factor: The landmarker's factor of the spread.
        fold: How many pictures are left out together.
    """

    component: str
    key: str
    landmarks: Sequence[int]
    groups: dict[str, object]
    errors: tuple[str, ...]
    factor: float
    fold: int


FACE = Kind(
    "mediapipe-face",
    "points",
    IBUG_IN_MEDIAPIPE,
    {"all68": slice(None), "inner51": slice(17, None), "outline17": slice(17)},
    ("relative_error",),
    face_landmarker.SPREAD_FACTOR,
    fold=1,
)
HAND = Kind(
    "mediapipe-hand",
    "keypoints",
    range(len(hand21())),
    {"all21": slice(None), "middle_joints8": _JOINTS, "wrist": [WRIST]},
    ("relative_error", "error_3d"),
    hand_landmarker.SPREAD_FACTOR,
    fold=7,
)


@attrs.frozen(eq=False)
class Pictures:
    """P labelled pictures: their pixels, their labels (one entry a part), and the detector's regions."""

    images: list[np.ndarray]
    entries: list[list[dict]]
    regions: list[list[Region]]

    @classmethod
    def load(cls, labels: Path, kind: Kind) -> "Pictures":
        """Those that a label file names."""
        entries = json.loads(labels.read_text(encoding="utf-8"))
        names = sorted({entry["image"] for entry in entries})
        images = [np.array(Image.open(labels.parent / name).convert("RGB")) for name in names]
        own = [[entry for entry in entries if entry["image"] == name] for name in names]
        return cls(images, own, partfit.create("detector", kind.component).detect(images))


@attrs.frozen(eq=False)
class Answer:
    """What a landmarker says about one labelled part, and what it says where the spread is all the scale."""

    fold: int
    entry: dict
    found: Detection
    bare: Detection


@attrs.frozen(eq=False)
class Sample:
    """The errors of N parts of L points with D coordinates, pixels or metres, and what is said about them.

    Attributes:
        fold: (N,) index of the fold.
        errors: (N, L, D) points minus labels.
        size: (N, 1, 1) of the labelled part.
        floor: (N, L, D) the part of the scale that does not depend on the looks.
        spread: (N, L, D) of the looks.
        confidence: (N, L).
    """

    fold: np.ndarray
    errors: np.ndarray
    size: np.ndarray
    floor: np.ndarray
    spread: np.ndarray
    confidence: np.ndarray

    def scale(self, factor: float | np.ndarray) -> np.ndarray:
        """(N, L, D) standard deviations."""
        return np.hypot(factor * self.spread, self.floor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("--hands", type=Path)
    arguments = parser.parse_args()
    report = face_figures(arguments.faces)
    if arguments.hands:
        report |= hand_figures(arguments.hands)
    print(json.dumps(report, indent=1))


def face_figures(labels: Path) -> dict[str, object]:
    """The figures of the faces of one label file."""
    pictures = Pictures.load(labels, FACE)
    answers = {looks: ask(FACE, pictures, looks) for looks in LOOKS}
    return {"faces": figures(FACE, answers, picture_sample), "iris": iris_figures(pictures)}


def hand_figures(labels: Path) -> dict[str, object]:
    """The figures of the hands of one label file."""
    pictures = Pictures.load(labels, HAND)
    answers = {looks: ask(HAND, pictures, looks) for looks in LOOKS}
    samples = {"points": picture_sample, "points_3d": metric_sample}
    return {"hands": {name: figures(HAND, answers, sample) for name, sample in samples.items()}}


def ask(kind: Kind, pictures: Pictures, looks: int) -> tuple[list[Answer], float]:
    """What a landmarker says about the labelled parts with so many looks, and milliseconds of CPU a part."""
    landmarker = partfit.create("landmarker", kind.component, looks=looks)
    negligible = dict.fromkeys(kind.errors, _NEGLIGIBLE)
    bare = partfit.create("landmarker", kind.component, looks=looks, **negligible)
    everything = zip(
        pictures.entries,
        landmarker.locate(pictures.images, pictures.regions),
        bare.locate(pictures.images, pictures.regions),
        strict=True,
    )
    answers = [
        Answer(picture // kind.fold, entry, found[index], barely[index])
        for picture, (entries, found, barely) in enumerate(everything)
        for entry in entries
        if (index := nearest(np.array(entry[kind.key]), [part.points[kind.landmarks] for part in found]))
        is not None
    ]
    return answers, timed(landmarker, pictures) / sum(map(len, pictures.regions))


def timed(landmarker, pictures: Pictures, repeats=3) -> float:
    """Milliseconds of CPU of one run over all pictures, the best of several."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        landmarker.locate(pictures.images, pictures.regions)
        times.append(1000 * (time.process_time() - start))
    return min(times)


def nearest(labels, parts) -> int | None:
    """Index of the part whose middle lies within half a box size of the labels', or None."""
    distances = [math.dist(points.mean(axis=0), labels.mean(axis=0)) for points in parts]
    return int(np.argmin(distances)) if distances and min(distances) < 0.5 * box_size(labels) else None


def box_size(points) -> float:
    return math.sqrt(np.ptp(points, axis=0).prod())


def picture_sample(kind: Kind, answers: Sequence[Answer]) -> Sample:
    """The errors in the picture, pixels."""
    labels = [np.array(a.entry[kind.key]) for a in answers]
    return sample(
        kind,
        answers,
        errors=[a.found.points[kind.landmarks] - own for a, own in zip(answers, labels, strict=True)],
        size=list(map(box_size, labels)),
        scale=[a.found.scale[kind.landmarks] for a in answers],
        bare=[a.bare.scale[kind.landmarks] for a in answers],
    )


def metric_sample(kind: Kind, answers: Sequence[Answer]) -> Sample:
    """The errors of metric points of hands, metres."""
    labels = [np.array(a.entry["keypoints_3d"]) / 100 for a in answers]
    found = [a.found.points_3d for a in answers]
    return sample(
        kind,
        answers,
        errors=[p - aligned(own, p, scaled=False) for p, own in zip(found, labels, strict=True)],
        size=[math.dist(own[WRIST], own[MIDDLE]) for own in labels],
        scale=[a.found.scale_3d for a in answers],
        bare=[a.bare.scale_3d for a in answers],
    )


def sample(kind: Kind, answers: Sequence[Answer], errors, size, scale, bare) -> Sample:
    return Sample(
        fold=np.array([a.fold for a in answers]),
        errors=np.array(errors),
        size=np.array(size)[:, None, None],
        floor=np.sqrt(np.square(scale) - np.square(bare)),
        spread=np.array(bare) / kind.factor,
        confidence=np.array([a.found.confidence[kind.landmarks] for a in answers]),
    )


def figures(kind: Kind, answers, choose) -> dict[str, object]:
    """The figures of one kind of part, from the answers and milliseconds of each number of looks."""
    samples = {looks: choose(kind, own) for looks, (own, _) in answers.items()}
    single, several = samples[1], samples[CHOSEN]
    held_out = held_out_factors(several)
    cover = {
        "single_look": (single.errors, single.floor),
        "single_look_about_mean_offset": (about_mean_offset(single), single.floor),
        f"{CHOSEN}_looks_held_out": (several.errors, several.scale(held_out[:, None, None])),
        f"{CHOSEN}_looks_in_use": (several.errors, several.scale(kind.factor)),
        f"{CHOSEN}_looks_in_use_about_mean_offset": (
            about_mean_offset(several),
            several.scale(kind.factor),
        ),
    }
    return {
        "found": len(several.errors),
        "folds": len(np.unique(several.fold)),
        "looks": [
            {"looks": looks, **quality(kind, own, several=looks > 1), "milliseconds": answers[looks][1]}
            for looks, own in samples.items()
        ],
        "spread_factor": {
            "looks": CHOSEN,
            "all_pictures": fit_factor(several),
            "without_one_fold": [held_out.min(), held_out.max()],
            "in_use": kind.factor,
        },
        "coverage_percent": {name: coverage(kind, *own) for name, own in cover.items()},
        "single_look_factor": np.quantile(distance(single.errors, single.floor), 0.9)
        / radius(0.9, single.errors.shape[-1]),
    }


def quality(kind: Kind, sample: Sample, several: bool) -> dict[str, object]:
    """Accuracy, and what the spread of several looks, the scale and the confidence tell about the errors."""
    error = np.linalg.norm(sample.errors / sample.size, axis=-1)
    scale = sample.scale(kind.factor)
    guesses = {
        "scale": np.linalg.norm(scale / sample.size, axis=-1),
        "confidence": -sample.confidence,
    }
    if several:
        guesses["spread"] = np.linalg.norm(sample.spread / sample.size, axis=-1)
    return {
        "error_percent": {name: 100 * error[:, own].mean() for name, own in kind.groups.items()},
        "rank_correlation": {
            name: {
                group: rank_correlation(guess[:, own], error[:, own]) for group, own in kind.groups.items()
            }
            for name, guess in guesses.items()
        },
        "gain": likelihood(sample.errors, scale) - likelihood(sample.errors, sample.floor),
    }


def rank_correlation(a, b) -> float:
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def likelihood(errors, scale) -> float:
    """Mean logarithm of the errors' density, up to a constant, with the scales times their best factor."""
    return -float(np.log(scale).mean() + np.log((errors / scale).std()))


def radius(level, dimensions):
    """Standard deviations that a share of a Gaussian's points lies within."""
    return chi(dimensions).ppf(level)


def distance(errors, scale):
    """Errors in standard deviations."""
    return np.linalg.norm(errors / scale, axis=-1)


def fit_factor(sample: Sample, chosen=slice(None)) -> float:
    """The least spread factor with which the 90% regions hold 90% of the errors of the chosen parts."""

    def excess(factor):
        inside = distance(sample.errors, sample.scale(factor))[chosen]
        return np.quantile(inside, 0.9) - radius(0.9, sample.errors.shape[-1])

    return float(brentq(excess, 0.0, 10.0)) if excess(0.0) > 0 else 0.0


def held_out_factors(sample: Sample) -> np.ndarray:
    """(N,) for each part the factor fitted without its fold."""
    factors = {fold: fit_factor(sample, sample.fold != fold) for fold in np.unique(sample.fold)}
    return np.array([factors[fold] for fold in sample.fold])


def about_mean_offset(sample: Sample) -> np.ndarray:
    """Errors without each point's mean error, of the part's size, in the other folds."""
    relative = sample.errors / sample.size
    means = [relative[sample.fold != fold].mean(axis=0) for fold in sample.fold]
    return (relative - np.array(means)) * sample.size


def coverage(kind: Kind, errors, scale) -> dict[str, dict[str, float]]:
    """Percent of the errors inside the regions of each level, by group of points."""
    distances, dimensions = distance(errors, scale), errors.shape[-1]
    return {
        group: {
            f"{100 * level:.0f}": 100 * (distances[:, points] <= radius(level, dimensions)).mean()
            for level in LEVELS
        }
        for group, points in kind.groups.items()
    }


def iris_figures(pictures: Pictures) -> dict[str, dict[str, float]]:
    """Standard deviation of a coordinate of the iris points over resampled pictures, and closed eyes."""
    landmarker = partfit.create("landmarker", "mediapipe-face-iris")
    rows = [
        row
        for image, own in zip(pictures.images, pictures.regions, strict=True)
        for region in own
        for row in resampled_irises(landmarker, image, region)
    ]
    closed = [
        closed
        for faces in landmarker.locate(pictures.images, pictures.regions)
        for face in faces
        for closed in np.isinf(face.scale[[COUNT, COUNT + 5], 0])
    ]
    table = np.array(rows)
    small = table[:, 0] < 10
    return {
        name: {"eyes": int(chosen.sum())}
        | {
            points: math.sqrt((table[chosen, column] ** 2).mean())
            for points, column in (("center", 1), ("rim", 2))
        }
        for name, chosen in (("below_10_px", small), ("above_10_px", ~small))
    } | {"closed": {"eyes": len(closed), "closed": int(sum(closed))}}


def resampled_irises(landmarker, image, region: Region):
    """For each eye of one face: its width in pixels, the spread of its centre, and of its rim."""
    side = 3 * max(region.size)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    crops = jittered(Crop(region.center, side, region.angle, resolution=math.ceil(side)), CHOSEN)
    faces = []
    for crop in crops:
        picture = extract_crops(pixels, [crop])[0].permute(1, 2, 0).round().byte().numpy()
        center = crop.from_image(np.array(region.center))
        shown = Region(tuple(center), tuple(np.array(region.size) * crop.resolution / crop.size))
        found = landmarker.locate([picture], [[shown]])[0]
        for face in found:
            points = face.points[landmarker.scheme.mirror] if crop.mirror else face.points
            faces.append(crop.to_image(points))
    if len(faces) < CHOSEN:
        return
    for first, corners in ((COUNT, (33, 133)), (COUNT + 5, (362, 263))):
        width = math.dist(*faces[0][list(corners)])
        spread = np.std(faces, axis=0, ddof=1)[first : first + 5] / width
        yield width, math.sqrt((spread[0] ** 2).mean()), math.sqrt((spread[1:] ** 2).mean())


if __name__ == "__main__":
    main()
