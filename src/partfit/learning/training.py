"""Training a network by a configuration, on Lightning.

All that is random follows from the seed and the number of the step: the order of samples, their variation,
and what is drawn inside the network. So a run that goes on from a state (see `states`) does what it would
have done, bit for bit on a CPU with an equal number of threads.

A run's folder holds `partfit-train.toml` (its whole configuration), `metrics.jsonl` and `tensorboard/` (its
curves), `samples.png`, `state/`, `data/` (unless the configuration names another cache), and in the end
`model.safetensors` and `report.json`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from partfit.config import write_toml
from partfit.errors import ComponentError, ConfigError
from partfit.landmarks import Detector, LandmarkScheme
from partfit.learning.batches import EvaluationBatches, TrainingBatches, shape_statistics
from partfit.learning.datasets import Dataset
from partfit.learning.devices import check_device
from partfit.learning.fit_task import FitTask
from partfit.learning.losses import LossModule
from partfit.learning.networks import LandmarkNetwork
from partfit.learning.packing import PackedDataset, PackRule, cache_name, pack
from partfit.learning.regions import find_regions
from partfit.learning.runs import CONFIG_FILE, claim
from partfit.learning.training_config import TrainConfig
from partfit.registry import Registry, default_registry

try:
    from partfit.learning.finishing import DetectorView, finish
    from partfit.learning.trainer import is_first, take_steps
    from partfit.learning.training_module import TrainingModule
except ImportError as error:
    raise ComponentError(
        f'Training needs packages that are missing ({error}). Install them: pip install "partfit[train]"'
    ) from error

#: Pictures from which the map from a detector's regions to boxes is found, at most.
_REGION_SAMPLES = 200

#: Told what is done, how far, and of how much: ("reading data", 128, 1000).
Progress = Callable[[str, int, int], None]


@attrs.frozen(eq=False)
class Preparation:
    """What a configuration names, built and found to fit together, before any sample is read.

    Attributes:
        train, val: The data sets.
        network: The network, with the weights that it begins with but for the shape of the data.
        losses: Those beside the likelihood, in the configuration's order.
        fit: The fit that it learns to start, if the configuration has one.
        detector: The one in front of the network in use, if it is named.
    """

    train: Dataset
    val: Dataset
    network: LandmarkNetwork
    losses: tuple[LossModule, ...]
    fit: FitTask | None
    detector: Detector | None

    @property
    def scheme(self) -> LandmarkScheme:
        """The landmarks' scheme."""
        return self.train.scheme


def prepare(config: TrainConfig, registry: Registry | None = None) -> Preparation:
    """Build what a configuration names; the weights of network and losses follow from the seed.

    Raises:
        ComponentError: if a component does not exist.
        ConfigError: if an option is wrong, or the parts do not fit together.
        InputError: if the scheme lacks what a head or a loss needs.
    """
    registry = registry or default_registry()
    train, val = (
        registry.create("dataset", choice.name, **choice.options)
        for choice in (config.data.train, config.data.val)
    )
    if train.scheme.hash != val.scheme.hash:
        raise ConfigError(
            f"data: expected one landmark scheme, found {train.scheme.name!r} ({len(train.scheme)} points) "
            f"to train on and {val.scheme.name!r} ({len(val.scheme)} points) to evaluate on."
        )
    for name, dataset in (("train", train), ("val", val)):
        if len(dataset) == 0:
            raise ConfigError(f"data.{name}: expected samples, found none.")
    config.augmentation.check_scheme(train.scheme)
    named = config.checkpoint.detector
    detector = None if named is None else registry.create("detector", named.name, **named.options)
    fit = None if config.fit is None else FitTask(config.fit, train.scheme, registry)
    torch.manual_seed(config.run.seed)
    losses = tuple(
        registry.create("loss", term.name, **term.options).module(train.scheme) for term in config.losses
    )
    network = LandmarkNetwork(config.network, train.scheme, registry, None if fit is None else fit.layout)
    return Preparation(train, val, network, losses, fit, detector)


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Train a network and write it, with its report, into a folder; see the module's description.

    Args:
        config: All that determines the run.
        out: The folder; made if it is missing.
        resume: Whether to go on with the run that the folder holds, from its last state, if it has any.
        device: A torch device; with several `run.devices`, its kind.
        registry: Of the components that the configuration names.
        progress: Told how far the reading of the data is; the steps show a bar of their own.

    Returns:
        The report; None in processes beside the first, where several train together.

    Raises:
        ComponentError, ConfigError, InputError: as `prepare`; if the folder holds another run; if the data
            say nothing of the visibility that is to be learnt, or the detector finds too few parts in them.
        SampleError: for a sample that cannot be used, unless the configuration says to skip those.
        TrainingError: if a loss or a gradient is not finite.
        TrainingInterruptedError: after Ctrl-C or SIGTERM; the state is saved.
        OutputError: if the folder cannot be written.
    """
    out = Path(out).absolute()
    _check_device(config, device)
    config = claim(config, out, resume=resume, first=is_first())
    threads = torch.get_num_threads()
    torch.set_num_threads(config.run.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            return _train(config, out, torch.device(device), registry or default_registry(), progress)
    finally:
        torch.set_num_threads(threads)


def _train(
    config: TrainConfig, out: Path, device: torch.device, registry: Registry, progress: Progress | None
) -> dict[str, Any] | None:
    parts = prepare(config, registry)
    if is_first():
        write_toml(config, out / CONFIG_FILE)
    train_data, val_data = _packed(config, parts, out, registry, progress if is_first() else None)
    _check_visibility(config, train_data, val_data)
    view = _detector_view(parts, val_data) if is_first() else None
    batches = TrainingBatches(
        train_data,
        config.run.batch_size,
        config.network.resolution,
        config.crop,
        config.augmentation,
        config.run.seed,
    )
    val_batches = EvaluationBatches(val_data, config.run.batch_size, config.network.resolution, config.crop)
    head = parts.network.head
    mean, directions = shape_statistics(
        train_data, config.crop, config.augmentation, head.n_directions, seed=config.run.seed
    )
    head.initialise(mean, directions)
    if parts.fit is not None and parts.network.start is not None:
        parts.network.start.initialise(parts.fit.model, mean, parts.fit.samples(train_data, config.crop))
    module = TrainingModule(config, parts.network, parts.losses, batches, parts.fit)
    take_steps(module, val_batches, out, device)
    if not is_first():
        return None
    return finish(module, val_batches, view, parts.train.boxed, out, device, registry)


def _check_device(config: TrainConfig, device: str) -> None:
    """Raise ConfigError if this machine has no such device, or not as many as the run asks for."""
    check_device(device)
    if config.run.precision == "16-mixed" and torch.device(device).type == "cpu":
        raise ConfigError("run.precision: 16-mixed needs a GPU; CPUs have bf16-mixed.")
    kind, index, devices = torch.device(device).type, torch.device(device).index, config.run.devices
    if index is not None and devices > 1:
        raise ConfigError(f"run.devices: {devices} devices are not one, {device!r}. Use the device {kind!r}.")
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise ConfigError(
            f"run.devices: expected at most the {torch.cuda.device_count()} of this machine, found {devices}."
        )


def _packed(
    config: TrainConfig, parts: Preparation, out: Path, registry: Registry, progress: Progress | None
) -> tuple[PackedDataset, PackedDataset]:
    """The data sets to train and to evaluate on, packed into the cache if they are not yet.

    Every process packs: those of other machines may see another folder, and on one machine they leave to each
    other what is done.
    """
    resolution = config.network.resolution
    cases = (
        ("training data", parts.train, PackRule.for_training(config.crop, config.augmentation, resolution)),
        ("validation data", parts.val, PackRule.for_evaluation(config.crop, resolution)),
    )
    opened = []
    for (name, dataset, rule), choice in zip(cases, (config.data.train, config.data.val), strict=True):
        source = registry.get("dataset", choice.name).source
        groups = None if parts.fit is None else parts.fit.groups
        folder = Path(config.data.cache or out / "data") / cache_name(dataset, rule, source, groups)
        pack(
            dataset,
            folder,
            rule,
            source=source,
            groups=groups,
            workers=max(1, config.data.workers),
            on_bad=config.data.on_bad,
            progress=progress and functools.partial(progress, name),
        )
        opened.append(PackedDataset(folder, dataset.scheme))
    return opened[0], opened[1]


def _check_visibility(config: TrainConfig, train: PackedDataset, val: PackedDataset) -> None:
    """Raise ConfigError if visibility is to be learnt from data that say nothing of it."""
    for name, packed in (("train", train), ("val", val)):
        if config.network.visibility and not packed.knows_visibility:
            raise ConfigError(
                f"network.visibility: expected data that say which landmarks are in sight, found none in "
                f"data.{name}. Set network.visibility to false and leave out the loss 'visibility'."
            )


def _detector_view(parts: Preparation, packed: PackedDataset) -> DetectorView | None:
    """The data to evaluate on, seen through the detector, if one is named."""
    if parts.detector is None:
        return None
    rows = np.unique(np.linspace(0, len(packed) - 1, _REGION_SAMPLES).round().astype(int))
    indices = packed.read(rows).index.tolist()
    return DetectorView(parts.val, len(indices), find_regions(parts.detector, parts.val, indices))
