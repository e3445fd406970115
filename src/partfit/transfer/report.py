"""How good a transferred embedding is, in figures and in a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from partfit import __version__
from partfit.landmarks import Detection, LandmarkEmbedding
from partfit.meshes import Mesh
from partfit.models.base import ParametricModel
from partfit.rendering import PANEL_TILE, draw_landmarks, draw_view
from partfit.transfer.renders import Render
from partfit.transfer.settings import TransferSettings

#: Colours of landmarks on the model, sRGB.
_UNRELIABLE, _RELIABLE = np.array([0.84, 0.16, 0.22]), np.array([0.13, 0.55, 0.33])
#: The front and the subject's left and right side: how far the model is turned about its vertical.
_TURNS = (0.0, math.pi / 2, -math.pi / 2)


def transfer_report(
    embedding: LandmarkEmbedding,
    settings: TransferSettings,
    *,
    counts: Mapping[str, int],
    extent: float,
    symmetric: bool,
    seen: Int[np.ndarray, " landmarks"],
    residual: Float[np.ndarray, " landmarks"],
    dispersion: Float[np.ndarray, " landmarks"],
    held_out: Float[np.ndarray, " landmarks"],
) -> dict[str, Any]:
    """The figures, ready for JSON; lengths in it are millimetres, those that are not known (NaN) are null.

    Args:
        embedding: What was found.
        settings: How.
        counts: Renders made, accepted by the landmarker, held out, and rejected as the landmarker's errors.
        extent: Size of the part that the landmarks cover, metres.
        symmetric: Whether a landmark and its mirror image were found together.
        seen: (L,) in how many renders each landmark was seen, of those that were used.
        residual: (L,) median over the renders of the distance between a landmark and its place, metres, as
            the landmark's ray sees it.
        dispersion: (L,) the mean of these distances, each at most a tenth of the extent.
        held_out: (L,) like the residual, over renders that were not used to find the places.
    """
    scheme = embedding.scheme
    millimetres = {"residual_mm": residual, "dispersion_mm": dispersion, "held_out_mm": held_out}
    columns = {name: [_rounded(1e3 * value) for value in values] for name, values in millimetres.items()}
    summary = {
        name: {
            "median": _rounded(np.nanmedian(1e3 * values)),
            "p95": _rounded(np.nanquantile(1e3 * values, 0.95)),
        }
        for name, values in millimetres.items()
    }
    rows = {"seen": seen.tolist(), **columns, "reliability": embedding.reliability.round(4).tolist()}
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
        "summary": summary,
        "landmarks": [
            {"name": name, **{column: values[i] for column, values in rows.items()}}
            for i, name in enumerate(scheme.names)
        ],
    }


def _rounded(length: float) -> float | None:
    return None if math.isnan(length) else round(float(length), 3)


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
    tile = PANEL_TILE
    sheet = Image.new("RGB", (3 * tile, 2 * tile))
    topology = model.topology
    mesh = Mesh(topology.facing(rest[: topology.n_vertices]), topology.faces)
    colours = _UNRELIABLE + embedding.reliability[:, None] * (_RELIABLE - _UNRELIABLE)
    for column, turn in enumerate(_TURNS):
        view = draw_view(mesh, turn, topology.facing(embedding.apply(rest)), colours)
        sheet.paste(view, (column * tile, 0))
    for column, (render, detection) in enumerate(samples):
        zoom = tile / len(render.image)
        enlarged = Image.fromarray(render.image).resize((tile, tile), Image.Resampling.BICUBIC)
        drawn = draw_landmarks(np.asarray(enlarged), [detection.mapped(zoom)])
        sheet.paste(drawn, (column * tile, tile))
    return sheet
