import numpy as np
import pytest
import torch

from partfit.errors import ConfigError, InputError
from partfit.geometry.crops import extract_crops
from partfit.landmarks import Detector, Region
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.datasets import Sample
from partfit.learning.regions import DetectedSample, find_region_map, find_regions, region_batches
from partfit.testing.datasets import BlobDataset

IMAGE = np.zeros((200, 300, 3), dtype=np.uint8)


class Planned(Detector):
    """Answers with the regions it was given, picture by picture."""

    def __init__(self, answers):
        super().__init__()
        self.answers = iter(answers)

    def detect(self, images):
        return [next(self.answers) for _ in images]


def sample(box):
    return Sample(id="s", image=IMAGE, points=np.zeros((1, 2)), box=np.array(box))


def region_map(answers, all_boxes):
    """The map of a detector with these answers to pictures with these boxes."""
    samples = [sample(box) for box in all_boxes]
    return find_region_map(find_regions(Planned(answers), samples, range(len(samples))))


def region_for(box, scale, shift, angle):
    """The region from which a map of this scale and shift leads to the box."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0) / scale
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    center = np.array([x0 + x1, y0 + y1]) / 2 - side * turn @ shift
    return Region(tuple(center), (side, 0.8 * side), angle)


def boxes(count, rng):
    corners = rng.uniform(20, 60, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(60, 120, (count, 2))], axis=1)


def test_the_map_that_made_the_regions_is_found_in_spite_of_wrong_ones():
    rng = np.random.default_rng(0)
    all_boxes = boxes(60, rng)
    answers = [[region_for(box, 1.3, (0.05, -0.1), rng.uniform(-1, 1))] for box in all_boxes]
    answers[3] = []
    answers[7] = [Region((290, 190), (10, 10)), *answers[7]]
    answers[9] = [region_for(all_boxes[9], 3.0, (0.1, 0.1), 0.0)]
    found = region_map(answers, all_boxes)
    assert found.scale == pytest.approx(1.3)
    assert found.shift == pytest.approx((0.05, -0.1))
    assert found.spread == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_spread_is_that_of_the_detector():
    rng = np.random.default_rng(1)
    all_boxes = boxes(2000, rng)
    answers = [
        [region_for(box, np.exp(rng.normal(0.1, 0.08)), rng.normal((0.0, 0.1), (0.03, 0.05)), 0.0)]
        for box in all_boxes
    ]
    found = region_map(answers, all_boxes)
    assert found.spread == pytest.approx((0.08, 0.03, 0.05), rel=0.1)


def test_a_crop_by_the_map_encloses_the_box():
    rng = np.random.default_rng(2)
    rule = CropRule(margin=0.1)
    for box in boxes(5, rng):
        angle = rng.uniform(-1, 1)
        mapped = RegionMap(1.3, (0.05, -0.1)).crop(region_for(box, 1.3, (0.05, -0.1), angle), rule, 64)
        expected = rule.crop(box, 64, angle)
        assert mapped.center == pytest.approx(expected.center)
        assert mapped.size == pytest.approx(expected.size)
        assert mapped.size == pytest.approx(1.2 * max(box[2] - box[0], box[3] - box[1]))
        assert mapped.angle == angle


def test_samples_are_cropped_by_the_regions_as_in_use():
    dataset, rule, regions = BlobDataset(), CropRule(margin=0.1), RegionMap(1.2, (0.1, -0.05))
    turned = Region((70.0, 60.0), (50.0, 60.0), 0.3)
    detected = [DetectedSample(k, dataset[k].box, turned) for k in (4, 2)]
    for k, batch in zip((4, 2), region_batches(dataset, detected, regions, rule, 48), strict=True):
        one, crop = dataset[k], regions.crop(turned, rule, 48)
        assert (batch.ids, batch.index.tolist()) == ((one.id,), [k])
        np.testing.assert_allclose(batch.to_picture(batch.targets.points)[0], one.points, atol=1e-3)
        pixels = ((batch.targets.points[0].numpy() + 0.5) * 48) - 0.5
        np.testing.assert_allclose(crop.to_image(pixels), one.points, atol=1e-3)
        picture = torch.tensor(one.image).permute(2, 0, 1)
        assert torch.equal(batch.images, extract_crops(picture, [crop]) / 255)
        np.testing.assert_allclose(batch.boxes[0], one.box, rtol=1e-6)


def test_too_few_pairs_are_refused():
    with pytest.raises(InputError, match=r"at least 10 pictures.*found 0"):
        region_map([[]] * 12, [(20, 20, 80, 80)] * 12)


@pytest.mark.parametrize("margins", [(0.2, 0.1), (-0.6, 0.1)])
def test_margins_out_of_order_are_refused(margins):
    with pytest.raises(ConfigError, match="margins"):
        CropRule(margin_range=margins)
