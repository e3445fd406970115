"""The curves of a training run: rows of `metrics.jsonl`, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from partfit.files import atomic_write
from partfit.results import write_png


class Curves:
    """The rows of a run's curves, as they come.

    A row is a JSON object on a line of its own: `step`, `curve` (`train` or `validation`) and its values.
    What does not depend on the run itself, such as the time, is left out, so that a run that was resumed has
    the rows of one that was not.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """Begin or go on in a folder: rows after `step` are removed, since they will come again."""
        self._folder = folder
        path = folder / "metrics.jsonl"
        rows = [row for row in read_curves(path) if row["step"] <= step]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(map(_line, rows)), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._board.close()

    def add(self, step: int, curve: str, values: Mapping[str, float]) -> None:
        """Add a row; it is in the file when this returns."""
        self._file.write(_line({"step": step, "curve": curve, **values}))
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{curve}/{name}", value, step)
        self._board.flush()

    def show(self, step: int, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Show a picture of samples and predictions: for TensorBoard, and the last one as `samples.png`."""
        self._board.add_image("validation/samples", picture, step, dataformats="HWC")
        self._board.flush()
        write_png(self._folder / "samples.png", Image.fromarray(picture))


def read_curves(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, without a last one that is cut short; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _line(row: Mapping[str, Any]) -> str:
    """A row as JSON, which has no word for numbers that are not finite: they become null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(plain) + "\n"
