"""What a landmarker sees when renders of a model are shown to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import attrs
import numpy as np
from jaxtyping import Float

from partfit.errors import ComponentError, InputError
from partfit.landmarks import Detection, Detector, Landmarker
from partfit.models.base import ParametricModel
from partfit.pipeline import check_lists
from partfit.transfer.locate import Observations
from partfit.transfer.renders import Render, make_renders
from partfit.transfer.settings import TransferSettings

#: Wraps the renders, of which there are so many, to show how far they are.
Progress: TypeAlias = Callable[[Iterable[Render], int], Iterable[Render]]

#: Least number of renders with landmarks, and least part of all renders.
_LEAST, _LEAST_PART = 5, 0.1
#: Part of its landmarks that a detection must know.
_KNOWN = 0.5


@attrs.frozen(eq=False)
class Sights:
    """What a landmarker saw in the renders.

    Attributes:
        observations: Of the renders in which it found the part.
        visible: (V,) in what part of these the camera sees each vertex.
        samples: The first three, and what was found in them.
    """

    observations: Observations
    visible: Float[np.ndarray, " vertices"]
    samples: list[tuple[Render, Detection]]


def look(
    model: ParametricModel,
    detector: Detector,
    landmarker: Landmarker,
    settings: TransferSettings,
    progress: Progress | None = None,
) -> Sights:
    """Show renders to a detector and a landmarker.

    Raises:
        InputError: if the landmarker accepts fewer than a tenth of the renders, or than five.
        ComponentError: if one of them does not answer as it should.
    """
    points = np.empty((settings.renders, model.topology.n_points, 3), dtype=np.float32)
    rays: list[np.ndarray] = []
    visible, found_parts = np.zeros(model.topology.n_vertices), 0
    samples: list[tuple[Render, Detection]] = []
    renders: Iterable[Render] = make_renders(model, settings)
    if progress is not None:
        renders = progress(renders, settings.renders)
    for batch in _batches(iter(renders), settings.batch):
        images = [render.image for render in batch]
        regions = detector.detect(images)
        check_lists(detector, "detect", regions, len(images))
        found_parts += sum(map(bool, regions))
        located = landmarker.locate(images, regions)
        check_lists(landmarker, "locate", located, len(images))
        for render, found in zip(batch, located, strict=True):
            detection = _best(landmarker, found)
            if detection is None:
                continue
            points[len(rays)] = render.points
            rays.append(render.rays(detection.points))
            visible += render.visible
            if len(samples) < 3:
                samples.append((render, detection))
    if len(rays) < _least(settings):
        raise InputError(_too_few(model, settings, found_parts, len(rays)))
    return Sights(Observations(points[: len(rays)], np.stack(rays)), visible / len(rays), samples)


def _best(landmarker: Landmarker, found: Sequence[Detection]) -> Detection | None:
    """The best detection of those that know half of their landmarks; what it does not know is NaN."""
    accepted = [detection for detection in found if detection.usable.mean() >= _KNOWN]
    if not accepted:
        return None
    best = max(accepted, key=lambda detection: detection.score)
    if best.scheme.hash != landmarker.scheme.hash:
        raise ComponentError(
            f"{type(landmarker).__name__} has the scheme {landmarker.scheme.name!r}, but returned a "
            f"detection of {best.scheme.name!r}."
        )
    return attrs.evolve(best, points=np.where(best.usable[:, None], best.points, np.nan))


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


def _batches(renders: Iterator[Render], size: int) -> Iterator[list[Render]]:
    while batch := list(itertools.islice(renders, size)):
        yield batch
