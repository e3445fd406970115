"""Trained networks as files: all that is needed to use one, in a single safetensors file.

The tensors are the network's weights under `network.NAME` (the likelihood's flow among them), the arrays of
the landmark scheme under `scheme.NAME` and the mean shape under `shape`. The rest is JSON in the metadata,
under the key `partfit`: format and version, part, scheme, network configuration, crop rule, region map,
calibration, the distributions that the components came from, facts about the training, and a digest of it
all. Nothing in such a file is ever run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import safetensors.numpy
import torch

from partfit.arrays import reals
from partfit.config import from_dict, to_dict
from partfit.errors import ComponentError, InputError, ModelFileError, OutputError, PartfitError, ShapeError
from partfit.files import atomic_write
from partfit.landmarks import LandmarkScheme
from partfit.learning.calibration import Calibration
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.networks import LandmarkNetwork, NetworkConfig
from partfit.model_files import home_path, read_regular_file, safetensors_content
from partfit.registry import Registry, default_registry
from partfit.safe_pickle import Budget

_FORMAT, _VERSION = "partfit-checkpoint", 1
_EXPECTED = "a checkpoint of a landmark network (.safetensors)"
_HINT = "`partfit train` writes such files; its states, for going on with a training, are others."
_NETWORK, _SCHEME, _SHAPE = "network.", "scheme.", "shape"


@attrs.frozen(eq=False)
class Checkpoint:
    """A trained network with all that its use needs.

    Attributes:
        network: The network; it knows its configuration and its landmark scheme.
        shape: (L, 2) mean of the landmarks in the crops of the training data, crop units: what a further crop
            is aligned by.
        crop: From boxes to crops.
        regions: From the regions of the detector that it was made for to boxes.
        calibration: From its scales to standard deviations.
        part: Name of the part, for example `face`; or empty.
        side: The side of the parts in the training crops, `left` or `right`; None where they have none.
        facts: About its training, as JSON can hold them.

    Raises:
        ShapeError: if `shape` has another shape.
        InputError: if `shape` is not finite, or the side is none.
    """

    network: LandmarkNetwork = attrs.field(repr=False)
    shape: np.ndarray = attrs.field(converter=reals, repr=False)
    crop: CropRule = attrs.field(factory=CropRule)
    regions: RegionMap = attrs.field(factory=RegionMap)
    calibration: Calibration = attrs.field(factory=Calibration)
    part: str = ""
    side: str | None = None
    facts: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.shape.shape != (len(self.scheme), 2):
            raise ShapeError("shape of a checkpoint", f"({len(self.scheme)}, 2)", self.shape.shape)
        if not np.isfinite(self.shape).all():
            raise InputError("The mean shape of a checkpoint must be finite.")
        if self.side not in (None, "left", "right"):
            raise InputError(f"The side of a checkpoint is 'left', 'right' or None, found {self.side!r}.")

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
        weights: `float16` halves the file: the weights of layers are rounded to it; biases, normalisation and
            numbers beyond its range stay as they are. A network that was read is float32 in any case.
        registry: Where its components come from; by default the installed plugins.

    Raises:
        OutputError: if the file cannot be written, or the path has another suffix.
        InputError: if a weight is not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise OutputError(f"Cannot write {path}: expected a name that ends in .safetensors.")
    arrays = {_SHAPE: checkpoint.shape}
    for name, value in checkpoint.network.state_dict().items():
        arrays[_NETWORK + name] = _stored(name, value.detach().cpu().numpy(), weights)
    about: dict[str, Any] = {}
    for field in attrs.fields(LandmarkScheme):
        value = getattr(checkpoint.scheme, field.name)
        if isinstance(value, np.ndarray):
            arrays[_SCHEME + field.name] = value
        else:
            about[field.name] = value
    arrays = {name: np.array(array, order="C") for name, array in sorted(arrays.items())}
    config = checkpoint.network.config
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "part": checkpoint.part,
        "side": checkpoint.side,
        "scheme": {**about, "hash": checkpoint.scheme.hash},
        "network": to_dict(config),
        "components": _sources(config, registry or default_registry()),
        "crop": to_dict(checkpoint.crop),
        "regions": to_dict(checkpoint.regions),
        "calibration": to_dict(checkpoint.calibration),
        "facts": dict(checkpoint.facts),
    }
    text = json.dumps({**header, "hash": _digest(json.loads(json.dumps(header)), arrays)})
    content = safetensors.numpy.save(arrays, {"partfit": text})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(path: str | Path, *, registry: Registry | None = None) -> Checkpoint:
    """Read a checkpoint. Its network is on the CPU and in evaluation mode.

    The network's configuration no longer asks for pretrained weights: it has its own.

    Args:
        path: The file; may begin with `~`.
        registry: Where to look for its head and likelihood; by default among the installed plugins.

    Raises:
        ModelFileError: if the file is missing, of another kind, damaged, changed, or of a later version.
        ComponentError: if its head or likelihood is not installed; the message says where it came from.
    """
    path = home_path(path)
    header, arrays = _read(path)
    if header.get("hash") != _digest({k: v for k, v in header.items() if k != "hash"}, arrays):
        raise ModelFileError(path, "content of the digest in its header", "another: it was changed", _HINT)
    try:
        return _made(header, arrays, registry)
    except ComponentError as error:
        sources = ", ".join(f"{kind} of {source}" for kind, source in header["components"].items())
        raise ComponentError(f"{path}: {error} The network was made with: {sources}.") from error
    except (PartfitError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        found = f"one that cannot be used with this version: {type(error).__name__}: {error}"
        raise ModelFileError(path, _EXPECTED, found[:600].rstrip("."), _HINT) from error


def _made(
    header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], registry: Registry | None
) -> Checkpoint:
    """The checkpoint of a header and arrays that are what was written."""
    about: dict[str, Any] = {key: value for key, value in header["scheme"].items() if key != "hash"}
    scheme = LandmarkScheme(**about | _under(_SCHEME, arrays))
    config = from_dict(NetworkConfig, header["network"], "network")
    config = attrs.evolve(config, backbone=attrs.evolve(config.backbone, pretrained=False))
    network = LandmarkNetwork(config, scheme, registry)
    own = network.state_dict()
    state = {name: torch.tensor(array) for name, array in _under(_NETWORK, arrays).items()}
    network.load_state_dict({n: v.to(own[n].dtype) if n in own else v for n, v in state.items()})
    return Checkpoint(
        network.eval(),
        arrays[_SHAPE],
        from_dict(CropRule, header["crop"], "crop"),
        from_dict(RegionMap, header["regions"], "regions"),
        from_dict(Calibration, header["calibration"], "calibration"),
        header["part"],
        header["side"],
        header["facts"],
    )


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, by the rest of their names."""
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a checkpoint's file."""
    content = read_regular_file(path, _EXPECTED, (".safetensors",), _HINT)
    if path.suffix != ".safetensors":
        raise ModelFileError(path, _EXPECTED, path.suffix or "a name without a suffix", _HINT)
    try:
        metadata, arrays = safetensors_content(content, Budget())
        header = json.loads(metadata.get("partfit", "{}"))
    except Exception as error:  # a damaged file makes readers fail in any way
        found = f"no safetensors file, or a damaged one ({error})"
        raise ModelFileError(path, _EXPECTED, found, _HINT) from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ModelFileError(path, _EXPECTED, "a safetensors file that holds no checkpoint", _HINT)
    if header.get("version") != _VERSION:
        found = f"{header.get('version')!r}: use the version of partfit that wrote it, or train again"
        raise ModelFileError(path, f"a checkpoint of version {_VERSION}", found)
    return header, arrays


def _stored(name: str, array: np.ndarray, weights: str) -> np.ndarray:
    """A weight as the file holds it."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(
            f"Expected finite weights, found NaN or infinity in {name!r}: training has diverged."
        )
    if weights == "float16" and array.dtype.kind == "f" and array.ndim >= 2:
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
