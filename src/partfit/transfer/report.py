"""How good a transferred embedding is, in figures and in a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from partfit import __version__
from partfit.landmarks import Detection, LandmarkEmbedding
from partfit.meshes import Mesh
from partfit.models.base import ParametricModel
from partfit.rendering import draw_landmarks, shade, surface_distances, visible_points
from partfit.transfer.renders import TO_CAMERA, Render
from partfit.transfer.settings import TransferSettings

#: Side of the picture's six tiles, pixels.
TILE = 480

_BACKDROP = (236, 238, 241)
_UNRELIABLE, _RELIABLE = np.array([214, 40, 57]), np.array([34, 139, 84])
#: The front and the subject's left and right side: how far the model is turned about its vertical.
_TURNS = (0.0, -math.pi / 2, math.pi / 2)
#: The dots are drawn so many times larger and then reduced, which smooths them.
_FINE = 3
#: Distance of the camera in radii of the model, and half the picture's side that the model fills.
_DISTANCE, _FILL = 10.0, 0.46


def transfer_report(
    embedding: LandmarkEmbedding,
    settings: TransferSettings,
    *,
    counts: Mapping[str, int],
    extent: float,
    symmetric: bool,
    residual: Float[np.ndarray, " landmarks"],
    dispersion: Float[np.ndarray, " landmarks"],
    held_out: Float[np.ndarray, " landmarks"],
) -> dict[str, Any]:
    """The figures, ready for JSON; lengths in it are millimetres.

    Args:
        embedding: What was found.
        settings: How.
        counts: Renders made, accepted by the landmarker, held out, and rejected as the landmarker's errors.
        extent: Size of the part that the landmarks cover, metres.
        symmetric: Whether a landmark and its mirror image were found together.
        residual: (L,) median over the renders of the distance between a landmark and its place, metres, as
            the landmark's ray sees it.
        dispersion: (L,) the mean of these distances, each at most a tenth of the extent.
        held_out: (L,) like the residual, over renders that were not used to find the places.
    """
    scheme = embedding.scheme
    millimetres = {"residual_mm": residual, "dispersion_mm": dispersion, "held_out_mm": held_out}
    columns = {name: (1e3 * values).round(3).tolist() for name, values in millimetres.items()}
    columns["reliability"] = embedding.reliability.round(4).tolist()
    return {
        "partfit": __version__,
        "topology": embedding.topology,
        "scheme": {
            "name": scheme.name,
            "version": scheme.version,
            "hash": scheme.hash,
            "points": len(scheme),
        },
        "embedding": embedding.hash,
        "settings": attrs.asdict(settings),
        "renders": dict(counts),
        "extent_mm": round(1e3 * extent, 3),
        "symmetric": symmetric,
        "summary": {
            name: {
                "median": round(float(np.median(values)), 3),
                "p95": round(float(np.quantile(values, 0.95)), 3),
            }
            for name, values in columns.items()
            if name != "reliability"
        },
        "landmarks": [
            {"name": name, **{column: values[i] for column, values in columns.items()}}
            for i, name in enumerate(scheme.names)
        ],
    }


def draw_transfer(
    model: ParametricModel,
    rest: Float[np.ndarray, "points 3"],
    embedding: LandmarkEmbedding,
    samples: Sequence[tuple[Render, Detection]],
) -> Image.Image:
    """Above, the model from the front and from the subject's left and right; below, some of the renders.

    Landmarks on the model are green where they are reliable and red where they are not. Those that a view
    hides are left out of it, unless they lie inside the model.

    Args:
        model: The model.
        rest: (N, 3) its points at rest.
        embedding: What was found.
        samples: Renders, and what the landmarker said of them.
    """
    sheet = Image.new("RGB", (3 * TILE, 2 * TILE), _BACKDROP)
    for column, turn in enumerate(_TURNS):
        sheet.paste(_view(model, rest, embedding, turn), (column * TILE, 0))
    for column, (render, detection) in enumerate(samples):
        zoom = TILE / len(render.image)
        enlarged = Image.fromarray(render.image).resize((TILE, TILE), Image.Resampling.BICUBIC)
        drawn = draw_landmarks(np.asarray(enlarged), [detection.mapped(zoom)])
        sheet.paste(drawn, (column * TILE, TILE))
    return sheet


def _view(
    model: ParametricModel, rest: Float[np.ndarray, "points 3"], embedding: LandmarkEmbedding, turn: float
) -> Image.Image:
    vertices = rest[: model.topology.n_vertices]
    center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - center, axis=1).max())
    c, s = math.cos(turn), math.sin(turn)
    rotation = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def to_camera(points: np.ndarray) -> np.ndarray:
        return (points - center) @ rotation.T * TO_CAMERA + [0, 0, _DISTANCE * radius]

    mesh = Mesh(to_camera(vertices), model.topology.faces)
    focal, middle = _FILL * TILE * _DISTANCE, (TILE - 1) / 2
    clay = Image.fromarray(shade([mesh], focal, (middle, middle), (TILE, TILE)))
    tile = Image.new("RGB", (TILE, TILE), _BACKDROP)
    tile.paste(clay, mask=clay.getchannel("A"))
    tile = tile.resize((_FINE * TILE, _FINE * TILE))
    places = to_camera(embedding.apply(rest))
    shown = _shown(places, mesh, radius)
    pixels = _FINE * (focal * places[shown, :2] / places[shown, 2:] + middle + 0.5)
    pen, dot = ImageDraw.Draw(tile), _FINE * max(1.8, min(5.0, 40 / math.sqrt(len(places))))
    for (x, y), reliability in zip(pixels, embedding.reliability[shown], strict=True):
        colour = _UNRELIABLE + reliability * (_RELIABLE - _UNRELIABLE)
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=tuple(colour.astype(int)))
    return tile.resize((TILE, TILE), Image.Resampling.BOX)


def _shown(
    places: Float[np.ndarray, "landmarks 3"], mesh: Mesh, radius: float
) -> Bool[np.ndarray, " landmarks"]:
    """Which places the camera sees; one inside counts as seen when the skin before it is near."""
    return visible_points(places, [mesh], 2 * surface_distances(places, [mesh]) + 0.01 * radius)
