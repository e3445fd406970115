"""The suite of detectors."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from partfit.geometry.pixels import resize_points
from partfit.landmarks import Detector, Region
from partfit.testing.conformance.pictures import (
    PictureSuite,
    check_lists,
    check_side,
    odd_pictures,
    require_results,
)


class DetectorConformance(PictureSuite):
    """A detector: finds something, finite regions, the same for a picture alone as among others."""

    @abstractmethod
    def make(self) -> Detector:
        """The detector under test."""

    def test_regions_are_found_and_well_formed(self) -> None:
        pictures = self.make_pictures()
        found = self.make().detect(pictures)
        check_lists(found, len(pictures))
        require_results(found)
        for regions in found:
            scores = [region.score for region in regions]
            assert scores == sorted(scores, reverse=True), "regions must come best score first"
            for region in regions:
                _check_region(region)

    def test_odd_pictures_are_no_trouble(self) -> None:
        found = self.make().detect(odd_pictures())
        check_lists(found, len(odd_pictures()))
        for region in (region for regions in found for region in regions):
            _check_region(region)

    def test_batched_equals_looped(self) -> None:
        detector, pictures = self.make(), [*self.make_pictures(), *odd_pictures()]
        together = detector.detect(pictures)
        require_results(together)
        for picture, regions in zip(pictures, together, strict=True):
            (alone,) = detector.detect([picture])
            for one, other in zip(alone, regions, strict=True):
                _check_same_region(one, other)

    def test_pictures_are_left_as_they_are(self) -> None:
        pictures = self.make_pictures()
        given = [picture.copy() for picture in pictures]
        self.make().detect(pictures)
        assert all(np.array_equal(*pair) for pair in zip(pictures, given, strict=True))

    def test_regions_are_where_the_part_is(self) -> None:
        """A wider picture moves them to the right, a higher one down: within a tenth of their size."""
        detector = self.make()
        for picture in self.make_pictures():
            (regions,) = detector.detect([picture])
            for region in regions[:1]:
                x, y = round(max(region.size) / 4), round(max(region.size) / 8)
                (found,) = detector.detect([self.padded(picture, x, y)])
                expected = np.add(region.center, [x, y])
                away = min((np.linalg.norm(expected - one.center) for one in found), default=np.inf)
                assert away <= max(0.1 * max(region.size), 1), (
                    f"in a picture with ({x}, {y}) pixels more on each side no region is at {expected}; "
                    "are x and y, or the picture's pixels and the network's, mistaken for one another?"
                )

    def test_regions_grow_with_the_picture(self) -> None:
        """In a picture twice as large they are about twice as large, and twice as far from the corner."""
        detector = self.make()
        for picture in self.make_pictures():
            (regions,) = detector.detect([picture])
            for region in regions[:1]:
                (found,) = detector.detect([self.doubled(picture)])
                center, size = resize_points(np.array(region.center), 2), 2 * np.array(region.size)
                near = [one for one in found if np.linalg.norm(center - one.center) <= 0.2 * max(size)]
                assert near, f"in a picture twice as large no region is near {center}"
                growth = near[0].size / size
                assert ((growth > 0.7) & (growth < 1.4)).all(), (
                    f"in a picture twice as large the region {region.size} becomes {near[0].size}; are sizes "
                    "pixels of the picture, or of the network?"
                )

    def test_no_pictures_give_no_regions(self) -> None:
        assert self.make().detect([]) == []


def _check_region(region: Region) -> None:
    assert np.isfinite([*region.center, *region.size, region.angle, region.score]).all()
    assert min(region.size) > 0
    assert 0 <= region.score <= 1
    check_side(region.side)


def _check_same_region(one: Region, other: Region) -> None:
    np.testing.assert_allclose(one.center, other.center, rtol=0, atol=0.05)
    np.testing.assert_allclose(one.size, other.size, rtol=0, atol=0.05)
    np.testing.assert_allclose([one.angle, one.score], [other.angle, other.score], rtol=0, atol=1e-3)
    assert one.side == other.side
