"""The folder of a training run: what its files are called, and which run it is for."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch

from partfit.config import from_dict, read_table, to_dict
from partfit.errors import ConfigError
from partfit.files import ensure_writable_folder
from partfit.learning.tables import differences
from partfit.learning.training_config import TrainConfig

CONFIG_FILE, MODEL_FILE, REPORT_FILE = "partfit-train.toml", "model.safetensors", "report.json"

#: Keys of a configuration, and beginnings of keys, that may change when a run is resumed, since they do not
#: change what is learnt.
_FREE_KEYS = ("data.workers", "data.cache", "data.on_bad", "run.save_every", "checkpoint.")


def claim(config: TrainConfig, out: Path, *, resume: bool, first: bool) -> TrainConfig:
    """The configuration with its threads counted, after making sure that the folder is for this run.

    Args:
        config: Of the run.
        out: The folder; made if it is missing.
        resume: Whether to go on with the run that it holds.
        first: Whether this is the first of the processes that train together; the others may find what that
            one has begun.

    Raises:
        ConfigError: if it holds a run that is not to be resumed, or one of another configuration.
        OutputError: if it cannot be written.
    """
    ensure_writable_folder(out)
    file = out / CONFIG_FILE
    if not file.exists():
        return _with_threads(config, torch.get_num_threads())
    if not resume and first:
        raise ConfigError(f"{out}: holds a run already. Resume that (--resume), or choose another folder.")
    earlier = from_dict(TrainConfig, read_table(file))
    config = _with_threads(config, earlier.run.threads)
    for key, (before, now) in differences(to_dict(earlier), to_dict(config)).items():
        if not key.startswith(_FREE_KEYS):
            raise ConfigError(
                f"{out}: holds a run with {key} = {before!r}, found {now!r}. Resume it "
                f"with its own configuration, {file}, or choose another folder."
            )
    return config


def _with_threads(config: TrainConfig, threads: int) -> TrainConfig:
    return attrs.evolve(config, run=attrs.evolve(config.run, threads=config.run.threads or threads))
