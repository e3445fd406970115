"""The way from a model and a landmarker to an embedding: look, locate, judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from partfit.errors import InputError
from partfit.landmarks import Detector, LandmarkEmbedding, Landmarker, LandmarkScheme
from partfit.models.base import ParametricModel
from partfit.transfer.locate import Observations, Spots, locate_joints, locate_on_surface, mirror_images
from partfit.transfer.look import Progress, Sights, look
from partfit.transfer.renders import rest_points
from partfit.transfer.report import draw_transfer, transfer_report
from partfit.transfer.settings import TransferSettings

#: A landmark may lie on triangles whose corners are seen in so many of the renders: not in a cavity.
_EXPOSED = 0.4
#: One render in so many is held out.
_HELD_OUT = 5
#: A landmark is placed if it is seen in so many renders, and in this part of those that are used.
_LEAST, _LEAST_PART = 3, 0.1
#: Renders whose landmarks are, in the median, so many times farther off than usual are left out.
_FAILED = 3.0
#: A landmark of so many times the usual dispersion counts half.
_HALF_DISPERSION = 1.5
#: The usual dispersion is at least this part of the limit on distances.
_LEAST_DISPERSION = 0.01


@attrs.frozen(eq=False)
class TransferResult:
    """An embedding that was found by looking.

    Attributes:
        embedding: Where the landmarks lie on the model. Its reliability is (1 - (d / c)^2) / (1 +
            (d / 1.5 m)^2) for a landmark of dispersion d, the mean of its distances, which count up to c, a
            tenth of the landmarks' extent; m is the median of d over the landmarks, at least c / 100. It is
            0 for a landmark that was not seen often enough, whose row means nothing.
        report: How good it is, ready for JSON; see `partfit.transfer.report.transfer_report`.
        picture: The model with its landmarks from the front and both sides, and three of the renders.
    """

    embedding: LandmarkEmbedding
    report: dict[str, Any]
    picture: Image.Image


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
            detection counts where half of its landmarks are usable, and of these the usable ones count.
        settings: By default `TransferSettings()`.
        progress: Is given the renders and their number, and yields them.

    Raises:
        InputError: if the landmarker accepts too few of the renders, or puts all landmarks at one point.
        ComponentError: if detector or landmarker do not return what they promise.
    """
    settings = settings or TransferSettings()
    sights = look(model, detector, landmarker, settings, progress)
    seen, rest = sights.observations, rest_points(model)
    limit = seen.limit
    if not limit:
        raise InputError(
            f"{type(landmarker).__name__} says the same point for all landmarks of "
            f"{landmarker.scheme.name!r}; expected landmarks that lie apart in the renders."
        )
    place = _Placer(model, landmarker.scheme, sights, rest, settings)
    held = np.arange(len(seen.rays)) % _HELD_OUT == 0
    embedding = place(~held, limit)
    distances = seen.distances(embedding)
    used = ~held & _consistent(distances, ~held)
    if not (used | held).all():
        embedding = place(used, limit)
        distances = seen.distances(embedding)
    dispersion = _mean(np.minimum(distances[used], limit))
    if place.mirror is not None:  # it was found together with its mirror image
        dispersion = _mean(np.stack([dispersion, dispersion[landmarker.scheme.mirror]]))
    embedding = attrs.evolve(embedding, reliability=_reliability(dispersion, limit))
    report = transfer_report(
        embedding,
        settings,
        counts={
            "made": settings.renders,
            "accepted": len(seen.rays),
            "held_out": int(held.sum()),
            "rejected": int((~held & ~used).sum()),
        },
        extent=seen.extent,
        symmetric=place.mirror is not None,
        seen=seen.seen[used].sum(axis=0),
        residual=_median(distances[used]),
        dispersion=dispersion,
        held_out=_median(distances[held]),
    )
    return TransferResult(embedding, report, draw_transfer(model, rest, embedding, sights.samples))


class _Placer:
    """Places landmarks on a model: on its exposed surface, or as joints."""

    def __init__(
        self,
        model: ParametricModel,
        scheme: LandmarkScheme,
        sights: Sights,
        rest: Float[np.ndarray, "points 3"],
        settings: TransferSettings,
    ) -> None:
        self._scheme, self._topology, self._on = scheme, model.topology, settings.on
        self._seen = sights.observations
        self.mirror: Spots | None = None
        if settings.on == "joints":
            return
        visible, faces = sights.visible, model.topology.faces
        if _may_mirror(model, scheme):
            self.mirror = mirror_images(rest[: model.topology.n_vertices], faces)
        if self.mirror is not None and scheme.mirror is not None:
            self._seen = self._seen.with_mirrored(self.mirror, scheme.mirror)
            visible = (visible + (visible[self.mirror.corners] * self.mirror.barycentric).sum(axis=1)) / 2
        self._exposed = faces[(visible[faces] > _EXPOSED).all(axis=1)]
        if not len(self._exposed):
            raise InputError(
                f"No triangle of the model is seen in more than {_EXPOSED:.0%} of the renders, so that "
                f"{scheme.name!r} could lie on it. Narrow the views: a smaller yaw and pitch."
            )

    def __call__(self, used: Bool[np.ndarray, " renders"], limit: float) -> LandmarkEmbedding:
        """The embedding by some of the renders; reliability 0 where a landmark is not seen often enough."""
        seen = self._seen.only(np.tile(used, len(self._seen.points) // len(used)))
        count = int(seen.seen.any(axis=1).sum())
        least = max(_LEAST, round(_LEAST_PART * count))
        often = seen.seen.sum(axis=0) >= least
        if not often.any():
            raise InputError(
                f"No landmark of {self._scheme.name!r} is seen in {least} or more of the {count} renders "
                "that agree with one another. Make more renders."
            )
        found_indices, found_weights = self._locate(seen.of_landmarks(often), limit)
        indices = np.zeros((len(often), found_indices.shape[1]), dtype=np.int64)
        weights = np.zeros(indices.shape)
        weights[:, 0] = 1.0
        indices[often], weights[often] = found_indices, found_weights
        return LandmarkEmbedding(self._scheme, self._topology.name, indices, weights, often.astype(float))

    def _locate(
        self, seen: Observations, limit: float
    ) -> tuple[Int[np.ndarray, "landmarks k"], Float[np.ndarray, "landmarks k"]]:
        if self._on == "joints":
            return locate_joints(seen, self._topology.n_vertices, limit)
        spots = locate_on_surface(seen, self._exposed, limit)
        return spots.corners, spots.barycentric


def _may_mirror(model: ParametricModel, scheme: LandmarkScheme) -> bool:
    """Whether a mirrored render shows the same part: not where the model or the scheme are of one side."""
    if scheme.mirror is None or scheme.mirror_scheme not in (None, scheme.name):
        return False
    return getattr(model.config, "side", None) is None


def _reliability(
    dispersion: Float[np.ndarray, " landmarks"], limit: float
) -> Float[np.ndarray, " landmarks"]:
    """(L,) of landmarks of these dispersions, see `TransferResult`; 0 for NaN."""
    usual = max(float(np.nanmedian(dispersion)), _LEAST_DISPERSION * limit)
    relative = 1 / (1 + (dispersion / (_HALF_DISPERSION * usual)) ** 2)
    return np.nan_to_num(np.clip(1 - (dispersion / limit) ** 2, 0, 1) * relative)


def _consistent(
    distances: Float[np.ndarray, "renders landmarks"], used: Bool[np.ndarray, " renders"]
) -> Bool[np.ndarray, " renders"]:
    """Which renders (N,) the landmarker has not got wrong as a whole, compared with those that are used."""
    of_render = _median(distances.T)
    return of_render <= _FAILED * np.nanmedian(of_render[used])


def _median(values: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " columns"]:
    return _of_known(np.nanmedian, values)


def _mean(values: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " columns"]:
    return _of_known(np.nanmean, values)


def _of_known(
    statistic: Callable[..., np.ndarray], values: Float[np.ndarray, "rows columns"]
) -> Float[np.ndarray, " columns"]:
    """A statistic of the columns, without NaN; NaN where nothing else is."""
    known = ~np.isnan(values).all(axis=0)
    result = np.full(len(known), np.nan)
    result[known] = statistic(values[:, known], axis=0)
    return result
