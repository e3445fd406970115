"""The suite of landmarkers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from partfit.geometry.pixels import resize_points
from partfit.landmarks import Detection, Landmarker, LandmarkScheme, Region
from partfit.testing.conformance.pictures import (
    PictureSuite,
    check_lists,
    check_side,
    odd_pictures,
    require_results,
    whole,
)


class LandmarkerConformance(PictureSuite):
    """A landmarker: finds something, of its scheme, the same for a picture alone as among others.

    Attributes:
        expected_growth: The least and the greatest factor on the typical scale in a picture that is twice
            as large. A landmarker whose error is the same number of pixels in every picture sets (0.9, 3).
        mirror_tolerance: How far, on average, the landmarks of a flipped picture may lie from the flipped
            landmarks, in sizes of the region, where the scheme has a mirror of its own. None where the
            landmarker knows only one side of the part.
    """

    expected_growth: tuple[float, float] = (1.2, 3.0)
    mirror_tolerance: float | None = 0.1

    @abstractmethod
    def make(self) -> Landmarker:
        """The landmarker under test."""

    def make_regions(self, pictures: Sequence[np.ndarray]) -> list[list[Region]]:
        """Where to look: by default at the whole of each picture; override with a detector's answer."""
        return [[whole(picture)] for picture in pictures]

    def test_landmarks_are_found_and_well_formed(self) -> None:
        landmarker, pictures = self.make(), self.make_pictures()
        found = landmarker.locate(pictures, self.make_regions(pictures))
        check_lists(found, len(pictures))
        require_results(found)
        for detection in (detection for detections in found for detection in detections):
            _check_detection(detection, landmarker.scheme)

    def test_odd_pictures_are_no_trouble(self) -> None:
        landmarker, pictures = self.make(), odd_pictures()
        found = landmarker.locate(pictures, [[whole(picture)] for picture in pictures])
        check_lists(found, len(pictures))
        for detection in (detection for detections in found for detection in detections):
            _check_detection(detection, landmarker.scheme)

    def test_batched_equals_looped(self) -> None:
        landmarker, shown, odd = self.make(), self.make_pictures(), odd_pictures()
        pictures = [*shown, *odd]
        regions = [*self.make_regions(shown), *([whole(picture)] for picture in odd)]
        together = landmarker.locate(pictures, regions)
        require_results(together)
        for picture, own, detections in zip(pictures, regions, together, strict=True):
            (alone,) = landmarker.locate([picture], [own])
            for one, other in zip(alone, detections, strict=True):
                _check_same_detection(one, other)

    def test_pictures_are_left_as_they_are(self) -> None:
        pictures = self.make_pictures()
        given = [picture.copy() for picture in pictures]
        self.make().locate(pictures, self.make_regions(pictures))
        assert all(np.array_equal(*pair) for pair in zip(pictures, given, strict=True))

    def test_landmarks_are_pixels_of_the_picture(self) -> None:
        """They lie about their region, and a wider or higher picture moves them with it."""
        landmarker, pictures = self.make(), self.make_pictures()
        for picture, region in _each(pictures, self.make_regions(pictures)):
            size = max(region.size)
            shift = np.array([round(size / 4), round(size / 8)])
            moved = attrs.evolve(region, center=tuple(np.add(region.center, shift)))
            wider = self.padded(picture, *shift)
            for one, other in _both(landmarker, (picture, region), (wider, moved), "a wider one"):
                away = np.linalg.norm(np.median(one.points[one.usable], axis=0) - region.center)
                assert away <= size, (
                    f"the landmarks of the region at {region.center} lie {away:.0f} pixels from it; are they "
                    "pixels of the crop, or x and y exchanged?"
                )
                away = _distances(one.points, other.points - shift).max()
                assert away <= 0.02 * size, (
                    f"with {shift} pixels more on each side a landmark is {away:.1f} pixels from its place"
                )

    def test_landmarks_grow_with_the_picture(self) -> None:
        """In a picture twice as large they are twice as far from the corner, and their scales grow too."""
        landmarker, pictures = self.make(), self.make_pictures()
        for picture, region in _each(pictures, self.make_regions(pictures)):
            center, size = resize_points(np.array(region.center), 2), 2 * np.array(region.size)
            larger = attrs.evolve(region, center=tuple(center), size=tuple(size))
            doubled = self.doubled(picture)
            for one, other in _both(landmarker, (picture, region), (doubled, larger), "one twice as large"):
                away = _distances(resize_points(one.points, 2), other.points).mean()
                assert away <= 0.05 * max(size), (
                    f"in a picture twice as large the landmarks lie {away:.1f} pixels from where they should"
                )
                known = one.usable & other.usable
                growth = np.median(other.scale[known] / one.scale[known])
                least, most = self.expected_growth
                assert least <= growth <= most, (
                    f"in a picture twice as large the typical scale is {growth:.2f} times as large, expected "
                    f"{least} to {most}; are scales pixels of the picture? If so, set `expected_growth`."
                )

    def test_regions_are_answered_in_their_order(self) -> None:
        """The picture beside itself shows the part twice: two regions give two detections, each its own."""
        landmarker, pictures = self.make(), self.make_pictures()
        for picture, region in _each(pictures, self.make_regions(pictures)):
            (alone,) = landmarker.locate([picture], [[region]])
            if not alone:
                continue
            twice, width = np.concatenate([picture, picture], axis=1), picture.shape[1]
            beside = attrs.evolve(region, center=(region.center[0] + width, region.center[1]))
            for regions in ([region, beside], [beside, region]):
                (found,) = landmarker.locate([twice], [regions])
                assert len(found) == 2, f"two regions with a part each gave {len(found)} detections"
                for own, detection in zip(regions, found, strict=True):
                    away = abs(np.median(detection.points[detection.usable, 0]) - own.center[0])
                    assert away < width / 2, "the detections are not in the order of the regions"

    def test_a_flipped_picture_shows_the_mirror_of_the_scheme(self) -> None:
        """If the scheme has one of its own, and the landmarker knows both sides."""
        landmarker, pictures = self.make(), self.make_pictures()
        scheme, tolerance = landmarker.scheme, self.mirror_tolerance
        if scheme.mirror is None or scheme.mirror_scheme not in (None, scheme.name) or tolerance is None:
            return
        for picture, region in _each(pictures, self.make_regions(pictures)):
            last = picture.shape[1] - 1
            flipped = (np.ascontiguousarray(picture[:, ::-1]), _flipped(region, last))
            for one, other in _both(landmarker, (picture, region), flipped, "the flipped one"):
                back = other.points[scheme.mirror] * [-1, 1] + [last, 0]
                away = _distances(one.points, back).mean()
                assert away <= tolerance * max(region.size), (
                    f"in a flipped picture the landmarks lie {away:.1f} pixels from the flipped ones; do "
                    "their order and `scheme.mirror` fit together? A landmarker of one side only sets "
                    "`mirror_tolerance = None`."
                )

    def test_pictures_without_regions_have_no_detections(self) -> None:
        pictures = self.make_pictures()
        assert self.make().locate(pictures, [[] for _ in pictures]) == [[] for _ in pictures]

    def test_no_pictures_give_no_detections(self) -> None:
        assert self.make().locate([], []) == []


def _each(
    pictures: Sequence[np.ndarray], regions: Sequence[Sequence[Region]]
) -> Iterator[tuple[np.ndarray, Region]]:
    """Each region with its picture."""
    for picture, own in zip(pictures, regions, strict=True):
        for region in own:
            yield picture, region


def _both(
    landmarker: Landmarker,
    one: tuple[np.ndarray, Region],
    other: tuple[np.ndarray, Region],
    which: str,
) -> list[tuple[Detection, Detection]]:
    """What is found in a region of a picture, and in another one that shows the same part.

    Points that are not usable are not a number.
    """
    here, there = landmarker.locate([one[0], other[0]], [[one[1]], [other[1]]])
    assert len(here) == len(there), f"a part is found in a picture or in {which}, not in both"
    return [(_known(a), _known(b)) for a, b in zip(here, there, strict=True)]


def _known(detection: Detection) -> Detection:
    points = np.where(detection.usable[:, None], detection.points, np.nan)
    return attrs.evolve(detection, points=points)


def _distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Between the landmarks that are known in both, pixels."""
    distances = np.linalg.norm(points - others, axis=1)
    known = np.isfinite(distances)
    assert known.any(), "no landmark is known in both pictures"
    return distances[known]


def _flipped(region: Region, last: int) -> Region:
    """The region in the flipped picture, whose last column is `last`."""
    other = {"left": "right", "right": "left", None: None}
    return attrs.evolve(
        region,
        center=(last - region.center[0], region.center[1]),
        angle=-region.angle,
        side=other[region.side],
    )


def _check_detection(detection: Detection, scheme: LandmarkScheme) -> None:
    assert detection.scheme.hash == scheme.hash
    assert (detection.scale > 0).all()
    known = np.isfinite(detection.scale)
    assert known.any(), "a detection has at least one point whose place is known"
    assert np.isfinite(detection.points[known]).all(), "a point that is not known has an infinite scale"
    assert 0 <= detection.score <= 1
    check_side(detection.side)
    if detection.points_3d is not None and detection.scale_3d is not None:
        assert (detection.scale_3d > 0).all()
        assert np.isfinite(detection.points_3d[np.isfinite(detection.scale_3d)]).all()


def _check_same_detection(one: Detection, other: Detection) -> None:
    assert np.array_equal(one.usable, other.usable)
    np.testing.assert_allclose(one.points[one.usable], other.points[one.usable], rtol=0, atol=0.05)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-3)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=0, atol=1e-3)
    np.testing.assert_allclose(one.score, other.score, rtol=0, atol=1e-3)
    assert one.side == other.side
    assert (one.points_3d is None) == (other.points_3d is None)
    if one.points_3d is not None and other.points_3d is not None:
        relative, others = (d - d.mean(axis=0) for d in (one.points_3d, other.points_3d))
        np.testing.assert_allclose(relative, others, rtol=0, atol=1e-3)
