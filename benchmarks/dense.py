"""A trained face network on renders that it never saw, and on labelled photographs.

    python benchmarks/dense.py LABELS.json [--checkpoint FILE] [--config FILE] [--count N]

The held-out renders are those of the configuration's validation data with another seed. On them: the mean
error, errors over calibrated scales (1 is ideal) and the area under the ROC curve of the visibility among
the landmarks of one picture. On the photographs, for each way of looking (one crop, refined, refined and
flipped): the median over the faces of the mean error of iBUG's inner 51 points in percent of the distance
between the outer corners of the eyes, and the errors over the scales. The same with the detector's regions
moved and scaled at random by multiples of the spread that the checkpoint knows. LABELS.json is as for
faces.py; every face counts, however low its score.
"""

import argparse
import json
import tempfile
from pathlib import Path

import attrs
import numpy as np
from faces import ibug_rows
from PIL import Image

import partfit
from partfit.config import read_table
from partfit.landmarks import Region
from partfit.learning.batches import EvaluationBatches
from partfit.learning.checkpoint import Checkpoint
from partfit.learning.evaluation import evaluate
from partfit.learning.packing import PackedDataset, PackRule, pack

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "plugins" / "partfit-dense" / "training" / "dense.toml"
#: Seed of the held-out renders; those of training and validation are others.
HELD_OUT = 900
LOOKS = {"one crop": {"refine": 0}, "refined": {"refine": 1}, "refined, flips": {"refine": 1, "flips": True}}
#: Multiples of the spread of the detector's regions by which they are moved, and how often.
JITTER, REPEATS = (0.0, 1.0, 2.0, 3.0), 3
_NORMAL_MEDIAN = 0.6744897501960817


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--checkpoint", help="by default that of partfit-dense")
    parser.add_argument("--config", type=Path, default=CONFIG, help="the configuration of its training")
    parser.add_argument("--count", type=int, default=1000, help="held-out renders")
    arguments = parser.parse_args()
    landmarkers = {name: landmarker(arguments.checkpoint, options) for name, options in LOOKS.items()}
    report = {
        "renders": held_out(landmarkers["one crop"].checkpoint, arguments.config, arguments.count),
        "photographs": photographs(arguments.labels, landmarkers),
    }
    print(json.dumps(report, indent=1))


def landmarker(checkpoint: str | None, options: dict[str, object]):
    options = {"min_score": 0.0, **options}
    if checkpoint is None:
        return partfit.create("landmarker", "partfit-dense", **options)
    return partfit.create("landmarker", "checkpoint", path=checkpoint, **options)


def held_out(checkpoint: Checkpoint, config: Path, count: int) -> dict[str, float]:
    """Figures on renders of another seed."""
    data = read_table(config)["data"]["val"]
    dataset = partfit.create(
        "dataset", data["name"], **{**data["options"], "seed": HELD_OUT, "length": count}
    )
    resolution = checkpoint.network.config.resolution
    with tempfile.TemporaryDirectory() as folder:
        pack(dataset, folder, PackRule.for_evaluation(checkpoint.crop, resolution), workers=2)
        batches = EvaluationBatches(PackedDataset(folder, dataset.scheme), 32, resolution, checkpoint.crop)
        every = (batches[k] for k in range(len(batches)))
        return evaluate(checkpoint.network, every, checkpoint.calibration)


def photographs(labels: Path, landmarkers) -> dict[str, object]:
    """Figures on labelled faces, by way of looking and by jitter of the regions."""
    faces = json.loads(labels.read_text(encoding="utf-8"))
    names = sorted({face["image"] for face in faces})
    images = [np.array(Image.open(labels.parent / name).convert("RGB")) for name in names]
    truth = [[np.array(face["points"]) for face in faces if face["image"] == name] for name in names]
    regions = partfit.create("detector", "mediapipe-face").detect(images)
    matched = [
        [nearest(points, found) for points in known] for known, found in zip(truth, regions, strict=True)
    ]
    return {
        name: {
            f"regions moved by {times:g} deviations": errors(one, images, matched, truth, times)
            for times in JITTER
        }
        for name, one in landmarkers.items()
    }


def nearest(points, regions):
    """The region of a labelled face; one of its own box where the detector finds none there."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle, side = (low + high) / 2, (high - low).max()
    near = min(regions, key=lambda region: np.linalg.norm(region.center - middle), default=None)
    if near is None or np.linalg.norm(near.center - middle) > side / 2:
        return Region(tuple(middle.tolist()), (float(side), float(side)))
    return near


def moved(region: Region, spread, times: float, rng) -> Region:
    log_scale, *shift = times * np.array(spread) * rng.normal(size=3)
    center = np.array(region.center) + np.array(shift) * max(region.size)
    size = np.exp(log_scale) * np.array(region.size)
    return attrs.evolve(region, center=tuple(center.tolist()), size=tuple(size.tolist()))


def errors(landmarker, images, regions, truth, times: float) -> dict[str, float]:
    """Of the inner 51 points: percent of the eyes' distance, and over the scales."""
    ibug = ibug_rows(landmarker.scheme.name)[17:]
    rng = np.random.default_rng(0)
    percent, z = [], []
    for _ in range(REPEATS if times else 1):
        spread = landmarker.checkpoint.regions.spread
        asked = [[moved(region, spread, times, rng) for region in own] for own in regions]
        for detections, known in zip(landmarker.locate(images, asked), truth, strict=True):
            for detection, points in zip(detections, known, strict=True):
                difference = ibug @ detection.points - points[17:]
                eyes = np.linalg.norm(points[36] - points[45])
                percent.append(100 * np.linalg.norm(difference, axis=1).mean() / eyes)
                z.append(difference / (ibug @ detection.scale))
    every_z = np.concatenate(z)
    return {
        "inner51_interocular": float(np.median(percent)),
        "rms_z": float(np.sqrt(np.mean(every_z**2))),
        "robust_z": float(np.median(np.abs(every_z))) / _NORMAL_MEDIAN,
    }


if __name__ == "__main__":
    main()
