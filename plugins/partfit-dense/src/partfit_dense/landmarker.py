"""The landmarker `partfit-dense`: a network with its weights in the package."""

from __future__ import annotations

from importlib.resources import as_file, files

from partfit.learning.checkpoint import Checkpoint, load_checkpoint
from partfit.learning.landmarker import NetworkLandmarker

_WEIGHTS = "dense.safetensors"


class DenseLandmarker(NetworkLandmarker):
    """Every vertex of face, ears and irises of the Anny head: `anny-face-ears`.

    Learned from renders alone; see the package's README for what it was trained on and how far it is off.
    """

    @property
    def inflation(self) -> float:
        """That on 43 labelled photographs, see `benchmarks/inflation.py`; on renders it is a third of it."""
        return 1200.0

    def _load(self) -> Checkpoint:
        with as_file(files("partfit_dense") / _WEIGHTS) as path:
            return load_checkpoint(path)
