"""What the suites of detectors and landmarkers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from partfit.landmarks import Region
from partfit.testing.conformance.base import ConfiguredSuite


class PictureSuite(ConfiguredSuite):
    """A suite about a component that looks at pictures."""

    def make_pictures(self) -> list[np.ndarray]:
        """Pictures that show the part, RGB uint8 (H, W, 3); override for all but trivial components.

        Among them all at least one part must be found.
        """
        return odd_pictures()

    def padded(self, picture: np.ndarray, x: int, y: int) -> np.ndarray:
        """The picture with x pixels more on the left and on the right, y more above and below."""
        return np.pad(picture, ((y, y), (x, x), (0, 0)), mode="edge")

    def doubled(self, picture: np.ndarray) -> np.ndarray:
        """The picture at twice its size, where (x, y) becomes (2 x + 0.5, 2 y + 0.5)."""
        return picture.repeat(2, axis=0).repeat(2, axis=1)


def odd_pictures() -> list[np.ndarray]:
    """A single pixel, nothing but grey, and noise."""
    rng = np.random.default_rng(0)
    return [
        np.zeros((1, 1, 3), np.uint8),
        np.full((40, 200, 3), 128, np.uint8),
        rng.integers(0, 256, (120, 90, 3), dtype=np.uint8),
    ]


def whole(picture: np.ndarray) -> Region:
    """All of a picture."""
    height, width = picture.shape[:2]
    return Region(((width - 1) / 2, (height - 1) / 2), (float(width), float(height)))


def check_lists(found: object, n_pictures: int) -> None:
    """One list for each picture, as components and pipelines expect them, and not tuples or arrays."""
    assert isinstance(found, list), f"expected a list, with a list for each picture; found {type(found)}"
    assert len(found) == n_pictures, f"expected {n_pictures} lists, one a picture; found {len(found)}"
    for own in found:
        assert isinstance(own, list), f"expected a list for each picture, found {type(own)}"


def require_results(found: Sequence[Sequence[object]]) -> None:
    """Something was found in some picture."""
    assert any(found), "nothing was found: override `make_pictures` with pictures that show the part"


def check_side(side: str | None) -> None:
    """It is a side, or none."""
    assert side in (None, "left", "right"), f"a side is 'left', 'right' or None, found {side!r}"
