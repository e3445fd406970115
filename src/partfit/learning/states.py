"""The states of a training run, from which it can go on after it was stopped at any moment.

A state is a checkpoint of Lightning (weights, their average, optimiser, schedule, gradient scaler, counters),
in a folder `state` as `step-N.ckpt`. It holds plain data and tensors only and is read with
`weights_only=True`. Its file is whole or absent, and the one before it is kept until the next is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from partfit.files import atomic_write

_NAME = re.compile(r"step-(\d+)\.ckpt")
_KEPT = 2


def save_state(folder: Path, trainer: Any) -> Path:
    """Save the state of a Lightning trainer after a step; all its processes must call this together.

    Raises:
        OutputError: if it cannot be written.
    """
    path = folder / f"step-{trainer.global_step}.ckpt"
    if not trainer.is_global_zero:
        trainer.save_checkpoint(path)  # takes part; the first process writes
        return path
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(".*.ckpt"):  # of processes that were killed while they wrote
        left_over.unlink()
    with atomic_write(path) as temporary:
        trainer.save_checkpoint(temporary)
    for _, old in _states(folder)[:-_KEPT]:
        old.unlink()
    return path


def latest_state(folder: Path) -> Path | None:
    """The state of the most steps; None where there is none."""
    states = _states(folder)
    return states[-1][1] if states else None


def _states(folder: Path) -> list[tuple[int, Path]]:
    """The states of a folder by their steps, fewest first."""
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("step-*.ckpt"))
    return sorted((int(match[1]), path) for match, path in matches if match)
