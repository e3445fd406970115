"""Trained networks as files: all that is needed to use one, in a single safetensors file.

The tensors are the network's weights under `network.NAME` (the likelihood's flow among them), the arrays of
the landmark scheme under `scheme.NAME`, the mean shape under `shape`, and `boxed`. The rest is JSON in the
metadata, under the key `partfit`: format and version, part, scheme, network configuration, what it predicts
for the start of a fit (if anything), crop rule, region map, calibration, the distributions that the
components came from, facts about the training, and a digest of it all. Nothing in such a file is ever run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import nn

from partfit.arrays import integers, reals
from partfit.config import from_dict, to_dict
from partfit.errors import ComponentError, InputError, ModelFileError, OutputError, PartfitError, ShapeError
from partfit.landmarks import LandmarkScheme
from partfit.learning.calibration import Calibration
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.datasets import check_boxed
from partfit.learning.networks import LandmarkNetwork, NetworkConfig
from partfit.learning.start_head import StartLayout
from partfit.model_files import home_path
from partfit.registry import Registry, default_registry
from partfit.tensor_files import SUFFIX, TensorFormat

_FORMAT = TensorFormat(
    "partfit-checkpoint",
    1,
    "a checkpoint",
    "a checkpoint of a landmark network (.safetensors)",
    "`partfit train` writes such files; its states, for going on with a training, are others.",
)
_NETWORK, _SCHEME, _SHAPE, _BOXED = "network.", "scheme.", "shape", "boxed"


@attrs.frozen(eq=False)
class Checkpoint:
    """A trained network with all that its use needs.

    Attributes:
        network: The network; it knows its configuration and its landmark scheme.
        shape: (L, 2) typical places of the landmarks in the crops of the training data, crop units: what a
            further crop is aligned by, see `partfit.learning.shapes.typical_shape`.
        crop: From boxes to crops.
        regions: From the regions of the detector that it was made for to boxes.
        detector: Name of that detector; None if none was named.
        calibration: From its scales to standard deviations.
        part: Name of the part, for example `face`; or empty.
        side: The side of the parts in the training crops, `left` or `right`; None where they have none.
        facts: About its training, as JSON can hold them.
        boxed: Indices of the landmarks around which the boxes of the training data lie, see
            `partfit.learning.datasets.Dataset.boxed`; None: all.

    Raises:
        ShapeError: if `shape` has another shape.
        InputError: if `shape` is not finite, the side is none, or `part` or `facts` are of another kind.
    """

    network: LandmarkNetwork = attrs.field(repr=False)
    shape: np.ndarray = attrs.field(converter=reals, repr=False)
    crop: CropRule = attrs.field(factory=CropRule)
    regions: RegionMap = attrs.field(factory=RegionMap)
    calibration: Calibration = attrs.field(factory=Calibration)
    part: str = ""
    side: str | None = None
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    boxed: np.ndarray | None = attrs.field(
        default=None, converter=attrs.converters.optional(integers), repr=False
    )
    detector: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.shape.shape != (len(self.scheme), 2):
            raise ShapeError("shape of a checkpoint", f"({len(self.scheme)}, 2)", self.shape.shape)
        if not np.isfinite(self.shape).all():
            raise InputError("The mean shape of a checkpoint must be finite.")
        check_boxed(self.boxed, self.scheme)
        if self.side not in (None, "left", "right"):
            raise InputError(f"The side of a checkpoint is 'left', 'right' or None, found {self.side!r}.")
        if not isinstance(self.part, str):
            raise InputError(f"The part of a checkpoint is a name, found {self.part!r}.")
        if not isinstance(self.facts, Mapping):
            raise InputError(f"The facts of a checkpoint are a table, found {self.facts!r}.")

    @property
    def scheme(self) -> LandmarkScheme:
        """The landmarks' scheme."""
        return self.network.scheme


def save_checkpoint(
    checkpoint: Checkpoint,
    path: str | Path,
    *,
    weights: Literal["float32", "float16"] = "float32",
    registry: Registry | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        checkpoint: What to write.
        path: The file, `.safetensors`.
        weights: `float16` halves the file: the weights of linear layers and convolutions are rounded to it;
            all else, and weights beyond its range, stay as they are. A network that was read is float32 in
            any case.
        registry: Where its components come from; by default the installed plugins.

    Raises:
        OutputError: if the file cannot be written, or the path has another suffix.
        InputError: if a weight is not finite.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise OutputError(f"Cannot write {path}: expected a name that ends in {SUFFIX}.")
    arrays = {_SHAPE: checkpoint.shape}
    if checkpoint.boxed is not None:
        arrays[_BOXED] = checkpoint.boxed
    halved = _layer_weights(checkpoint.network) if weights == "float16" else ()
    for name, value in checkpoint.network.state_dict().items():
        arrays[_NETWORK + name] = _stored(name, value.detach().cpu().numpy(), halved)
    about: dict[str, Any] = {}
    for field in attrs.fields(LandmarkScheme):
        value = getattr(checkpoint.scheme, field.name)
        if isinstance(value, np.ndarray):
            arrays[_SCHEME + field.name] = value
        else:
            about[field.name] = value
    config, start = checkpoint.network.config, checkpoint.network.start
    config = attrs.evolve(config, backbone=config.backbone.without_weights())
    header = _FORMAT.header(
        part=checkpoint.part,
        side=checkpoint.side,
        scheme={**about, "hash": checkpoint.scheme.hash},
        network=to_dict(config),
        components=_sources(config, registry or default_registry()),
        crop=to_dict(checkpoint.crop),
        regions=to_dict(checkpoint.regions),
        detector=checkpoint.detector,
        calibration=to_dict(checkpoint.calibration),
        facts=dict(checkpoint.facts),
        **({} if start is None else {"start": to_dict(start.layout)}),
    )
    header["hash"] = _digest(json.loads(json.dumps(header)), arrays)
    _FORMAT.write(path, header, arrays)


def load_checkpoint(path: str | Path, *, registry: Registry | None = None) -> Checkpoint:
    """Read a checkpoint. Its network is on the CPU and in evaluation mode.

    The network's configuration asks for no pretrained weights: it has its own. Nothing but the file is read,
    and torch's global random numbers stay where they are.

    Args:
        path: The file; may begin with `~`.
        registry: Where to look for its head and likelihood; by default among the installed plugins.

    Raises:
        ModelFileError: if the file is missing, of another kind, damaged, changed, or of a later version.
        ComponentError: if its head or likelihood is not installed; the message says where it came from.
    """
    path = home_path(path)
    header, arrays = _FORMAT.read(path)
    if header.get("hash") != _digest({k: v for k, v in header.items() if k != "hash"}, arrays):
        raise ModelFileError(
            path, "content of the digest in its header", "another: it was changed", _FORMAT.hint
        )
    try:
        return _made(header, arrays, registry)
    except ComponentError as error:
        components = header.get("components")
        known = components.items() if isinstance(components, dict) else ()
        sources = ", ".join(f"{kind} of {source}" for kind, source in known) or "nothing that it names"
        raise ComponentError(f"{path}: {error} The network was made with: {sources}.") from error
    except (PartfitError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        found = f"one that cannot be used with this version: {type(error).__name__}: {error}"
        raise ModelFileError(path, _FORMAT.expected, found[:600].rstrip("."), _FORMAT.hint) from error


def _made(
    header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], registry: Registry | None
) -> Checkpoint:
    """The checkpoint of a header and arrays that are what was written."""
    about: dict[str, Any] = {key: value for key, value in header["scheme"].items() if key != "hash"}
    scheme = LandmarkScheme(**about | _under(_SCHEME, arrays))
    config = from_dict(NetworkConfig, header["network"], "network")
    config.backbone.check_foreign()
    config = attrs.evolve(config, backbone=config.backbone.without_weights())
    start = from_dict(StartLayout, header["start"], "start") if "start" in header else None
    return Checkpoint(
        _network(config, scheme, start, _under(_NETWORK, arrays), registry).eval(),
        arrays[_SHAPE],
        from_dict(CropRule, header["crop"], "crop"),
        from_dict(RegionMap, header["regions"], "regions"),
        from_dict(Calibration, header["calibration"], "calibration"),
        header["part"],
        header["side"],
        header["facts"],
        arrays.get(_BOXED),
        detector=header.get("detector"),
    )


def _network(
    config: NetworkConfig,
    scheme: LandmarkScheme,
    start: StartLayout | None,
    weights: Mapping[str, np.ndarray],
    registry: Registry | None,
) -> LandmarkNetwork:
    """The network of a configuration with given weights.

    It is first built without memory: a small file whose configuration asks for a large network is refused
    before that is made.

    Raises:
        InputError: if its weights are others.
    """
    found = {name: array.shape for name, array in weights.items()}
    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            _check_weights(LandmarkNetwork(config, scheme, registry, start), found)
        network = LandmarkNetwork(config, scheme, registry, start)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return network


def _check_weights(network: LandmarkNetwork, found: Mapping[str, tuple[int, ...]]) -> None:
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name in sorted(expected.keys() | found.keys()):
        one, other = (str(shapes.get(name, "none")) for shapes in (expected, found))
        if one != other:
            raise InputError(f"Expected weights {name!r} of the shape {one}, found {other}.")


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, by the rest of their names."""
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def _layer_weights(network: nn.Module) -> set[str]:
    """The names of the weights of linear layers and convolutions."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, layers)}


def _stored(name: str, array: np.ndarray, halved: Collection[str]) -> np.ndarray:
    """A weight as the file holds it."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(
            f"Expected finite weights, found NaN or infinity in {name!r}: training has diverged."
        )
    if name in halved:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        return half if np.isfinite(half).all() else array
    return array


def _sources(config: NetworkConfig, registry: Registry) -> dict[str, str]:
    """The distribution and version that each component comes from, by kind."""
    chosen = {"head": config.head, "loss": config.likelihood}
    return {kind: registry.get(kind, choice.name).source for kind, choice in chosen.items()}


def _digest(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Of the header and of every array's name, kind, shape and content."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
