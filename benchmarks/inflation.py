"""By how much correlated errors of a landmarker inflate covariances, measured where the truth is known.

    python benchmarks/inflation.py [--part face|hand] [--landmarker NAME] [--renders N] [--labels LABELS.json]

The factor is `partfit.fitting.uncertainty.inflation_factor` of the errors over the scales, as the recipe
weighs them: on held-out renders of the data set `synthetic`, found by the recipe's detector. The interval is
of 95 %, by bootstrap over the pictures. `typical` is the factor that the median picture tells: where a few
pictures fail altogether it is far smaller. `vertices` fits these landmarks with the recipe's settings and the
true cameras, and compares the errors of the model's vertices, in its own frame, with their covariances:
`error_over_deviation` is the root of the mean squared errors over the mean traces, 1 where covariances
are true, without inflation and with the factor; `factor` is that by which it would be 1.

With LABELS.json, as for faces.py or hands.py, `photographs` has the factor of the errors on labelled
photographs: of iBUG's inner 51 points, or of all 21 of a hand. Errors of the labels, and what labels and
landmarker mean by a point, are part of it. A factor of some points is brought to all points in proportion to
their number, as if errors were shared by all.
"""

import argparse
import json
from pathlib import Path

import attrs
import numpy as np
import torch
from faces import ibug_rows
from PIL import Image
from scipy.optimize import brentq

import partfit
from partfit import Pipeline
from partfit.fitting import FitProblem, FitResult, FitStatus
from partfit.fitting.uncertainty import inflation_factor
from partfit.geometry.camera import Camera
from partfit.landmarks import Detection, LandmarkEmbedding, LandmarkScheme
from partfit.learning.datasets import Sample
from partfit.models import ParametricModel

#: Of the held-out renders; those that networks of this project were trained and judged on have others.
SEED = 950
#: What the renders show besides the recipe's model and the landmarker's scheme. Necks stay straight: the
#: recipes do not free them, and a bent one would count as an error of the shape.
RENDERS = {
    "face": {"size": 256, "box": "ibug51", "views": {"fill": [0.3, 0.37]}, "states": {"pose": 0.0}},
    "hand": {"size": 256, "views": {"fill": [0.4, 0.5]}},
}
RESAMPLES = 2000
#: Median of the mean of two squared standard normal numbers.
CHI2_MEDIAN = float(np.log(2))
#: Fits that are made together.
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=tuple(RENDERS), default="face")
    parser.add_argument("--landmarker", help="by default the recipe's")
    parser.add_argument("--renders", type=int, default=100)
    parser.add_argument("--labels", type=Path)
    arguments = parser.parse_args()
    pipeline = Pipeline(arguments.part, landmarker=arguments.landmarker)
    report = {
        "part": arguments.part,
        "landmarker": pipeline.component_names["landmarker"],
        "landmarks": len(pipeline.landmarker.scheme),
        "renders": on_renders(pipeline, arguments.renders),
    }
    if arguments.labels is not None:
        report["photographs"] = on_photographs(pipeline, arguments.labels)
    print(json.dumps(report, indent=1))


def on_renders(pipeline: Pipeline, count: int) -> dict[str, object]:
    part = pipeline.recipe.part
    options = {**RENDERS[part], "model": {"name": pipeline.recipe.model}, "seed": SEED, "length": count}
    data = partfit.create("dataset", "synthetic", scheme=pipeline.landmarker.scheme.name, **options)
    samples = [data[index] for index in range(count)]
    images = [sample.image for sample in samples]
    regions = pipeline.detector.detect(images)
    side = getattr(pipeline.model.config, "side", None)
    located = [
        [one for one in found if one.side == side] for found in pipeline.landmarker.locate(images, regions)
    ]
    pairs = [
        (sample, nearest)
        for sample, found in zip(samples, located, strict=True)
        if (nearest := the_nearest(found, sample.points)) is not None
    ]
    weights = np.sqrt(pipeline.find_embedding(data.scheme.name).reliability)[:, None]
    residuals = np.stack([weights * standardised(found, sample.points) for sample, found in pairs])
    return {
        "pictures": count,
        "found": len(pairs),
        **factor(residuals),
        "vertices": vertices(pipeline, pairs, inflation_factor(residuals)),
    }


def on_photographs(pipeline: Pipeline, labels: Path) -> dict[str, object]:
    entries = json.loads(labels.read_text(encoding="utf-8"))
    names = sorted({entry["image"] for entry in entries})
    images = [np.array(Image.open(labels.parent / name).convert("RGB")) for name in names]
    located = pipeline.landmarker.locate(images, pipeline.detector.detect(images))
    found = dict(zip(names, located, strict=True))
    scheme = pipeline.landmarker.scheme
    hand = pipeline.recipe.part == "hand"
    rows = np.eye(len(scheme)) if hand else ibug_rows(scheme.name)[17:]
    residuals = []
    for entry in entries:
        truth = np.array(entry["keypoints"] if hand else entry["points"][17:])
        answer = the_nearest(found[entry["image"]], truth, rows)
        if answer is not None:
            residuals.append((rows @ answer.points - truth) / (rows @ answer.scale))
    share = len(scheme) / len(rows)
    return {"parts": len(entries), "found": len(residuals), **factor(np.stack(residuals), share)}


def the_nearest(found: list[Detection], truth, rows=None) -> Detection | None:
    """The detection nearest to known points; None if all are further than half their extent."""
    size = np.sqrt(np.prod(np.ptp(truth, axis=0)))

    def distance(detection: Detection) -> float:
        points = detection.points if rows is None else rows @ detection.points
        return float(np.linalg.norm(points.mean(axis=0) - truth.mean(axis=0)))

    near = [detection for detection in found if distance(detection) < 0.5 * size]
    return min(near, key=distance, default=None)


def standardised(found: Detection, truth):
    """(L, 2) errors over scales; NaN for what a fit leaves out."""
    return np.where(found.usable[:, None], (found.points - truth) / found.scale, np.nan)


def factor(residuals, share: float = 1.0) -> dict[str, object]:
    """The factor with its interval and what it typically is, and the size of the errors over the scales."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(residuals), size=(RESAMPLES, len(residuals)))
    # the factor of all pictures is the mean of those of single pictures
    alone = share * np.array([inflation_factor(one[None]) for one in residuals])
    low, high = np.quantile(alone[draws].mean(axis=1), [0.025, 0.975])
    return {
        "factor": alone.mean(),
        "interval": [low, high],
        "typical": np.median(alone) / CHI2_MEDIAN,
        "rms_z": float(np.sqrt(np.nanmean(residuals**2))),
    }


def vertices(pipeline: Pipeline, pairs: list[tuple[Sample, Detection]], inflation: float) -> dict[str, float]:
    """Errors of the fitted vertices beside their covariances; of a head those of the face."""
    batches = [fitted(pipeline, pairs[start : start + BATCH]) for start in range(0, len(pairs), BATCH)]
    kept = [np.array([status is not FitStatus.FAILED for status in batch.result.status]) for batch in batches]
    square = np.concatenate([batch.square[own] for batch, own in zip(batches, kept, strict=True)]).mean()

    def ratio(inflation: float) -> float:
        traces = [batch.mean_trace(inflation)[own] for batch, own in zip(batches, kept, strict=True)]
        return float(square / np.concatenate(traces).mean()) ** 0.5

    return {
        "fits": int(sum(own.sum() for own in kept)),
        "error_mm": 1e3 * float(square**0.5),
        "error_over_deviation": ratio(1.0),
        "error_over_deviation_inflated": ratio(inflation),
        "factor": float(np.exp(brentq(lambda log: np.log(ratio(np.exp(log))), -5, 15, xtol=1e-3))),
    }


@attrs.frozen(eq=False)
class Fitted:
    """Some fits with what is known about their vertices, in the model's frame.

    Attributes:
        result: The fits.
        square: (B,) mean squared error of the vertices, square metres.
        spread: (B, C, C) mean J^T J over the vertices, of the columns that are no rigid motion.
        columns: (C,) these, among those of the covariance.
    """

    result: FitResult
    square: np.ndarray
    spread: torch.Tensor
    columns: list[int]

    def mean_trace(self, inflation: float) -> np.ndarray:
        """(B,) mean trace of the covariances of the vertices, square metres."""
        covariance = self.result.covariance(inflation)[:, self.columns][:, :, self.columns]
        return (covariance * self.spread).sum(dim=(1, 2)).numpy()


def fitted(pipeline: Pipeline, pairs: list[tuple[Sample, Detection]]) -> Fitted:
    model, settings = pipeline.model, pipeline.settings
    problem = FitProblem.from_detections(
        model,
        pipeline.find_embedding(pipeline.landmarker.scheme.name),
        [found for _, found in pairs],
        true_cameras([sample for sample, _ in pairs]),
        settings.stages,
        prior_weights=settings.prior_weights,
        min_confidence=settings.min_confidence,
    )
    result = pipeline.fitter.fit(problem)
    truth = torch.as_tensor(
        np.stack(
            [np.concatenate([sample.parameters[group.name] for group in model.groups]) for sample, _ in pairs]
        )
    ).to(result.x)
    judged = judged_vertices(model)
    surface = model.landmarks(judged, result.x)
    x = model.without_rigid_motion(result.x)
    square = (surface.points(x) - surface.points(model.without_rigid_motion(truth))).square().sum(-1).mean(1)
    free = settings.stages[-1].free
    shaping = [group.name for group in model.groups if group.name in free and not group.rigid]
    own = set(model.columns(shaping))
    at = surface.linearize(x)
    eye = torch.eye(3).to(x).expand(*at.points.shape[:2], 3, 3)
    J = at.jacobian(eye, shaping).double()
    return Fitted(
        result,
        square.double().numpy(),
        J.transpose(1, 2) @ J / len(judged.scheme),
        [k for k, column in enumerate(model.columns(free)) if column in own],
    )


def judged_vertices(model: ParametricModel) -> LandmarkEmbedding:
    """The vertices of the face; of a model without one all of them."""
    topology = model.topology
    chosen = topology.regions.get("face", np.arange(topology.n_vertices))
    return LandmarkEmbedding.of_vertices(
        LandmarkScheme("judged", [f"v{vertex}" for vertex in chosen]), topology.name, chosen
    )


def true_cameras(samples: list[Sample]) -> Camera:
    K = torch.as_tensor(np.stack([sample.intrinsics for sample in samples])).float()
    size = torch.tensor([sample.image.shape[1::-1] for sample in samples]).float()
    return Camera(K[:, 0, 0], K[:, :2, 2], size)


if __name__ == "__main__":
    main()
