"""Accuracy on labelled photographs: how far landmarks and fitted mesh are from 68 labelled points.

    python benchmarks/faces.py LABELS.json [--preset NAME] [--landmarker NAME] [--model NAME]
                               [--model-path FILE]

LABELS.json is a list of {"image": file name beside it, "points": [[x, y], ...68]}, one entry a face, in the
order of iBUG's 68 points. Errors are mean distances in percent of sqrt(w h) of the box of the labelled
points, over the faces that are found; `inner51` leaves out the outline. `inner51_interocular` is the median
over the faces of the same mean in percent of the distance between the outer corners of the eyes. A face is
found when the middle of its landmarks lies within half a box size of the labels'. The 68 points of the
network and of the fit are those of MediaPipe's 468 that lie at iBUG's places; another landmarker's lie where
the Anny head has both schemes.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import partfit

#: For each of iBUG's 68 points the index of MediaPipe's point at the same place.
IBUG_IN_MEDIAPIPE = [
    *(127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--landmarker")
    parser.add_argument("--model")
    parser.add_argument("--model-path", help="file of a model that reads one")
    arguments = parser.parse_args()
    options = {} if arguments.model_path is None else {"path": arguments.model_path}
    model = None if arguments.model is None else partfit.Choice(arguments.model, options)
    print(json.dumps(evaluate(arguments.labels, arguments.preset, model, arguments.landmarker), indent=1))


def evaluate(
    labels: Path,
    preset: str | None = None,
    model: partfit.Choice | None = None,
    landmarker: str | None = None,
) -> dict[str, object]:
    """The figures of one label file."""
    faces = json.loads(labels.read_text(encoding="utf-8"))
    names = sorted({face["image"] for face in faces})
    pipeline = partfit.Pipeline(preset=preset, model=model, landmarker=landmarker)
    ibug = ibug_rows(pipeline.landmarker.scheme.name)
    results = dict(zip(names, pipeline([labels.parent / name for name in names]), strict=True))
    rows = [errors(np.array(face["points"]), results[face["image"]], ibug) for face in faces]
    found = np.array([row for row in rows if row is not None])
    network68, fit68, network51, fit51 = found[:, :4].mean(axis=0)
    network_median, fit_median = np.median(found[:, 4:], axis=0)
    instances = [instance for result in results.values() for instance in result]
    return {
        "faces": len(faces),
        "found": len(found),
        "detected": len(instances),
        "error_percent_of_box": {
            "all68": {"network": network68, "fit": fit68, "ratio": fit68 / network68},
            "inner51": {"network": network51, "fit": fit51, "ratio": fit51 / network51},
        },
        "inner51_interocular": {"network": network_median, "fit": fit_median},
        "status": sorted({str(instance.status) for instance in instances}),
        "betas_rms": float(np.sqrt(np.mean([instance.parameters["betas"] ** 2 for instance in instances]))),
    }


def ibug_rows(scheme):
    """(68, L) matrix from a scheme's points to iBUG's."""
    if scheme == "mediapipe468":
        return np.eye(468)[IBUG_IN_MEDIAPIPE]
    own = partfit.create("embedding", f"anny-head/{scheme}")
    target = partfit.create("embedding", "anny-head/ibug68")
    place = {int(vertex): row for row, vertex in enumerate(own.indices[:, 0])}
    rows = np.zeros((68, len(own.scheme)))
    for row, indices, weights in zip(rows, target.indices, target.weights, strict=True):
        row[[place[int(index)] for index in indices]] = weights
    return rows


def errors(points, result, ibug):
    """Network and fit against the labels of one face: (6,) percent; None if it is not found."""
    size = np.sqrt(np.prod(np.ptp(points, axis=0)))
    distances = [
        np.linalg.norm((ibug @ instance.detection.points).mean(axis=0) - points.mean(axis=0))
        for instance in result
    ]
    if not distances or min(distances) > 0.5 * size:
        return None
    instance = result[int(np.argmin(distances))]
    network = np.linalg.norm(ibug @ instance.detection.points - points, axis=1)
    fit = np.linalg.norm(ibug @ instance.projected() - points, axis=1)
    eyes = np.linalg.norm(points[36] - points[45])
    of_box = np.array([network.mean(), fit.mean(), network[17:].mean(), fit[17:].mean()]) / size
    of_eyes = np.array([network[17:].mean(), fit[17:].mean()]) / eyes
    return 100 * np.concatenate([of_box, of_eyes])


if __name__ == "__main__":
    main()
