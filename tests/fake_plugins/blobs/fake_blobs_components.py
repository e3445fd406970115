import attrs
import numpy as np
from scipy.spatial import Delaunay

from partfit.landmarks import Detector, LandmarkScheme, Region
from partfit.learning.datasets import Dataset, Sample


class Sheet(Dataset):
    """As many landmarks as the face of the thesis, on a curved sheet with triangles and a mirror."""

    @attrs.frozen
    class Config:
        samples: int = 4
        pairs: int = 804

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        half = np.random.default_rng(0).uniform([0.01, -1], [1, 1], size=(config.pairs, 2))
        plane = np.concatenate([half, half * [-1, 1], [[0, 0]]]) * 0.1
        n = len(plane)
        mirror = np.concatenate([np.arange(n // 2) + n // 2, np.arange(n // 2), [n - 1]])
        self._scheme = LandmarkScheme(
            f"sheet{n}",
            [f"p{i:04d}" for i in range(n)],
            triangles=Delaunay(plane).simplices,
            mirror=mirror,
            positions=np.column_stack([plane, 0.1 - (plane**2).sum(axis=1)]),
        )

    @property
    def scheme(self) -> LandmarkScheme:
        return self._scheme

    def __len__(self) -> int:
        return self.config.samples

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        points = self._scheme.positions[:, :2] * [300, -300] + 47.5 + rng.normal(size=2)
        picture = rng.integers(0, 255, size=(96, 96, 3), dtype=np.uint8)
        return Sample(f"sheet-{index}", picture, points, np.array([17.5, 17.5, 77.5, 77.5]))


class VisibleSheet(Sheet):
    """A sheet of which it is known what is in sight."""

    @attrs.frozen
    class Config(Sheet.Config):
        pairs: int = 9

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return attrs.evolve(sample, visible=np.ones(len(sample.points), dtype=bool))


class Unreadable(Sheet):
    """The scheme of a sheet, and samples that nobody may read."""

    @attrs.frozen
    class Config(Sheet.Config):
        mirror: bool = True
        length: int = 4

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not config.mirror:
            self._scheme = attrs.evolve(self._scheme, mirror=None)

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("a sample was read")


class Brightness(Detector):
    """One region around what is bright, in a box that is larger than it."""

    @attrs.frozen
    class Config:
        threshold: int = 60
        larger: float = 1.5

    def detect(self, images):
        return [self._regions(image) for image in images]

    def _regions(self, image: np.ndarray) -> list[Region]:
        rows, columns = np.nonzero(image.max(axis=2) > self.config.threshold)
        if not len(rows):
            return []
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()])
        width, height = ((high - low + 1) * self.config.larger).tolist()
        return [Region(tuple(((low + high) / 2).tolist()), (width, height))]
