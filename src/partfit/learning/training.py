"""Training a network by a configuration, on Lightning.

All that is random follows from the seed and the number of the step: the order of samples, their variation,
and what is drawn inside the network. So a run that goes on from a state (see `states`) does what it would
have done, bit for bit on a CPU with an equal number of threads.

A run's folder holds `partfit-train.toml` (its whole configuration), `metrics.jsonl` and `tensorboard/` (its
curves), `samples.png`, `state/`, `data/` (unless the configuration names another cache), and in the end
`model.safetensors` and `report.json`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import timm
import torch

import partfit
from partfit.config import from_dict, read_table, to_dict, write_toml
from partfit.errors import ComponentError, ConfigError
from partfit.files import ensure_writable_folder
from partfit.landmarks import LandmarkScheme, content_hash
from partfit.learning.augmentation import AugmentationConfig
from partfit.learning.batches import Batch, EvaluationBatches, TrainingBatches, shape_statistics
from partfit.learning.calibration import calibrate
from partfit.learning.checkpoint import Checkpoint, save_checkpoint
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.datasets import Dataset
from partfit.learning.evaluation import evaluate
from partfit.learning.losses import LossModule
from partfit.learning.networks import LandmarkNetwork
from partfit.learning.packing import PackedDataset, PackRule, pack
from partfit.learning.pictures import draw_samples
from partfit.learning.regions import find_region_map
from partfit.learning.states import latest_state, save_state
from partfit.learning.training_config import TrainConfig
from partfit.registry import Registry, default_registry
from partfit.results import write_json

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities import rank_zero_only

    from partfit.learning.curves import Curves
    from partfit.learning.training_module import TrainingError, TrainingModule
except ImportError as error:
    raise ComponentError(
        f'Training needs packages that are missing ({error}). Install them: pip install "partfit[train]"'
    ) from error

REPORT_SCHEMA = "partfit.training/1"
CONFIG_FILE, MODEL_FILE, REPORT_FILE = "partfit-train.toml", "model.safetensors", "report.json"

#: Crops shown with their predictions.
_SHOWN = 8
#: Pictures from which the map from a detector's regions to boxes is found, at most.
_REGION_SAMPLES = 200
#: Keys of a configuration that may change when a run is resumed, since they do not change what is learnt.
_FREE_KEYS = ("data.workers", "data.cache", "run.save_every")
#: No variation of crops.
_STILL = AugmentationConfig(
    horizontal_flip=0, rotation=0, scale=(1, 1), shift=0, blur=0, noise=0, cutout=0, grey=0
)

#: Told what is done, how far, and of how much: ("reading data", 128, 1000).
Progress = Callable[[str, int, int], None]


class TrainingInterruptedError(TrainingError):
    """A run was asked to stop; its state is saved."""


@attrs.frozen(eq=False)
class Preparation:
    """What a configuration names, built and found to fit together, before any sample is read.

    Attributes:
        train, val: The data sets.
        network: The network, with the weights that it begins with but for the shape of the data.
        losses: Those beside the likelihood, in the configuration's order.
    """

    train: Dataset
    val: Dataset
    network: LandmarkNetwork
    losses: tuple[LossModule, ...]

    @property
    def scheme(self) -> LandmarkScheme:
        """The landmarks' scheme."""
        return self.train.scheme


def prepare(config: TrainConfig, registry: Registry | None = None) -> Preparation:
    """Build what a configuration names; the network's weights follow from the seed.

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
    losses = tuple(
        registry.create("loss", term.name, **term.options).module(train.scheme) for term in config.losses
    )
    torch.manual_seed(config.run.seed)
    return Preparation(train, val, LandmarkNetwork(config.network, train.scheme, registry), losses)


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
        ComponentError, ConfigError, InputError: as `prepare`, and if the folder holds another run.
        SampleError: for a sample that cannot be used, unless the configuration says to skip those.
        TrainingError: if a loss or a gradient is not finite.
        TrainingInterruptedError: after Ctrl-C or SIGTERM; the state is saved.
        OutputError: if the folder cannot be written.
    """
    out = Path(out).absolute()
    _check_device(config, device)
    config = _claim(config, out, resume)
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
    write_toml(config, out / CONFIG_FILE)
    train_data, val_data = _packed(config, parts, out, progress)
    batches = TrainingBatches(
        train_data,
        config.run.batch_size,
        config.network.resolution,
        config.crop,
        config.augmentation,
        config.run.seed,
    )
    val_batches = EvaluationBatches(val_data, config.run.batch_size, config.network.resolution, config.crop)
    parts.network.head.initialise(
        *shape_statistics(train_data, config.crop, config.augmentation, seed=config.run.seed)
    )
    module = TrainingModule(config, parts.network, parts.losses, batches)
    _fit(module, val_batches, out, device)
    if not _is_first():
        return None
    return _finish(module, parts.val, val_batches, out, device, registry)


class _Watch(Callback):
    """What happens between steps: rows of the curves, evaluations, states, and the end after a signal."""

    def __init__(self, module: TrainingModule, val_batches: EvaluationBatches, out: Path) -> None:
        self._run, self._total = module.config.run, module.total
        self._val_batches, self._out = val_batches, out
        self._curves: Curves | None = None
        self._since = time.monotonic()
        self.asked_to_stop = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Open the curves, after a state was loaded."""
        self._since = time.monotonic()
        if trainer.is_global_zero:
            self._curves = Curves(self._out, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class; the state comes last, so that it holds all that came before."""
        assert isinstance(module, TrainingModule)
        step, last = trainer.global_step, trainer.global_step == self._total
        if step % self._run.log_every == 0 or last:
            self._add(step, "train", module.window.take())
        if last or (self._run.validate_every and step % self._run.validate_every == 0):
            self._validate(trainer, module, step)
        stop = trainer.strategy.reduce_boolean_decision(self.asked_to_stop, all=False)
        if step % self._run.save_every == 0 or last or stop:
            now = time.monotonic()
            module.seconds, self._since = module.seconds + now - self._since, now
            save_state(self._out / "state", trainer)
        if stop and not last:
            raise TrainingInterruptedError(
                f"Stopped after step {step} of {self._total}; its state is saved. To go on: "
                f"partfit train {self._out / CONFIG_FILE} --out {self._out} --resume"
            )

    def _add(self, step: int, curve: str, values: Mapping[str, float]) -> None:
        if self._curves is not None:
            self._curves.add(step, curve, values)

    def _validate(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        if self._curves is not None:
            module.metrics = evaluate(module.best, _loaded(self._val_batches, module.device))
            self._curves.add(step, "validation", module.metrics)
            self._curves.show(step, _samples(module.best, self._val_batches[0].to(module.device)))
        trainer.strategy.barrier()

    def close(self) -> None:
        """Close the curves."""
        if self._curves is not None:
            self._curves.close()


def _fit(module: TrainingModule, val_batches: EvaluationBatches, out: Path, device: torch.device) -> None:
    """Take the steps that are left."""
    watch = _Watch(module, val_batches, out)
    with contextlib.closing(watch), _quiet(), _asking_to_stop(watch):
        trainer = Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=module.config.run.devices if device.index is None else [device.index],
            num_nodes=module.config.run.nodes,
            strategy=module.config.run.strategy,
            precision=module.config.run.precision,
            max_steps=module.total,
            max_epochs=-1,
            callbacks=[watch],
            default_root_dir=out,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            use_distributed_sampler=False,
        )
        trainer.fit(module, ckpt_path=latest_state(out / "state"), weights_only=True)


def _finish(
    module: TrainingModule,
    val: Dataset,
    val_batches: EvaluationBatches,
    out: Path,
    device: torch.device,
    registry: Registry,
) -> dict[str, Any]:
    """Calibrate the network that is kept, and write it and the report."""
    config, network = module.config, module.best.to(device).eval()
    calibration = calibrate(network, _loaded(val_batches, device))
    calibrated = evaluate(network, _loaded(val_batches, device), calibration)
    mean, _ = shape_statistics(module.batches.packed, _fixed(config.crop), _STILL)
    report = {
        "schema": REPORT_SCHEMA,
        "config": to_dict(config),
        "network": network.describe(),
        "data": {
            name: _data_report(packed)
            for name, packed in (("train", module.batches.packed), ("val", val_batches.packed))
        },
        "steps": module.total,
        "samples": module.total * config.run.processes * module.batches.sampler.batch_size,
        "seconds": round(module.seconds, 1),
        "device": str(device),
        "metrics": module.metrics,
        "calibrated": {name: calibrated[name] for name in ("rms_z", "robust_z")},
        "versions": {"partfit": partfit.__version__, "torch": torch.__version__, "timm": timm.__version__},
    }
    checkpoint = Checkpoint(
        network.cpu(),
        mean.numpy(),
        config.crop,
        _region_map(config, val, val_batches.packed, registry),
        calibration,
        config.checkpoint.part,
        config.checkpoint.side,
        {key: report[key] for key in ("steps", "samples", "metrics", "versions")},
    )
    save_checkpoint(checkpoint, out / MODEL_FILE, weights=config.checkpoint.weights, registry=registry)
    write_json(out / REPORT_FILE, report)
    return report


def _is_first() -> bool:
    """Whether this process is the first of those that train together, which Lightning counts."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _check_device(config: TrainConfig, device: str) -> None:
    """Raise ConfigError if this machine has no such device, or not as many as the run asks for."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: expected a device of this machine, found {device!r}: {reason}") from error
    if config.run.precision == "16-mixed" and torch.device(device).type == "cpu":
        raise ConfigError("run.precision: 16-mixed needs a GPU; CPUs have bf16-mixed.")
    kind, index, devices = torch.device(device).type, torch.device(device).index, config.run.devices
    if index is not None and devices > 1:
        raise ConfigError(f"run.devices: {devices} devices are not one, {device!r}. Use the device {kind!r}.")
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise ConfigError(
            f"run.devices: expected at most the {torch.cuda.device_count()} of this machine, found {devices}."
        )


def _claim(config: TrainConfig, out: Path, resume: bool) -> TrainConfig:
    """The configuration with its threads counted, after making sure that the folder is for this run.

    Raises:
        ConfigError: if it holds a run that is not to be resumed, or one of another configuration.
    """
    ensure_writable_folder(out)
    file = out / CONFIG_FILE
    if not file.exists():
        return _with_threads(config, torch.get_num_threads())
    if not resume and _is_first():  # other processes come when the first has begun
        raise ConfigError(f"{out}: holds a run already. Resume that (--resume), or choose another folder.")
    earlier = from_dict(TrainConfig, read_table(file))
    config = _with_threads(config, earlier.run.threads)
    now, before = (dict(_flat(to_dict(one))) for one in (config, earlier))
    for key in sorted(now.keys() | before.keys()):
        if now.get(key) != before.get(key) and key not in _FREE_KEYS:
            raise ConfigError(
                f"{out}: holds a run with {key} = {before.get(key)!r}, found {now.get(key)!r}. Resume it "
                f"with its own configuration, {file}, or choose another folder."
            )
    return config


def _with_threads(config: TrainConfig, threads: int) -> TrainConfig:
    return attrs.evolve(config, run=attrs.evolve(config.run, threads=config.run.threads or threads))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables by dotted keys."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _flat(member, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _packed(
    config: TrainConfig, parts: Preparation, out: Path, progress: Progress | None
) -> tuple[PackedDataset, PackedDataset]:
    """The data sets to train and to evaluate on, packed into the cache if they are not yet."""
    resolution = config.network.resolution
    cases = (
        ("training data", parts.train, PackRule.for_training(config.crop, config.augmentation, resolution)),
        ("validation data", parts.val, PackRule.for_training(_fixed(config.crop), _STILL, resolution)),
    )
    opened = []
    for name, dataset, rule in cases:
        folder = Path(config.data.cache or out / "data") / _cache_name(dataset, rule)
        if _is_first():
            pack(
                dataset,
                folder,
                rule,
                workers=max(1, config.data.workers),
                on_bad=config.data.on_bad,
                progress=progress and functools.partial(progress, name),
            )
        opened.append(PackedDataset(folder, dataset.scheme))
    return opened[0], opened[1]


def _cache_name(dataset: Dataset, rule: PackRule) -> str:
    """A name for a packed data set, unlike that of another data set or of another rule."""
    made_of = [
        type(dataset).__qualname__,
        to_dict(dataset.config),
        dataset.scheme.hash,
        len(dataset),
        to_dict(rule),
    ]
    return f"{type(dataset).__name__.lower()}-{content_hash(json.dumps(made_of, sort_keys=True))}"


def _fixed(crop: CropRule) -> CropRule:
    """The rule by which training crops are those of evaluation."""
    return attrs.evolve(crop, margin_range=(crop.margin, crop.margin))


def _loaded(batches: EvaluationBatches, device: torch.device) -> Iterator[Batch]:
    return (batches[k].to(device) for k in range(len(batches)))


@torch.no_grad()
def _samples(network: LandmarkNetwork, batch: Batch) -> np.ndarray:
    """Some crops of a batch with their predictions."""
    training = network.training
    network.eval()
    images = batch.images[:_SHOWN]
    picture = draw_samples(images, network(images))
    network.train(training)
    return picture


def _region_map(
    config: TrainConfig, dataset: Dataset, packed: PackedDataset, registry: Registry
) -> RegionMap:
    """The map from the regions of the detector, if one is named, to the boxes of a data set."""
    detector = config.checkpoint.detector
    if detector is None:
        return RegionMap()
    rows = np.unique(np.linspace(0, len(packed) - 1, _REGION_SAMPLES).round().astype(int))
    samples = (dataset[int(index)] for index in packed.read(rows).index)
    return find_region_map(registry.create("detector", detector.name, **detector.options), samples)


def _data_report(packed: PackedDataset) -> dict[str, Any]:
    """How many samples there are, and which could not be used."""
    bad = [{"id": one.id, "problem": one.problem} for one in packed.report.bad]
    return {"samples": packed.report.packed, "bad": len(bad), "bad_samples": bad}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says about itself, and its advice that does not fit here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*dataloader is not resumable.*",  # ours begins at the step of the state
            ".*available but not used.*",
            ".*in eval mode at the start.*",  # the average
            ".*treespec, LeafSpec.*",  # of its own tree walks, to torch
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def _asking_to_stop(watch: _Watch) -> Iterator[None]:
    """Ctrl-C and SIGTERM end training after the step in progress; the second time, Ctrl-C ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def ask(number: int, frame: Any) -> None:
        if watch.asked_to_stop:
            raise KeyboardInterrupt
        watch.asked_to_stop = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
