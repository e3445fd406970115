"""Backbones: timm models by name, without their classifiers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Literal

import attrs
import torch
from jaxtyping import Float
from torch import Tensor, nn

from partfit.errors import ConfigError
from partfit.learning.heads import FeatureShape
from partfit.text import closest, one_line

#: Mean and standard deviation of ImageNet's pictures, RGB in [0, 1]: for models that name no others.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Arguments of `timm.create_model` that say where weights come from, and what else it reads.
_WEIGHTS = frozenset(
    {"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}
    | {"pretrained_filter_fn", "pretrained_model_args", "pretrained_strict"}
)
#: A name of something that timm knows, such as a layer; no path or address.
_NAME = re.compile(r"[A-Za-z0-9_+.-]*")

#: What a model that cannot see crops of some size may raise.
_SIZE_ERRORS = (AssertionError, RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError)


@attrs.frozen
class BackboneConfig:
    """A timm model without its classifier.

    Attributes:
        name: Of `timm.list_models()`, for example `resnet50`, with or without a tag of its weights.
        pretrained: Whether timm is to load its pretrained weights, from its cache or by downloading them.
        features: `vector` (pooled as the model's classifier wants it) or `spatial` (the last feature map; of
            a model of tokens those of its patches, where they lie in the crop).
        options: Further arguments of `timm.create_model`.
    """

    name: str
    pretrained: bool = False
    features: Literal["vector", "spatial"] = "vector"
    options: dict[str, Any] = attrs.field(factory=dict)

    def without_weights(self) -> BackboneConfig:
        """The same model, which asks for no weights: they are kept elsewhere."""
        options = {name: value for name, value in self.options.items() if name not in _WEIGHTS}
        return attrs.evolve(self, pretrained=False, options=options)

    def check_foreign(self) -> None:
        """Check a configuration of a file that anybody may have written: timm is to read nothing by it.

        Raises:
            ConfigError: if an option says where weights come from, or a value is no number and no plain name.
        """
        for name, value in self.options.items():
            if name in _WEIGHTS or not _is_plain(value):
                raise ConfigError(
                    f"backbone.options.{name}: expected a number or a name that says how the model is built, "
                    f"found {value!r:.100}. A file must not make timm read others."
                )


def _is_plain(value: Any) -> bool:
    """Whether a value consists of numbers and plain names."""
    if isinstance(value, dict):
        return all(name not in _WEIGHTS and _is_plain(member) for name, member in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(member) for member in value)
    if isinstance(value, str):
        return _NAME.fullmatch(value) is not None
    return isinstance(value, int | float)


class Backbone(nn.Module):
    """A timm model as a map from crops to features.

    Crops are normalised by the mean and standard deviation that timm names for the model; these are kept with
    the weights. A model that is built for one size of pictures is built for the crops' size.

    Attributes:
        shape: The shape of its features of one crop.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: BackboneConfig, resolution: int) -> None:
        """Build it for crops of `resolution` x `resolution` pixels.

        Raises:
            ConfigError: if timm has no such model, refuses an option, cannot load the pretrained weights, or
                the model cannot see crops of that size, or has no feature map where `spatial` asks for one.
        """
        super().__init__()
        self._spatial = config.features == "spatial"
        self.model = _timm_model(config, resolution)
        about = getattr(self.model, "pretrained_cfg", {})
        for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(about.get(name) or usual)[:, None, None])
        try:
            with torch.no_grad():
                features = self.eval()(torch.zeros(1, 3, resolution, resolution))
        except _SIZE_ERRORS as error:
            raise _bad_size(config, resolution, error) from error
        self.train()
        # a third faster to train on CPUs
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.shape = FeatureShape(*features.shape[1:])

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch C H W"]:
        """Features of crops, RGB in [0, 1]: (B, C, H, W), with H = W = 1 for a vector."""
        normalised = (images - self.mean) / self.std
        features = self.model(normalised.contiguous(memory_format=torch.channels_last))
        return self._map(features) if self._spatial else features[:, :, None, None]

    def _map(self, features: Tensor) -> Float[Tensor, "batch C H W"]:
        """A feature map, channels first, of what the model puts out: a map of either order, or tokens."""
        if features.ndim == 3:
            patches = features[:, getattr(self.model, "num_prefix_tokens", 0) :]
            side = math.isqrt(patches.shape[1])
            if side**2 != patches.shape[1]:
                raise ConfigError(
                    "backbone.features: expected a model whose features are a map, found one of "
                    f"{patches.shape[1]} tokens. Use features = 'vector'."
                )
            return patches.transpose(1, 2).unflatten(2, (side, side))
        if features.ndim != 4:
            raise ConfigError(
                f"backbone.features: expected a model whose features are a map, found features of the shape "
                f"{tuple(features.shape)}. Use features = 'vector'."
            )
        return features.permute(0, 3, 1, 2) if _channels_are_last(self.model) else features


def _channels_are_last(model: nn.Module) -> bool:
    return str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")


def _timm_model(config: BackboneConfig, resolution: int) -> nn.Module:
    """The model of a configuration, for crops of a size."""
    import timm

    if not timm.is_model(config.name):
        raise ConfigError(_unknown(config.name, timm.list_models()))
    options: dict[str, Any] = {"global_pool": ""} if config.features == "spatial" else {}
    about = timm.get_pretrained_cfg(config.name, allow_unregistered=True)
    if getattr(about, "fixed_input_size", False):
        options["img_size"] = resolution
    try:
        return timm.create_model(
            config.name, pretrained=config.pretrained, num_classes=0, **{**options, **config.options}
        )
    except Exception as error:  # whatever timm, the hub's client or the network raise
        if config.pretrained and not isinstance(error, TypeError):
            raise ConfigError(
                f"backbone.pretrained: timm cannot load the weights of {config.name!r}: {_reason(error)}. "
                "It looks for them in the cache of huggingface_hub (the environment variable HF_HOME, by "
                "default ~/.cache/huggingface) and downloads them where they are missing: connect, or copy "
                "that folder from a machine that has them, or name a file of them in "
                "backbone.options.pretrained_cfg_overlay.file, or set pretrained = false."
            ) from error
        if options.get("img_size") and isinstance(error, _SIZE_ERRORS) and not config.options:
            raise _bad_size(config, resolution, error) from error
        raise ConfigError(f"backbone: timm cannot make {config.name!r}: {_reason(error)}.") from error


def _unknown(name: str, known: list[str]) -> str:
    """The message for a name that timm does not know."""
    longer = [other for other in known if other.startswith(name)]
    match = closest(name, known)
    if longer and name:
        hint = f"Names that begin so: {', '.join(longer[:6])}{', ...' if len(longer) > 6 else ''}."
    else:
        hint = f"Did you mean {match!r}?" if match else ""
    found = f"backbone.name: timm has no model {name!r}. {hint}".rstrip()
    return f"{found} `python -c 'import timm; print(timm.list_models())'` lists them all."


def _bad_size(config: BackboneConfig, resolution: int, error: Exception) -> ConfigError:
    """The error for crops of a size that a model cannot see: it names sizes near it that it can."""
    good = [size for size in _sizes_near(resolution) if _sees(config, size)]
    advice = f"Sizes near it that work: {', '.join(map(str, good))}." if good else "No size near it works."
    return ConfigError(
        f"resolution: {config.name!r} cannot see crops of {resolution} x {resolution} pixels "
        f"({_reason(error)}). {advice}"
    )


def _reason(error: Exception) -> str:
    return one_line(error)[:300].rstrip(".")


def _sizes_near(resolution: int) -> Iterator[int]:
    """The multiples next to a size, on both sides, of the steps of usual models; the usual size itself."""
    near = {224}
    for step in (14, 16, 32):
        below = resolution // step * step
        near |= {below, below + step, below + 2 * step}
    yield from sorted(size for size in near if size > 0 and size != resolution)


def _sees(config: BackboneConfig, size: int) -> bool:
    """Whether a model sees crops of a size; found out without its weights."""
    try:
        with torch.device("meta"):
            model = _timm_model(attrs.evolve(config, pretrained=False, options={}), size).eval()
            model(torch.zeros(1, 3, size, size))
    except (*_SIZE_ERRORS, ConfigError):
        return False
    return True
