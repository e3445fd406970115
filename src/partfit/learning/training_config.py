"""What determines a training run, as written to and read from TOML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

from partfit.config import from_dict
from partfit.errors import ConfigError
from partfit.fitting import Backward
from partfit.learning.augmentation import AugmentationConfig
from partfit.learning.crops import CropRule
from partfit.learning.networks import NetworkConfig
from partfit.pipeline_config import Choice
from partfit.recipe import FitSettings

#: How long a run is: one of these keys of `run`. A layer that gives one of them replaces the others.
LENGTHS = ("epochs", "steps", "samples")


def _above(low: float) -> Any:
    """A validator of numbers above `low`."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not value > low:
            raise ValueError(f"{attribute.name}: expected a number above {low}, found {value}.")

    return check


def _within(low: float, high: float) -> Any:
    """A validator of numbers in [low, high]."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name}: expected a number in [{low}, {high}], found {value}.")

    return check


@attrs.frozen
class DataConfig:
    """Where samples come from.

    Attributes:
        train: The data set to learn from.
        val: The data set to evaluate on, and to calibrate the scales on at the end.
        cache: Folder for cropped samples, so that a slow data set is read or rendered once; by default
            `data` in the folder of the run. Runs on the same data may share one.
        workers: Processes that read or render samples, and that make batches; 0 for none.
        on_bad: What to do about a sample that cannot be used: `stop`, or `skip` it and count it.
    """

    train: Choice
    val: Choice
    cache: str | None = None
    workers: int = attrs.field(default=0, validator=_within(0, 1024))
    on_bad: Literal["stop", "skip"] = "stop"


@attrs.frozen
class LossTerm:
    """A loss beside the likelihood.

    Attributes:
        name: Of a component of the kind `loss`.
        options: Of its `Config`.
        weight: What it is multiplied with; the likelihood has 1.
    """

    name: str
    options: dict[str, Any] = attrs.field(factory=dict)
    weight: float = attrs.field(default=1.0, validator=_above(0))


@attrs.frozen
class OptimizerConfig:
    """The optimiser.

    Attributes:
        name: `adam` or `adamw`.
        rate: Learning rate.
        weight_decay: Of the weights of linear maps and convolutions, but for those that timm excepts; `adam`
            adds it to the gradient, `adamw` takes it from the weights (Loshchilov & Hutter).
        clip: Gradients whose norm is greater are made this long; 0 for never.
        ema: Decay of the moving average of the weights that is evaluated and kept; 0 for no average. In step
            t it is at most t / (t + 10), so that the average forgets where it began.
    """

    name: Literal["adam", "adamw"] = "adam"
    rate: float = attrs.field(default=1e-4, validator=_above(0))
    weight_decay: float = attrs.field(default=0.0, validator=_within(0, 1))
    clip: float = attrs.field(default=0.0, validator=_within(0, float("inf")))
    ema: float = attrs.field(default=0.0, validator=_within(0, 1))


@attrs.frozen
class ScheduleConfig:
    """How the learning rate changes over a run.

    Attributes:
        name: `constant`, `cosine` (half a wave, from the rate to `final` times it), or `steps` (times
            `factor` at each of `at`).
        warmup: Share of the run over which the rate first grows linearly from 0.
        final: Of `cosine`: what is left of the rate in the end.
        at: Of `steps`: shares of the run.
        factor: Of `steps`.
    """

    name: Literal["constant", "cosine", "steps"] = "constant"
    warmup: float = attrs.field(default=0.0, validator=_within(0, 1))
    final: float = attrs.field(default=0.0, validator=_within(0, 1))
    at: tuple[float, ...] = attrs.field(
        default=(0.6, 0.85), validator=attrs.validators.deep_iterable(_within(0, 1))
    )
    factor: float = attrs.field(default=0.1, validator=_within(0, 1))


@attrs.frozen
class TrainRun:
    """How long a run is, how it is computed and how often it tells of itself.

    Attributes:
        epochs, steps, samples: How long it is: exactly one of them. An epoch goes once through the training
            data.
        batch_size: Crops a step and device.
        seed: Of all that is random.
        precision: `32`, `bf16-mixed` or `16-mixed` (autocast with float32 weights).
        devices, nodes, strategy: As Lightning's Trainer has them.
        threads: Of torch on the CPU; 0 for torch's own choice. Results are the same bit for bit only for
            equal numbers.
        log_every: Steps between two rows of the training curves.
        validate_every: Steps between two evaluations; 0 for one at the end only.
        save_every: Steps between two states to resume from.
    """

    epochs: int | None = attrs.field(default=None, validator=_above(0))
    steps: int | None = attrs.field(default=None, validator=_above(0))
    samples: int | None = attrs.field(default=None, validator=_above(0))
    batch_size: int = attrs.field(default=32, validator=_above(0))
    seed: int = attrs.field(default=0, validator=_within(0, 2**31 - 1))
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    devices: int = attrs.field(default=1, validator=_above(0))
    nodes: int = attrs.field(default=1, validator=_above(0))
    strategy: str = "auto"
    threads: int = attrs.field(default=0, validator=_within(0, 4096))
    log_every: int = attrs.field(default=20, validator=_above(0))
    validate_every: int = attrs.field(default=500, validator=_within(0, 2**62))
    save_every: int = attrs.field(default=200, validator=_above(0))

    def __attrs_post_init__(self) -> None:
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"run: expected exactly one of {', '.join(LENGTHS)}, found {' and '.join(given) or 'none'}."
            )

    @property
    def processes(self) -> int:
        """How many take a step together."""
        return self.devices * self.nodes

    def total_steps(self, batches_per_epoch: int) -> int:
        """The number of steps of a run over data that fills so many batches."""
        if self.steps is not None:
            return self.steps
        if self.samples is not None:
            return -(-self.samples // (self.batch_size * self.processes))
        assert self.epochs is not None
        return -(-self.epochs * batches_per_epoch // self.processes)


@attrs.frozen
class CheckpointConfig:
    """What is written for those who use the network.

    Attributes:
        part: Name of the part, for example `face`.
        side: The side of the parts in the training data, where they have one.
        detector: The detector in front of the network in use; the map from its regions to the boxes of the
            evaluation data is found before the first step. Without one, regions count as boxes.
        weights: `float16` halves the file.
    """

    part: str = ""
    side: Literal["left", "right"] | None = None
    detector: Choice | None = None
    weights: Literal["float32", "float16"] = "float32"


@attrs.frozen
class FitConfig:
    """The fit of a model that the network learns to start, and through which it may learn.

    The network predicts, beside the landmarks, the groups that the fit frees and the pose of the model, see
    `partfit.learning.start_head`. The data must tell the true parameters and cameras, and pictures cannot be
    flipped. The fit is that of use, in the camera of the crop, to the landmarks and scales that the network
    predicts; the true focal length is given, unless it is predicted.

    Attributes:
        part: The recipe that fills in what is None below.
        model: The model.
        embeddings: Files of embeddings that come before those of plugins.
        preset: A preset of the recipe's settings.
        settings: Fit settings in full; not together with `preset`.
        fitter: The fitter.
        focal: Whether the network predicts the focal length, and the fit takes it.
        hidden: Sizes of the hidden layers of what predicts the start.
        region: The region of the model whose vertices are judged; by default all.
        parameters: Weight of the loss of the start, see `start_head.start_loss`.
        vertices: Weight of the loss after the fit: mean distance of the vertices to the true ones, both about
            their own mean and in axes of the camera, millimetres. Its gradient goes back through the fit to
            landmarks and scales; with 0 nothing is fitted in training.
        warmup: Share of the run before that loss counts.
        backward: How gradients pass through the fit. By default through its last Gauss-Newton step, which at
            a minimum is what the implicit function theorem says with J^T J for the Hessian, and cheaper.
    """

    part: str
    model: Choice | None = None
    embeddings: tuple[str, ...] = ()
    preset: str | None = None
    settings: FitSettings | None = None
    fitter: Choice | None = None
    focal: bool = False
    hidden: tuple[int, ...] = (256, 256)
    region: str = ""
    parameters: float = attrs.field(default=1.0, validator=_above(0))
    vertices: float = attrs.field(default=0.1, validator=_within(0, float("inf")))
    warmup: float = attrs.field(default=0.2, validator=_within(0, 1))
    backward: Backward = attrs.field(factory=lambda: Backward("truncated", steps=1))

    def __attrs_post_init__(self) -> None:
        if self.preset is not None and self.settings is not None:
            raise ConfigError("fit: give either `preset` or `settings`, not both.")


@attrs.frozen
class TrainConfig:
    """All that determines a training run.

    Attributes:
        data: Where samples come from.
        network: The network; its likelihood is the main loss, of weight 1.
        run: How long, in which precision, with which seed.
        losses: Further losses.
        fit: The fit that it learns to start, if any.
        crop: From boxes to crops.
        augmentation: How crops are varied.
        optimizer, schedule: The optimiser and its rate.
        checkpoint: What is written in the end.
    """

    data: DataConfig
    network: NetworkConfig
    run: TrainRun
    losses: tuple[LossTerm, ...] = ()
    fit: FitConfig | None = None
    crop: CropRule = attrs.field(factory=CropRule)
    augmentation: AugmentationConfig = attrs.field(factory=AugmentationConfig)
    optimizer: OptimizerConfig = attrs.field(factory=OptimizerConfig)
    schedule: ScheduleConfig = attrs.field(factory=ScheduleConfig)
    checkpoint: CheckpointConfig = attrs.field(factory=CheckpointConfig)

    def __attrs_post_init__(self) -> None:
        names = [term.name for term in self.losses]
        if len(set(names)) < len(names):
            raise ConfigError(f"losses: expected different ones, found {', '.join(names)}.")
        if self.network.visibility != ("visibility" in names):
            raise ConfigError(
                'network.visibility: expected true exactly if the losses have one named "visibility": '
                f"found {self.network.visibility} and the losses {', '.join(names) or 'none'}."
            )
        if self.fit is not None and self.augmentation.flips:
            raise ConfigError(
                "augmentation: pictures cannot be flipped where a fit is learnt, as a table [fit] asks for, "
                "since the parameters of a mirrored part are not known. Set horizontal_flip and "
                "vertical_flip to 0."
            )
        if self.checkpoint.side is not None and self.augmentation.flips:
            raise ConfigError(
                f"augmentation: pictures of {self.checkpoint.side} parts (checkpoint.side) cannot be "
                "flipped, since they would show the other side. Set horizontal_flip and vertical_flip to 0."
            )

    @classmethod
    def of_layers(cls, layers: Iterable[Mapping[str, Any]]) -> TrainConfig:
        """The configuration of tables, each of which overrides those before it key by key; see `overlaid`.

        Raises:
            ConfigError: for unknown or missing keys and wrong values, with their path.
        """
        table: Mapping[str, Any] = {}
        for layer in layers:
            table = overlaid(table, layer)
        return from_dict(cls, table)


def overlaid(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """A table with another one laid over it, key by key.

    Where the layer names another component than the base, the base's `options` are dropped: they mean nothing
    to it. A list takes the place of a list, and one length of a run that of another.
    """
    merged = dict(base)
    if "name" in layer and layer["name"] != base.get("name"):
        merged.pop("options", None)
    if any(key in layer for key in LENGTHS):
        merged = {key: value for key, value in merged.items() if key not in LENGTHS}
    for key, value in layer.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = overlaid(below, value)
        else:
            merged[key] = value
    return merged
