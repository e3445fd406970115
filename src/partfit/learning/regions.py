"""How a detector's regions lie to the boxes of a data set, and how its samples look through them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs
import numpy as np
import torch
from jaxtyping import Float

from partfit.errors import InputError
from partfit.geometry.crops import Crop, extract_crops
from partfit.landmarks import Detector, Region
from partfit.learning.batches import Batch
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.datasets import Dataset, Sample
from partfit.learning.distribution import LandmarkTargets

#: A region whose middle is further than this from the box's, in the box's longer sides, is of something else.
_SAME_PART = 0.5
#: Fewer pairs than this say nothing about the spread.
_LEAST_PAIRS = 10
#: Standard deviations of a normal distribution per median absolute deviation.
_DEVIATION = 1.4826


@attrs.frozen(eq=False)
class DetectedSample:
    """A sample whose part a detector found.

    Attributes:
        index: Its index in the data set.
        box: (4,) its box, picture pixels.
        region: Where the detector sees the part.
    """

    index: int
    box: Float[np.ndarray, " 4"]
    region: Region


def find_regions(detector: Detector, dataset: Dataset, indices: Iterable[int]) -> list[DetectedSample]:
    """Run a detector on the pictures of some samples; those whose part it does not find are left out.

    Args:
        detector: Of the part that the samples show.
        dataset: Pictures with one part each, as the detector will meet them.
        indices: Of the samples; some hundreds are enough.
    """
    samples = ((index, dataset[index]) for index in indices)
    found = ((index, sample.box, _region_of(detector, sample)) for index, sample in samples)
    return [DetectedSample(index, box, region) for index, box, region in found if region is not None]


def find_region_map(detected: Sequence[DetectedSample]) -> RegionMap:
    """The map from a detector's regions to the boxes of samples.

    Medians over the samples, so that a few wrong regions do not matter; the spread is 1.4826 times the median
    absolute deviation.

    Raises:
        InputError: if they are fewer than 10.
    """
    if len(detected) < _LEAST_PAIRS:
        raise InputError(
            f"A region map needs at least {_LEAST_PAIRS} pictures in which the detector finds the part; "
            f"found {len(detected)}. Give more samples, or another detector."
        )
    measured = np.array([_differences(one.box, one.region) for one in detected])
    middle = np.median(measured, axis=0)
    spread = _DEVIATION * np.median(np.abs(measured - middle), axis=0)
    log_scale, x, y = middle.tolist()
    return RegionMap(float(np.exp(log_scale)), (x, y), tuple(spread.tolist()))


def region_batches(
    dataset: Dataset, detected: Iterable[DetectedSample], regions: RegionMap, rule: CropRule, resolution: int
) -> Iterator[Batch]:
    """Samples cropped as they first are in use, by the detector's regions; a batch each."""
    for one in detected:
        sample = dataset[one.index]
        yield _batch(one.index, sample, regions.crop(one.region, rule, resolution))


def _batch(index: int, sample: Sample, crop: Crop) -> Batch:
    picture = torch.tensor(sample.image).permute(2, 0, 1)
    R, A = crop.resolution, crop.matrix
    points = (crop.from_image(sample.points) + 0.5) / R - 0.5
    # of the crop unit u the crop pixel is R u + (R - 1) / 2
    matrix = np.column_stack([A[:, :2] * R, A[:, :2].sum(axis=1) * (R - 1) / 2 + A[:, 2]])
    return Batch(
        images=extract_crops(picture, [crop]) / 255,
        targets=LandmarkTargets.of_points(torch.tensor(points, dtype=torch.float32)[None]),
        ids=(sample.id,),
        index=torch.tensor([index]),
        boxes=torch.tensor(sample.box, dtype=torch.float32)[None],
        matrix=torch.tensor(matrix, dtype=torch.float32)[None],
    )


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
