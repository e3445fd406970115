"""The way from a model and a landmarker to an embedding: render, look, locate, judge."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from partfit.errors import ComponentError, InputError
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker, LandmarkScheme
from partfit.models.base import ParametricModel
from partfit.transfer.locate import CUT, Observations, locate_inside, locate_on_surface, mirror_images
from partfit.transfer.renders import Render, make_renders, rest_points
from partfit.transfer.report import draw_transfer, transfer_report
from partfit.transfer.settings import TransferSettings

#: Wraps the renders, of which there are so many, to show how far they are.
Progress: TypeAlias = Callable[[Iterable[Render], int], Iterable[Render]]

#: A landmark may lie on triangles whose corners are seen in so many of the renders: not in a cavity.
EXPOSED = 0.4
#: One render in so many is held out.
HELD_OUT = 5
#: Least number of renders with landmarks, and least part of all renders.
_LEAST, _LEAST_PART = 10, 0.1
#: Renders whose landmarks are, in the median, so many times farther off than usual are left out.
_FAILED = 3.0
#: A landmark of so many times the usual dispersion counts half.
_HALF_DISPERSION = 1.5


@attrs.frozen(eq=False)
class TransferResult:
    """An embedding that was found by looking.

    Attributes:
        embedding: Where the landmarks lie on the model. Its reliability is 1 / (1 + (d / 1.5 m)^2) for a
            landmark of dispersion d, m being the median over the landmarks.
        report: How good it is, ready for JSON; see `partfit.transfer.report.transfer_report`.
        picture: The model with its landmarks from the front and both sides, and three of the renders.
    """

    embedding: LandmarkEmbedding
    report: dict[str, Any]
    picture: Image.Image


@attrs.frozen(eq=False)
class _Sights:
    """What a landmarker saw in the renders.

    Attributes:
        observations: Of the renders in which it found the part.
        visible: (V,) in what part of these the camera sees each vertex.
        samples: The first three, and what was found in them.
    """

    observations: Observations
    visible: Float[np.ndarray, " vertices"]
    samples: list[tuple[Render, Detection]]


def transfer_landmarks(
    model: ParametricModel,
    detector: Detector,
    landmarker: Landmarker,
    settings: TransferSettings | None = None,
    progress: Progress | None = None,
) -> TransferResult:
    """Find where the points of a landmarker's scheme lie on a model, from renders alone.

    Args:
        model: Any model in the model frame of the conventions.
        detector: Finds the part in renders.
        landmarker: Places the landmarks. Of several parts in a render, the one of the best score counts; a
            detection counts where all its points are finite.
        settings: By default `TransferSettings()`.
        progress: Is given the renders and their number, and yields them.

    Raises:
        InputError: if the landmarker accepts too few of the renders.
        ComponentError: if it returns detections of another scheme than its own.
    """
    settings = settings or TransferSettings()
    sights = _look(model, detector, landmarker, settings, progress or _silently)
    seen, rest = sights.observations, rest_points(model)
    held = np.arange(len(seen.rays)) % HELD_OUT == 0
    cut = CUT * seen.extent
    placer = _Placer(model, landmarker.scheme, sights.visible, rest, settings)
    used = seen.select(~held)
    rows = placer(used, cut)
    good = _consistent(used.distances(*rows))
    if not good.all():
        used = used.select(good)
        rows = placer(used, cut)
    distances = used.distances(*rows)
    dispersion = np.minimum(distances, cut).mean(axis=0)
    if placer.mirror is not None:  # it was found together with its mirror image
        dispersion = (dispersion + dispersion[landmarker.scheme.mirror]) / 2
    embedding = LandmarkEmbedding(
        landmarker.scheme, model.topology.name, *rows, reliability=_reliability(dispersion)
    )
    report = transfer_report(
        embedding,
        settings,
        counts={
            "made": settings.renders,
            "accepted": len(seen.rays),
            "held_out": int(held.sum()),
            "rejected": int((~good).sum()),
        },
        extent=seen.extent,
        symmetric=placer.mirror is not None,
        residual=np.median(distances, axis=0),
        dispersion=dispersion,
        held_out=np.median(seen.select(held).distances(*rows), axis=0),
    )
    return TransferResult(embedding, report, draw_transfer(model, rest, embedding, sights.samples))


def _reliability(dispersion: Float[np.ndarray, " landmarks"]) -> Float[np.ndarray, " landmarks"]:
    """(L,) of landmarks of these dispersions, see `TransferResult`."""
    usual = max(float(np.median(dispersion)), np.finfo(float).tiny)
    return 1 / (1 + (dispersion / (_HALF_DISPERSION * usual)) ** 2)


class _Placer:
    """Places landmarks on a model: on its exposed surface, or inside."""

    def __init__(
        self,
        model: ParametricModel,
        scheme: LandmarkScheme,
        visible: Float[np.ndarray, " vertices"],
        rest: Float[np.ndarray, "points 3"],
        settings: TransferSettings,
    ) -> None:
        self._on, self._n_vertices = settings.on, model.topology.n_vertices
        self._scheme, self._visible, self._faces = scheme, visible, model.topology.faces
        own_mirror = scheme.mirror is not None and scheme.mirror_scheme in (None, scheme.name)
        self.mirror = None
        if settings.on == "surface" and own_mirror:
            self.mirror = mirror_images(rest[: self._n_vertices], self._faces)

    def __call__(
        self, seen: Observations, cut: float
    ) -> tuple[Int[np.ndarray, "landmarks k"], Float[np.ndarray, "landmarks k"]]:
        """Indices and weights (L, K) of the rows of the embedding."""
        if self._on == "joints":
            return locate_inside(seen, self._n_vertices, cut)
        visible = self._visible
        if self.mirror is not None and self._scheme.mirror is not None:
            seen = seen.with_mirrored(self.mirror, self._scheme.mirror)
            visible = (visible + (visible[self.mirror.corners] * self.mirror.barycentric).sum(axis=1)) / 2
        exposed = self._faces[(visible[self._faces] > EXPOSED).all(axis=1)]
        if not len(exposed):
            raise InputError(
                f"No triangle of the model is seen in more than {EXPOSED:.0%} of the renders, so that "
                f"{self._scheme.name!r} could lie on it. Narrow the views: a smaller yaw and pitch."
            )
        spots = locate_on_surface(seen, exposed, cut)
        return spots.corners, spots.barycentric


def _look(
    model: ParametricModel,
    detector: Detector,
    landmarker: Landmarker,
    settings: TransferSettings,
    progress: Progress,
) -> _Sights:
    """Show renders to the detector and the landmarker."""
    points, rays, found_parts = [], [], 0
    visible = np.zeros(model.topology.n_vertices)
    samples: list[tuple[Render, Detection]] = []
    renders = iter(progress(make_renders(model, settings), settings.renders))
    for batch in _batches(renders, settings.batch):
        images = [render.image for render in batch]
        regions = detector.detect(images)
        found_parts += sum(map(bool, regions))
        for render, found in zip(batch, landmarker.locate(images, regions), strict=True):
            accepted = [detection for detection in found if np.isfinite(detection.points).all()]
            if not accepted:
                continue
            best = max(accepted, key=lambda detection: detection.score)
            if best.scheme.hash != landmarker.scheme.hash:
                raise ComponentError(
                    f"{type(landmarker).__name__} has the scheme {landmarker.scheme.name!r}, but returned a "
                    f"detection of {best.scheme.name!r}."
                )
            points.append(render.points)
            rays.append(render.rays(best.points))
            visible += render.visible
            if len(samples) < 3:
                samples.append((render, best))
    if len(rays) < _least(settings):
        raise InputError(_too_few(model, settings, found_parts, len(rays)))
    return _Sights(Observations(np.stack(points), np.stack(rays)), visible / len(rays), samples)


def _too_few(model: ParametricModel, settings: TransferSettings, found: int, accepted: int) -> str:
    hint = "Does the model look along +z, with y up, in metres?"
    if model.topology.colors is None:
        hint += " Give it natural colours (Topology.colors): renders show them."
    return (
        f"The landmarker accepts {accepted} of {settings.renders} renders of {model.topology.name!r}; "
        f"expected {_least(settings)} or more. The detector found the part in {found}. The views were turned "
        f"by up to {settings.yaw:.2f} (yaw), {settings.pitch:.2f} (pitch), {settings.roll:.2f} rad (roll); "
        f"parameters drawn with {settings.spread} of their standard deviations. {hint} Make more renders, or "
        "narrow the views."
    )


def _least(settings: TransferSettings) -> int:
    return max(_LEAST, round(_LEAST_PART * settings.renders))


def _consistent(distances: Float[np.ndarray, "renders landmarks"]) -> Bool[np.ndarray, " renders"]:
    """Which renders (N,) the landmarker has not got wrong as a whole."""
    of_render = np.median(distances, axis=1)
    return of_render <= _FAILED * np.median(of_render)


def _batches(renders: Iterator[Render], size: int) -> Iterator[list[Render]]:
    while batch := list(itertools.islice(renders, size)):
        yield batch


def _silently(renders: Iterable[Render], total: int) -> Iterable[Render]:
    return renders
