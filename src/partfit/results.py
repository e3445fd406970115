"""Results as files: one JSON and one mesh per fitted part, one overlay per picture.

Numbers that JSON cannot hold (not a number, infinite) are written as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL.Image import Image

from partfit.errors import InputError
from partfit.files import atomic_write
from partfit.fitting import FitStatus
from partfit.images import Picture
from partfit.landmarks import Detection, LandmarkEmbedding, LandmarkScheme, content_hash
from partfit.meshes import Frame, Mesh, write_mesh
from partfit.pipeline import ImageResult, Instance, Pipeline
from partfit.rendering import draw_landmarks, draw_overlay

RESULT_SCHEMA = "partfit.result/1"
LANDMARKS_SCHEMA = "partfit.landmarks/1"


@attrs.frozen
class SaveOptions:
    """What is written for each fitted part.

    Attributes:
        formats: Mesh formats: `obj`, `ply`, `glb`.
        frame: `camera`: the mesh as seen, y up; `model`: without the rigid motion.
        schemes: Landmark schemes whose projected points go into the JSON.
        overlay: Whether the overlay picture is drawn.
    """

    formats: tuple[str, ...] = ("obj", "glb")
    frame: Frame = "camera"
    schemes: tuple[str, ...] = ()
    overlay: bool = True


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A file name stem for each input: its own, with its suffix and then a number where two collide."""
    stems = [path.stem for path in paths]
    named = [
        f"{path.stem}-{path.suffix.lstrip('.')}" if stems.count(path.stem) > 1 else path.stem
        for path in paths
    ]
    taken: set[str] = set()
    unique = []
    for name in named:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique


def save_result(
    result: ImageResult, stem: str, folder: Path, pipeline: Pipeline, options: SaveOptions
) -> list[Path]:
    """Write a picture's meshes, JSON files and overlay; returns the paths written.

    Every file is written beside its name and renamed, so that none is ever half-written.

    Raises:
        OutputError: if a file cannot be written.
        ComponentError: if a scheme to export has no embedding on the model.
    """
    written = []
    for k, instance in enumerate(result.instances):
        base = folder / f"{stem}-{k}"
        failed = instance.status is FitStatus.FAILED
        vertices = instance.vertices if options.frame == "camera" else instance.vertices_model_frame
        for suffix in () if failed else options.formats:
            path = base.with_name(f"{base.name}.{suffix}")
            write_mesh(path, vertices, instance.faces, frame=options.frame)
            written.append(path)
        path = base.with_name(f"{base.name}.json")
        write_json(path, result_document(result, instance, pipeline, options))
        written.append(path)
    if options.overlay and result.picture is not None and result.instances:
        path = folder / f"{stem}-overlay.png"
        with atomic_write(path) as temporary:
            overlay_image(result).save(temporary, format="PNG")
        written.append(path)
    return written


def result_document(
    result: ImageResult, instance: Instance, pipeline: Pipeline, options: SaveOptions
) -> dict[str, Any]:
    """The JSON document of one fitted part."""
    assert result.picture is not None
    camera, embedding, index = instance.camera, instance.fit.problem.embedding, instance.index
    names = pipeline.component_names
    return {
        "schema": RESULT_SCHEMA,
        "part": pipeline.recipe.part,
        "side": instance.detection.side,
        "image": result.picture.source,
        "model": names["model"],
        "landmarker": names["landmarker"],
        "fitter": names["fitter"],
        "status": str(instance.status),
        "message": instance.message,
        "score": instance.detection.score,
        "box": instance.detection.box,
        "image_size": list(result.picture.size),
        "frame": options.frame,
        "camera": {"focal": camera.focal[0].item(), "principal": camera.principal[0].tolist()},
        "parameters": instance.parameters,
        "rms_px": instance.fit.rms_px[index].item(),
        "iterations": instance.fit.iterations[index].item(),
        "n_vertices": len(instance.vertices),
        "landmarks": {
            scheme: instance.projected(pipeline.find_embedding(scheme)) for scheme in options.schemes
        },
        "hashes": _hashes(instance, embedding),
        "timings_ms": result.timings_ms,
    }


def landmarks_document(detections: Sequence[Detection], picture: Picture) -> dict[str, Any]:
    """The JSON document of the landmarks found in one picture, in pixels of the full picture."""
    return {
        "schema": LANDMARKS_SCHEMA,
        "image": picture.source,
        "image_size": list(picture.size),
        "detections": [
            {
                "scheme": detection.scheme.name,
                "scheme_hash": detection.scheme.hash,
                "side": detection.side,
                "score": detection.score,
                "box": detection.box,
                "points": detection.points,
                "scale": detection.scale,
                "confidence": detection.confidence,
            }
            for detection in detections
        ],
    }


def read_landmarks(path: str | Path, scheme: LandmarkScheme) -> list[Detection]:
    """The detections of a landmark file, as `partfit landmarks` writes it, given or edited by hand.

    Only `points` is required of a detection. A null coordinate leaves its landmark out; `scale` defaults
    to 1.2% of the box, `confidence` and `score` to 1.

    Raises:
        InputError: if the file is missing, is not of this form, or is of another scheme.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the landmark file {path}: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"The landmark file {path} is not JSON: {error}.") from error
    if not isinstance(document, Mapping) or document.get("schema") != LANDMARKS_SCHEMA:
        found = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
        raise InputError(
            f"The landmark file {path}: expected schema {LANDMARKS_SCHEMA!r}, found {found!r}. "
            "`partfit landmarks` writes such files."
        )
    return [
        _detection(entry, scheme, f"{path}, detection {i}")
        for i, entry in enumerate(document.get("detections", []))
    ]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document; arrays become lists, numbers that are not finite become null."""
    text = json.dumps(_plain(document), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def overlay_image(result: ImageResult) -> Image:
    """The picture, as loaded, with the fitted meshes laid over it."""
    picture = result.picture
    assert picture is not None
    camera = result.instances[0].camera
    x, y = picture.to_pixels(camera.principal[0].cpu().numpy())
    focal = camera.focal[0].item() / picture.reduction
    meshes = [Mesh(i.vertices, i.faces) for i in result if i.status is not FitStatus.FAILED]
    return draw_overlay(picture.pixels, meshes, focal, (x, y))


def landmarks_image(detections: Iterable[Detection], picture: Picture) -> Image:
    """The picture, as loaded, with the landmarks drawn on it."""
    dots = [detection.mapped(1 / picture.reduction) for detection in detections]
    return draw_landmarks(picture.pixels, dots)


def _hashes(instance: Instance, embedding: LandmarkEmbedding) -> dict[str, str]:
    topology = instance.model.topology
    return {
        "scheme": embedding.scheme.hash,
        "embedding": embedding.hash,
        "topology": content_hash(topology.faces),
    }


def _detection(entry: Any, scheme: LandmarkScheme, where: str) -> Detection:
    if not isinstance(entry, Mapping) or "points" not in entry:
        raise InputError(f"{where}: expected an object with `points`.")
    name = entry.get("scheme", scheme.name)
    if name != scheme.name or entry.get("scheme_hash", scheme.hash) != scheme.hash:
        raise InputError(
            f"{where}: its landmarks are of scheme {name!r}, the fit needs {scheme.name!r} "
            f"({scheme.hash}). Choose the landmarker that it was made with."
        )
    n = len(scheme)
    points = _array(entry["points"], (n, 2), f"{where}: points")
    known = points[np.isfinite(points).all(axis=1)]
    extent = math.sqrt(np.prod(np.ptp(known, axis=0))) if len(known) else 1.0
    default = np.full((n, 2), max(0.012 * extent, 1e-3))
    scale = _array(entry.get("scale", default), (n, 2), f"{where}: scale", missing=math.inf)
    confidence = _array(entry.get("confidence", np.ones(n)), (n,), f"{where}: confidence", missing=0.0)
    if not (scale > 0).all():
        raise InputError(f"{where}: scale must be > 0, found {scale.min()}.")
    score = float(entry.get("score", 1.0))
    return Detection(scheme, points, scale, confidence, score, side=entry.get("side"))


def _array(value: Any, shape: tuple[int, ...], label: str, missing: float = math.nan) -> np.ndarray:
    try:
        array = np.array(value, dtype=object)
        array = np.where(array == None, missing, array).astype(float)  # noqa: E711 (element-wise)
    except (TypeError, ValueError) as error:
        raise InputError(f"{label}: expected numbers of shape {shape}: {error}.") from error
    if array.shape != shape:
        raise InputError(f"{label}: expected shape {shape}, found {array.shape}.")
    return array


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
