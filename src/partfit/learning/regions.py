"""How a detector's regions lie to the boxes of a data set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from partfit.errors import InputError
from partfit.landmarks import Detector, Region
from partfit.learning.crops import RegionMap
from partfit.learning.datasets import Sample

#: A region whose middle is further than this from the box's, in the box's longer sides, is of something else.
_SAME_PART = 0.5
#: Fewer pairs than this say nothing about the spread.
_LEAST_PAIRS = 10
#: Standard deviations of a normal distribution per median absolute deviation.
_DEVIATION = 1.4826


def find_region_map(detector: Detector, samples: Iterable[Sample]) -> RegionMap:
    """The map from a detector's regions to the boxes of samples, found by running it on their pictures.

    Medians over the pictures whose part the detector finds, so that a few wrong regions do not matter; the
    spread is 1.4826 times the median absolute deviation.

    Args:
        detector: Of the part that the samples show.
        samples: Pictures with one part each, as the detector will meet them; some hundreds are enough.

    Raises:
        InputError: if it finds fewer than 10 parts.
    """
    pairs = [(sample, best) for sample in samples if (best := _region_of(detector, sample)) is not None]
    if len(pairs) < _LEAST_PAIRS:
        raise InputError(
            f"A region map needs at least {_LEAST_PAIRS} pictures in which the detector finds the part; "
            f"found {len(pairs)}. Give more samples, or another detector."
        )
    measured = np.array([_differences(sample.box, region) for sample, region in pairs])
    middle = np.median(measured, axis=0)
    spread = _DEVIATION * np.median(np.abs(measured - middle), axis=0)
    log_scale, x, y = middle.tolist()
    return RegionMap(float(np.exp(log_scale)), (x, y), tuple(spread.tolist()))


def _region_of(detector: Detector, sample: Sample) -> Region | None:
    """The region nearest to the sample's box, if it shows the same part."""
    (regions,) = detector.detect([sample.image])
    x0, y0, x1, y1 = sample.box
    middle = np.array([x0 + x1, y0 + y1]) / 2
    reach = _SAME_PART * max(x1 - x0, y1 - y0)
    distances = [float(np.linalg.norm(np.array(region.center) - middle)) for region in regions]
    if not distances or min(distances) > reach:
        return None
    return regions[int(np.argmin(distances))]


def _differences(box: Float[np.ndarray, " 4"], region: Region) -> Float[np.ndarray, " 3"]:
    """Log scale and shift (x, y) from the region to the box, in the region's axes and longer sides."""
    x0, y0, x1, y1 = box
    side = max(region.size)
    c, s = np.cos(region.angle), np.sin(region.angle)
    offset = (np.array([x0 + x1, y0 + y1]) / 2 - region.center) / side
    return np.array([np.log(max(x1 - x0, y1 - y0) / side), *(np.array([[c, s], [-s, c]]) @ offset)])
