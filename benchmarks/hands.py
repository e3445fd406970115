"""Accuracy on labelled photographs of hands: how far landmarks and fitted hand are from 21 labelled points.

    python benchmarks/hands.py LABELS.json [--variant lite] [--one-look] [--looks N]
    python benchmarks/hands.py LABELS.json --model mano --model-path FOLDER
    python benchmarks/hands.py LABELS.json --landmarker checkpoint:FILE

LABELS.json is a list of {"image": file name beside it, "keypoints": [[x, y], ...21], "keypoints_3d":
[[x, y, z], ...21], "side": "left" or "right"}, one entry a hand, in the order of the scheme `hand21`: pixels,
and centimetres in the frame of the camera. Without `side` the place of the thumb tells it.

A hand is found when the middle of its landmarks lies within half a box size of the labels'. Errors of the
network, of the fit, and their ratios are means over the hands that are found: `points`, the mean distance in
percent of sqrt(w h) of the box of the labelled points; `points_3d`, the mean distance after the best
similarity, in mm and in percent of the labelled length from the wrist to the knuckle of the middle finger.
`rms_error_over_scale` of the network is 1 where scales are true, here with the best rotation and translation
alone in space. A fist has four bent fingers; a back is turned to the camera. A landmarker that places nothing
in space has no figures there; its fits do.
"""

import argparse
import json
from pathlib import Path

import attrs
import numpy as np

from partfit import Choice, Pipeline, create
from partfit.recipe import FitSettings

WRIST, THUMB, INDEX, MIDDLE, LITTLE = 0, 2, 5, 9, 17  # the fingers' knuckles (mcp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--landmarker", help="another one than MediaPipe's, to which the next options belong")
    parser.add_argument("--variant", default="full")
    parser.add_argument("--one-look", action="store_true", help="no second look at each hand")
    parser.add_argument("--looks", type=int, default=1, help="at the final crop of each hand")
    parser.add_argument("--prior-weight", type=float, help="of betas and hand_pose, for the recipe's")
    parser.add_argument("--hidden-scale", type=float, default=1.0, help="of the last stage")
    parser.add_argument("--model", help="another one than the recipe's, with a recipe hand/MODEL of its own")
    parser.add_argument("--model-path", help="file of a model that reads one")
    arguments = parser.parse_args()
    options = {"variant": arguments.variant, "refine": not arguments.one_look, "looks": arguments.looks}
    landmarker = arguments.landmarker or Choice("mediapipe-hand", options)
    recipe = "hand" if arguments.model is None else f"hand/{arguments.model}"
    settings = settings_with(recipe, arguments.prior_weight, arguments.hidden_scale)
    path = {} if arguments.model_path is None else {"path": arguments.model_path}
    model = None if arguments.model is None else Choice(arguments.model, path)
    print(json.dumps(evaluate(arguments.labels, settings, model, landmarker), indent=1))


def settings_with(recipe: str, prior_weight: float | None, hidden_scale: float) -> FitSettings:
    """The recipe's settings with another weight of the priors or another treatment of hidden landmarks."""
    settings = create("recipe", recipe).settings
    first, last = settings.stages
    priors = settings.prior_weights
    if prior_weight is not None:
        priors = dict.fromkeys(priors, prior_weight)
    stages = (first, attrs.evolve(last, hidden_scale=hidden_scale))
    return attrs.evolve(settings, stages=stages, prior_weights=priors)


def evaluate(
    labels: Path, settings: FitSettings, model: Choice | None, landmarker: Choice | str
) -> dict[str, object]:
    """The figures of one label file, with such settings of the fit and such a landmarker."""
    hands = json.loads(labels.read_text(encoding="utf-8"))
    names = sorted({hand["image"] for hand in hands})
    pipeline = Pipeline("hand", landmarker=landmarker, model=model, settings=settings)
    results = dict(zip(names, pipeline([labels.parent / name for name in names]), strict=True))
    rows = [measured(hand, results[hand["image"]]) for hand in hands]
    found = [row for row in rows if row is not None]
    groups = {
        "all": found,
        "fists": [row for row in found if row["fist"]],
        "backs": [row for row in found if row["back"]],
        "others": [row for row in found if not (row["fist"] or row["back"])],
    }
    return {
        "hands": len(hands),
        "left": sum(side_of(hand) == "left" for hand in hands),
        "found": len(found),
        "detected": sum(map(len, results.values())),
        "side_right": sum(row["side_right"] for row in found),
        "status": sorted({row["status"] for row in found}),
        "error": {name: mean_errors(own) for name, own in groups.items() if own},
        "rms_error_over_scale": {
            name: rms([row[key] for row in found])
            for name, key in (("points", "scaled"), ("points_3d", "scaled_3d"))
            if all(key in row for row in found)
        },
    }


def measured(hand, instances):
    """The figures of one labelled hand; None if it is not found."""
    points, points_3d = np.array(hand["keypoints"]), np.array(hand["keypoints_3d"])
    size = np.sqrt(np.prod(np.ptp(points, axis=0)))
    distances = [np.linalg.norm(i.detection.points.mean(axis=0) - points.mean(axis=0)) for i in instances]
    if not distances or min(distances) > 0.5 * size:
        return None
    instance = instances[int(np.argmin(distances))]
    detection, fitted = instance.detection, instance.result.landmarks()[instance.index].numpy()
    row = {
        "side_right": detection.side == side_of(hand),
        "status": str(instance.status),
        "fist": is_fist(points_3d),
        "back": is_back(points_3d, side_of(hand)),
        "points_percent_of_box": [
            100 * mean_distance(found, points) / size for found in (detection.points, instance.projected())
        ],
        "points_3d_mm": [
            np.nan if found is None else 10 * mean_distance(aligned(found, points_3d), points_3d)
            for found in (detection.points_3d, fitted)
        ],
        "palm_mm": 10 * np.linalg.norm(points_3d[MIDDLE] - points_3d[WRIST]),
        "scaled": (detection.points - points) / detection.scale,
    }
    if detection.points_3d is not None:
        rigid = detection.points_3d - aligned(points_3d / 100, detection.points_3d, scaled=False)
        row["scaled_3d"] = rigid / detection.scale_3d
    return row


def mean_errors(rows):
    """Mean errors of some hands, and how many there are."""
    errors = {
        name: np.array([row[name] for row in rows]) for name in ("points_percent_of_box", "points_3d_mm")
    }
    palm = np.array([[row["palm_mm"]] for row in rows])
    errors["points_3d_percent_of_palm"] = 100 * errors["points_3d_mm"] / palm
    return {"hands": len(rows)} | {name: columns(*value.mean(axis=0)) for name, value in errors.items()}


def columns(network, fit):
    if np.isnan(network):
        return {"fit": float(fit)}
    return {"network": float(network), "fit": float(fit), "ratio": float(fit / network)}


def mean_distance(a, b):
    return np.linalg.norm(a - b, axis=1).mean()


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def aligned(points, target, scaled=True):
    """`points` (n, 3) laid on `target` (n, 3) by the best similarity, or the best rigid motion."""
    a, b = points - points.mean(axis=0), target - target.mean(axis=0)
    U, s, Vt = np.linalg.svd(b.T @ a)
    signs = np.array([1, 1, np.sign(np.linalg.det(U @ Vt))])
    scale = (s * signs).sum() / (a**2).sum() if scaled else 1.0
    return scale * a @ ((U * signs) @ Vt).T + target.mean(axis=0)


def side_of(hand):
    """The labelled side, or else the one whose thumb lies as this one does.

    The knuckle of the thumb (mcp) lies on the palm's side of the plane through the wrist and the knuckles of
    the index and little fingers.
    """
    if "side" in hand:
        return hand["side"]
    points_3d = np.array(hand["keypoints_3d"])
    thumb = points_3d[THUMB] - points_3d[WRIST]
    return "right" if thumb @ palm_normal(points_3d, "right") > 0 else "left"


def is_fist(points_3d):
    """Whether all four fingers are bent: their tips are nearer to the wrist than their pip joints."""
    reach = np.linalg.norm(points_3d[INDEX:].reshape(4, 4, 3) - points_3d[WRIST], axis=2)
    return bool((reach[:, 3] < reach[:, 1]).all())


def is_back(points_3d, side):
    """Whether the back of the hand is turned to the camera."""
    return bool(palm_normal(points_3d, side) @ points_3d.mean(axis=0) > 0)


def palm_normal(points_3d, side):
    """The direction out of the palm of a hand that is known to be a left or a right one."""
    wrist, index, little = points_3d[[WRIST, INDEX, LITTLE]]
    return np.cross(index - wrist, little - wrist) * (1 if side == "right" else -1)


if __name__ == "__main__":
    main()
