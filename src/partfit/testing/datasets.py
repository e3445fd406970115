"""A made-up data set for tests: coloured blobs on a plate that is turned in front of a camera."""

from __future__ import annotations

import attrs
import numpy as np

from partfit.landmarks import LandmarkScheme
from partfit.learning.datasets import Dataset, Sample, SampleError

#: The blobs: rows and columns on the plate.
ROWS, COLUMNS = 3, 4
#: Deviation of a blob, picture pixels.
BLOB_SIGMA = 2.5


class BlobDataset(Dataset):
    """Twelve blobs, one a landmark, with all that a `Sample` can say but parameters.

    The blobs of the left half are red, those of the right half blue; a hidden blob is not drawn. The plate's
    mirror exchanges the halves.
    """

    @attrs.frozen
    class Config:
        """Of the data set.

        Attributes:
            samples: How many.
            seed: Of all that is random; with the index it determines a sample.
            bad: Indices of samples that cannot be used.
            hidden: Share of the blobs that are hidden.
            size: (width, height) of the pictures.
        """

        samples: int = 32
        seed: int = 0
        bad: tuple[int, ...] = ()
        hidden: float = 0.0
        size: tuple[int, int] = (160, 128)

    @property
    def scheme(self) -> LandmarkScheme:
        """See `Dataset.scheme`."""
        grid = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
        edges = np.concatenate([np.stack([grid[:, k], grid[:, k + 1]], axis=1) for k in range(COLUMNS - 1)])
        names = [f"row{r}-column{c}" for r in range(ROWS) for c in range(COLUMNS)]
        return LandmarkScheme("blobs", names, edges=edges, mirror=grid[:, ::-1].ravel())

    def __len__(self) -> int:
        return self.config.samples

    def __getitem__(self, index: int) -> Sample:
        """See `Dataset.__getitem__`."""
        if not 0 <= index < len(self):
            raise IndexError(f"Expected an index in 0..{len(self) - 1}, found {index}.")
        name = f"blobs-{index}"
        if index in self.config.bad:
            raise SampleError(name, "expected blobs, found none.")
        rng = np.random.default_rng([self.config.seed, index])
        width, height = self.config.size
        vertices = _plate(rng)
        focal = 1.5 * width
        K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        pixels = vertices @ K.T
        points = pixels[:, :2] / pixels[:, 2:]
        visible = rng.random(len(points)) >= self.config.hidden
        return Sample(
            name,
            _picture(points[visible], np.arange(len(points))[visible] % COLUMNS, width, height),
            points,
            np.concatenate([points.min(axis=0) - 8, points.max(axis=0) + 8]),
            visible=visible,
            vertices=vertices,
            intrinsics=K,
        )


def _plate(rng: np.random.Generator) -> np.ndarray:
    """(V, 3) the blobs of a plate 20 to 24 cm wide, a metre away, turned and moved a little; metres."""
    x, y = np.meshgrid(np.linspace(-0.1, 0.1, COLUMNS), np.linspace(-0.08, 0.08, ROWS))
    plate = np.stack([x, y, 0.3 * np.abs(x)], axis=-1).reshape(-1, 3) * rng.uniform(1.0, 1.2)
    yaw = rng.uniform(-0.4, 0.4)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return plate @ turn.T + [*rng.uniform(-0.03, 0.03, 2), 1.0]


def _picture(points: np.ndarray, columns: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) blobs on black, uint8."""
    colours = np.where(columns[:, None] < COLUMNS / 2, [1.0, 0.6, 0.2], [0.2, 0.6, 1.0])
    across = np.exp(-((np.arange(width) - points[:, :1]) ** 2) / (2 * BLOB_SIGMA**2))
    down = np.exp(-((np.arange(height) - points[:, 1:]) ** 2) / (2 * BLOB_SIGMA**2))
    picture = np.einsum("bh,bw,bc->hwc", down, across, colours, optimize=True)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
