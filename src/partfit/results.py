"""Results as files: one JSON, meshes and other formats per fitted part, one overlay per picture.

Numbers that JSON cannot hold (not a number, infinite) are written as null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
from jaxtyping import Float
from PIL import Image as Images
from PIL.Image import Image

from partfit.colours import draw_legend
from partfit.config import from_dict
from partfit.errors import ConfigError, InputError, OutputError
from partfit.exports import export_instance
from partfit.files import RESULT_FORMATS, ResultFormat, atomic_write
from partfit.fitting import FitStatus
from partfit.fitting.uncertainty import deviation, unobservable_names, vertex_covariance
from partfit.images import Picture
from partfit.landmarks import Detection, LandmarkEmbedding, LandmarkScheme, content_hash
from partfit.meshes import Frame, Mesh
from partfit.pipeline import ImageResult, Instance
from partfit.rendering import PANEL_TILE, draw_landmarks, draw_overlay, draw_panel, draw_view

RESULT_SCHEMA = "partfit.result/1"
LANDMARKS_SCHEMA = "partfit.landmarks/1"


@attrs.frozen
class SaveOptions:
    """What is written for each fitted part.

    Attributes:
        formats: Of `partfit.files.RESULT_FORMATS`; `partfit.exports.export_instance` says what each holds.
        frame: `camera`: the mesh as seen; `model`: without the rigid motion.
        schemes: Landmark schemes whose projected points go into the JSON of parts that have them.
        overlay: Whether the overlay picture is drawn.
        panel: Whether the panel is drawn: photograph, overlay, front and side view of each part.
        uncertainty: Whether meshes are drawn in the colours of their standard deviations, which, with what
            the picture does not tell, go into the JSON.
    """

    formats: tuple[ResultFormat, ...] = ("obj", "glb")
    frame: Frame = "camera"
    schemes: tuple[str, ...] = ()
    overlay: bool = True
    panel: bool = False
    uncertainty: bool = False


# What a landmark file holds, as `from_dict` checks it.
_Pair: TypeAlias = tuple[float | None, float | None]
_Triple: TypeAlias = tuple[float | None, float | None, float | None]


@attrs.frozen
class _DetectionEntry:
    points: tuple[_Pair | None, ...]
    scheme: str | None = None
    scheme_hash: str | None = None
    names: tuple[str, ...] | None = None  # for people who edit the points
    side: Literal["left", "right"] | None = None
    score: float = attrs.field(default=1.0)
    box: tuple[float | None, float | None, float | None, float | None] | None = None
    scale: tuple[_Pair | None, ...] | None = None
    confidence: tuple[float | None, ...] | None = None
    points_3d: tuple[_Triple | None, ...] | None = None
    scale_3d: tuple[_Triple | None, ...] | None = None

    @score.validator
    def _is_probability(self, attribute: attrs.Attribute[float], value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"score: expected a number in [0, 1], found {value}.")


@attrs.frozen
class _LandmarksFile:
    schema: str
    detections: tuple[_DetectionEntry, ...]
    image: str | None = None
    image_size: tuple[int, int] | None = None


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
    result: ImageResult, stem: str, folder: Path, options: SaveOptions
) -> tuple[list[Path], list[Path]]:
    """Write a picture's meshes, JSON files and drawings; returns the paths written and those removed.

    Every file is written beside its name and renamed, so that none is ever half-written. What an earlier run
    wrote for this picture and this one did not is removed: it belongs to another fit.

    Raises:
        OutputError: if a file cannot be written or removed.
        ComponentError: if a scheme to export has no embedding on the model, or nothing can be drawn here.
    """
    earlier = _earlier_files(stem, folder)
    written = []
    for k, instance in enumerate(result.instances):
        base = folder / f"{stem}-{k}"
        failed = instance.status is FitStatus.FAILED
        for suffix in () if failed else options.formats:
            path = base.with_name(f"{base.name}.{suffix}")
            export_instance(path, result, k, options.frame)
            written.append(path)
        path = base.with_name(f"{base.name}.json")
        write_json(path, result_document(result, instance, options))
        written.append(path)
    if options.overlay and result.instances:
        path = folder / f"{stem}-overlay.png"
        write_png(path, overlay_image(result))
        written.append(path)
    if options.panel and _fitted(result):
        path = folder / f"{stem}-panel.png"
        write_png(path, panel_image(result))
        written.append(path)
    if options.uncertainty and _fitted(result):
        path = folder / f"{stem}-uncertainty.png"
        write_png(path, uncertainty_image(result))
        written.append(path)
    stale = sorted(earlier - set(written))
    _remove(stale)
    return written, stale


def result_document(result: ImageResult, instance: Instance, options: SaveOptions) -> dict[str, Any]:
    """The JSON document of one fitted part."""
    assert result.picture is not None
    camera, embedding, index = instance.camera, instance.result.problem.embedding, instance.index
    names = instance.pipeline.component_names
    return {
        "schema": RESULT_SCHEMA,
        "part": instance.part,
        "side": instance.side,
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
        "names": instance.parameter_names,
        "rms_px": instance.rms_px,
        "iterations": instance.result.iterations[index].item(),
        "n_vertices": len(instance.vertices),
        "landmarks": {
            scheme: instance.projected(scheme)
            for scheme in options.schemes
            if instance.pipeline.has_embedding(scheme, instance.model)
        },
        "hashes": _hashes(instance, embedding),
        "timings_ms": result.timings_ms,
        **({"uncertainty": _uncertainty(instance)} if options.uncertainty else {}),
    }


def _uncertainty(instance: Instance) -> dict[str, Any] | None:
    """What the picture leaves open; None for a fit that failed."""
    if instance.status is FitStatus.FAILED:
        return None
    deviations = _deviations_mm(instance)
    return {
        "inflation": instance.pipeline.inflation,
        "vertex_deviation_mm": {"median": float(np.median(deviations)), "max": float(deviations.max())},
        "unobservable": unobservable_names(instance.result)[instance.index],
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
                "names": detection.scheme.names,
                "points": detection.points,
                "scale": detection.scale,
                "confidence": detection.confidence,
                "points_3d": detection.points_3d,
                "scale_3d": detection.scale_3d,
            }
            for detection in detections
        ],
    }


def read_landmarks(
    path: str | Path, schemes: Sequence[LandmarkScheme], image_size: tuple[int, int]
) -> list[Detection]:
    """The detections of a landmark file, as `partfit landmarks` writes it, given or edited by hand.

    Only `points` is required of a detection, and `scheme` where there are several. A landmark is left out
    where its point is null, in 3D too, or where its scale or a coordinate is null. `scale` defaults to 1.2%
    of the points' extent, `confidence` and `score` to 1; the box is that of the points and the names are
    those of the scheme, whatever the file says. Coordinates of `points_3d` and `scale_3d` that are null are
    not known.

    Args:
        path: The file.
        schemes: What its landmarks may be of; the first is the default.
        image_size: (width, height) of the full picture that they are to be used with.

    Raises:
        InputError: if the file is missing, is not of this form, or is of another scheme or of a picture of
            another size; the message names the file, the detection and the key.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the landmark file {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The landmark file {path} is not JSON: {error}.") from error
    if not isinstance(document, Mapping) or document.get("schema") != LANDMARKS_SCHEMA:
        found = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
        raise InputError(
            f"The landmark file {path}: expected schema {LANDMARKS_SCHEMA!r}, found {found!r}. "
            "`partfit landmarks` writes such files."
        )
    try:
        content = from_dict(_LandmarksFile, document)
    except ConfigError as error:
        raise InputError(f"The landmark file {path}: {error}") from error
    if content.image_size not in (None, image_size):
        raise InputError(
            f"The landmark file {path}: image_size: expected {list(image_size)} (width, height), that of the "
            f"picture, found {list(content.image_size)}. Use the picture that the landmarks were found in."
        )
    return [
        _detection(entry, schemes, f"The landmark file {path}: detections[{i}]")
        for i, entry in enumerate(content.detections)
    ]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document; arrays become lists, numbers that are not finite become null."""
    text = json.dumps(_plain(document), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_png(path: Path, image: Image) -> None:
    """Write a picture as a PNG file."""
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def overlay_image(result: ImageResult) -> Image:
    """The picture, as loaded, with the fitted meshes laid over it; some part must have been found."""
    return draw_overlay(*_view(result))


def panel_image(result: ImageResult) -> Image:
    """A sheet with a row for each fitted mesh: photograph, overlay, front view and side view.

    Raises:
        InputError: if nothing was fitted.
    """
    upright = [Mesh(i.model.topology.facing(i.vertices_model_frame), i.faces) for i in _fitted(result)]
    return draw_panel(*_view(result), upright=upright)


def uncertainty_image(result: ImageResult) -> Image:
    """A sheet with a row for each fitted mesh: front and side view in the colours of standard deviations.

    They are those of the shape in the model's frame, from 0 to the largest, which the legend says in
    millimetres; see `partfit.fitting.uncertainty.vertex_covariance`.

    Raises:
        InputError: if nothing was fitted.
    """
    fitted = _fitted(result)
    if not fitted:
        raise InputError("A picture of uncertainties shows meshes, found none.")
    deviations = [_deviations_mm(instance) for instance in fitted]
    largest = max(float(values.max()) for values in deviations)
    sheet = Images.new("RGB", (2 * PANEL_TILE, len(fitted) * PANEL_TILE))
    for row, (instance, values) in enumerate(zip(fitted, deviations, strict=True)):
        mesh = Mesh(instance.model.topology.facing(instance.vertices_model_frame), instance.faces)
        for column, turn in enumerate((0.0, math.pi / 2)):
            tile = draw_view(mesh, turn, values=values / largest)
            sheet.paste(tile, (column * PANEL_TILE, row * PANEL_TILE))
    draw_legend(sheet, np.zeros((0, 2)), "standard deviation", ("0", f"{largest:.2g} mm"))
    return sheet


def _deviations_mm(instance: Instance) -> Float[np.ndarray, " vertices"]:
    """Standard deviation of each vertex of an instance in the model's frame, millimetres."""
    covariance = vertex_covariance(instance.result, instance.pipeline.inflation, "model")
    return 1e3 * deviation(covariance[instance.index]).cpu().double().numpy()


def landmarks_image(detections: Iterable[Detection], picture: Picture) -> Image:
    """The picture, as loaded, with the landmarks drawn on it in the colours of their confidences."""
    dots = [detection.mapped(1 / picture.reduction) for detection in detections]
    image = draw_landmarks(picture.pixels, dots)
    if dots:
        draw_legend(image, np.concatenate([detection.points for detection in dots]), "confidence")
    return image


def _view(result: ImageResult) -> tuple[np.ndarray, list[Mesh], float, tuple[float, float]]:
    """The pixels as loaded, the fitted meshes, and the focal length and principal point in these pixels.

    One camera sees them all. Where focal lengths were estimated they differ, and meshes are stretched
    across the line of sight so that they are seen as by their own.
    """
    picture = result.picture
    assert picture is not None
    camera = result.instances[0].camera
    x, y = picture.to_pixels(camera.principal[0].cpu().numpy())
    focal = camera.focal[0].item()
    meshes = []
    for instance in _fitted(result):
        zoom = instance.camera.focal[0].item() / focal
        meshes.append(Mesh(instance.vertices * [zoom, zoom, 1.0], instance.faces))
    return picture.pixels, meshes, focal / picture.reduction, (x, y)


def _fitted(result: ImageResult) -> list[Instance]:
    return [instance for instance in result if instance.status is not FitStatus.FAILED]


def _earlier_files(stem: str, folder: Path) -> set[Path]:
    """What an earlier fit of a picture wrote: the files of instances whose JSON is a result, and drawings."""
    name = re.compile(rf"({re.escape(stem)}-(?:0|[1-9][0-9]*))\.(?:{'|'.join((*RESULT_FORMATS, 'json'))})")
    try:
        matches = [match for path in folder.iterdir() if (match := name.fullmatch(path.name))]
    except OSError as error:
        raise OutputError(f"Cannot look for old results in {folder}: {error.strerror}.") from error
    fitted = {match[1] for match in matches if _is_result(folder / f"{match[1]}.json")}
    drawings = (
        [folder / f"{stem}-{drawing}.png" for drawing in ("overlay", "panel", "uncertainty")]
        if fitted
        else []
    )
    return {folder / match[0] for match in matches if match[1] in fitted} | set(filter(Path.exists, drawings))


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot remove the old result {path}: {error.strerror}.") from error


def _is_result(path: Path) -> bool:
    """Whether a file is the JSON of a fitted part."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("schema") == RESULT_SCHEMA


def _hashes(instance: Instance, embedding: LandmarkEmbedding) -> dict[str, str]:
    topology = instance.model.topology
    return {
        "scheme": embedding.scheme.hash,
        "embedding": embedding.hash,
        "topology": content_hash(topology.faces),
    }


def _detection(entry: _DetectionEntry, schemes: Sequence[LandmarkScheme], where: str) -> Detection:
    name = entry.scheme or schemes[0].name
    scheme = next((s for s in schemes if s.name == name and entry.scheme_hash in (None, s.hash)), None)
    if scheme is None:
        wanted = " or ".join(f"{s.name!r} ({s.hash})" for s in schemes)
        raise InputError(
            f"{where}.scheme: its landmarks are of scheme {name!r}, the fit needs {wanted}. Choose the "
            "landmarker that it was made with, or fit all parts of the file, as in --part face,hand."
        )
    n = len(scheme)
    points = _rows(entry.points, (n, 2), f"{where}.points", missing=math.nan)
    if entry.scale is None:
        scale = np.full((n, 2), _default_scale(points))
    else:
        scale = _scale(entry.scale, (n, 2), f"{where}.scale")
    confidence = _confidence(entry.confidence, n, f"{where}.confidence")
    relative = _relative_points(entry, n, where)
    if relative:
        relative["scale_3d"][~np.isfinite(points).all(axis=1)] = math.inf
    return Detection(scheme, points, scale, confidence, entry.score, side=entry.side, **relative)


def _relative_points(entry: _DetectionEntry, n: int, where: str) -> dict[str, Any]:
    if entry.points_3d is None or entry.scale_3d is None:
        if entry.points_3d is not entry.scale_3d:
            raise InputError(f"{where}: expected `points_3d` and `scale_3d` together, found only one.")
        return {}
    return {
        "points_3d": _rows(entry.points_3d, (n, 3), f"{where}.points_3d", missing=math.nan),
        "scale_3d": _scale(entry.scale_3d, (n, 3), f"{where}.scale_3d"),
    }


def _default_scale(points: np.ndarray) -> float:
    known = points[np.isfinite(points).all(axis=1)]
    extent = math.sqrt(np.prod(np.ptp(known, axis=0))) if len(known) else 1.0
    return max(0.012 * extent, 1e-3)


def _scale(rows: Sequence[_Pair | _Triple | None], shape: tuple[int, int], where: str) -> np.ndarray:
    scale = _rows(rows, shape, where, missing=math.inf)
    if not (scale > 0).all():
        raise InputError(f"{where}: expected numbers > 0, found {scale.min()}.")
    return scale


def _rows(
    rows: Sequence[_Pair | _Triple | None], shape: tuple[int, int], where: str, *, missing: float
) -> np.ndarray:
    """Rows as an array of that shape, with `missing` for null."""
    _check_length(rows, shape[0], where)
    filled = [(missing,) * shape[1] if row is None else row for row in rows]
    return np.array([[missing if value is None else value for value in row] for row in filled])


def _confidence(values: Sequence[float | None] | None, n: int, where: str) -> np.ndarray:
    """(n,), 1 by default and 0 for null."""
    if values is None:
        return np.ones(n)
    _check_length(values, n, where)
    for i, value in enumerate(values):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{where}[{i}]: expected a number in [0, 1], found {value}.")
    return np.array([value or 0.0 for value in values])


def _check_length(values: Sequence[Any], n: int, where: str) -> None:
    if len(values) != n:
        raise InputError(f"{where}: expected {n} entries, one a landmark, found {len(values)}.")


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
