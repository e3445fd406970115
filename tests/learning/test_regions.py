import numpy as np
import pytest

from partfit.errors import ConfigError, InputError
from partfit.landmarks import Detector, Region
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.datasets import Sample
from partfit.learning.regions import find_region_map

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
    found = find_region_map(Planned(answers), [sample(box) for box in all_boxes])
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
    found = find_region_map(Planned(answers), [sample(box) for box in all_boxes])
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


def test_too_few_pairs_are_refused():
    with pytest.raises(InputError, match=r"at least 10 pictures.*found 0"):
        find_region_map(Planned([[]] * 12), [sample((20, 20, 80, 80))] * 12)


@pytest.mark.parametrize("margins", [(0.2, 0.1), (-0.6, 0.1)])
def test_margins_out_of_order_are_refused(margins):
    with pytest.raises(ConfigError, match="margins"):
        CropRule(margin_range=margins)
