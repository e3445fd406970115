"""Trained networks as ONNX files, for programs without torch."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from partfit.config import to_dict
from partfit.errors import ComponentError, OutputError
from partfit.files import atomic_write
from partfit.learning.checkpoint import Checkpoint
from partfit.text import one_line

#: Version of ONNX's operators: of 2023, which run-times of many kinds know.
_OPSET = 18

#: Most that an output of the file may differ from the network's: crop units or probability; of what is above
#: 1, a part of it.
_TOLERANCE = 1e-4


def export_onnx(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write the network of a checkpoint as an ONNX file of one input and two or three outputs.

    - `crops` (B, 3, R, R): RGB in [0, 1], black outside the picture; B is free.
    - `points` (B, L, 2): positions in crop units; x to the right and y down, the crop spans [-0.5, 0.5].
    - `scale` (B, L, 2): standard deviations of the coordinates, crop units, calibrated.
    - `visibility` (B, L): probability that the landmark is in sight, if the network predicts it.

    The metadata has the scheme's name, version and hash, the crop rule and the region map, as JSON under
    `partfit`. Before it is written the file is run, and its answers are compared with the network's.

    Raises:
        ComponentError: if the packages `onnx` and `onnxruntime` are not installed.
        OutputError: if the file cannot be written, the path has another suffix than .onnx, or torch cannot
            express the network in ONNX.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise OutputError(f"Cannot write {path}: expected a name that ends in .onnx.")
    try:
        import onnx
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401  # for the comparison, after the work
    except ImportError as error:
        raise ComponentError(
            f'ONNX files are made with onnx and onnxruntime: pip install "partfit[export]" ({error}).'
        ) from error
    network = checkpoint.network
    training = network.training
    module = _Exported(checkpoint).eval()
    try:
        content = _exported(module)
        model = onnx.load_from_string(content)
        onnx.helper.set_model_props(model, {"partfit": json.dumps(_about(checkpoint))})
        content = model.SerializeToString()
        difference = _difference(module, content)
    except Exception as error:  # whatever the exporter and the run-time stumble over
        raise OutputError(
            f"Cannot write {path}: this network has no form in ONNX: {one_line(error)[:300]}"
        ) from error
    finally:
        network.train(training)
    if not difference <= _TOLERANCE:
        raise OutputError(
            f"Cannot write {path}: the outputs in ONNX differ from the network's by {difference:.2g}, "
            f"expected at most {_TOLERANCE}."
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


class _Exported(nn.Module):
    """The network with the calibration of its scales, as tensors in and out."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = checkpoint.network
        self._calibration = checkpoint.calibration
        with torch.no_grad():
            self._residual = self.network.likelihood.deviation()
        self.names = ["points", "scale", "visibility"][: 3 if self.network.config.visibility else 2]
        self._device = next(self.network.parameters()).device

    def forward(self, crops: Float[Tensor, "batch 3 R R"]) -> tuple[Tensor, ...]:
        distribution = self.network(crops)
        deviation = self._calibration.deviation(distribution, self._residual)
        if distribution.visibility is None:
            return distribution.mean, deviation
        return distribution.mean, deviation, distribution.visibility.sigmoid()

    def crops(self, batch: int) -> Float[Tensor, "batch 3 R R"]:
        """Random crops."""
        side = self.network.config.resolution
        generator = torch.Generator().manual_seed(batch)
        return torch.rand(batch, 3, side, side, generator=generator).to(self._device)


def _exported(module: _Exported) -> bytes:
    """The ONNX file of the network.

    Written by tracing: torch's other exporter, of graphs, takes five times as long or more.
    """
    stream, names = io.BytesIO(), ["crops", *module.names]
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            module,
            (module.crops(2),),
            cast(Any, stream),
            dynamo=False,
            opset_version=_OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names},
        )
    return stream.getvalue()


def _difference(module: _Exported, content: bytes) -> float:
    """The largest difference of the file's outputs from the network's, over batches of two sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3):
        crops = module.crops(batch)
        with torch.no_grad():
            wanted = module(crops)
        found = session.run(module.names, {"crops": crops.cpu().numpy()})
        for one, other in zip(found, wanted, strict=True):
            true = other.cpu().numpy()
            worst = max(worst, float((np.abs(one - true) / np.maximum(1, np.abs(true))).max(initial=0.0)))
    return worst


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    scheme = checkpoint.scheme
    return {
        "scheme": {"name": scheme.name, "version": scheme.version, "hash": scheme.hash},
        "part": checkpoint.part,
        "side": checkpoint.side,
        "crop": to_dict(checkpoint.crop),
        "regions": to_dict(checkpoint.regions),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings: that it is the older one, and that sizes become constants."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export")
        warnings.filterwarnings("ignore", "The feature will be removed", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
