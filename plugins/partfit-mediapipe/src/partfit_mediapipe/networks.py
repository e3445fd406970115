"""Running the networks of this package, with torch or with LiteRT.

LiteRT (the optional package ai-edge-litert) is three to four times as fast as torch on a CPU, so it is the
default where it is installed and the device is the CPU. It gets the pictures one at a time: its batches
are no faster, and each change of the batch size would re-plan its memory.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from partfit.errors import ConfigError
from partfit_mediapipe.graph import Graph, GraphModule

Backend = Literal["auto", "torch", "litert"]

#: Pictures that torch runs at once: few enough for a CPU's cache, bounded for a GPU's memory.
_CHUNK_CPU, _CHUNK_OTHER = 4, 64


@runtime_checkable
class Network(Protocol):
    """A network with square inputs."""

    def __call__(
        self, pictures: Float[torch.Tensor, "batch 3 size size"]
    ) -> list[Float[np.ndarray, "batch numbers"]]:
        """Each output flattened to one row a picture, in the order (height, width, channels)."""


class TorchNetwork:
    """A network run by torch, on any device."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        graph = Graph.load(files("partfit_mediapipe") / "assets" / f"{name}.npz")
        self._device = torch.device(device)
        self._module = GraphModule(graph).to(self._device).eval()

    @torch.inference_mode()
    def __call__(
        self, pictures: Float[torch.Tensor, "batch 3 size size"]
    ) -> list[Float[np.ndarray, "batch numbers"]]:
        """The outputs; see `Network`."""
        size = _CHUNK_CPU if self._device.type == "cpu" else _CHUNK_OTHER
        chunks = [self._module(chunk.to(self._device)) for chunk in pictures.split(size)]
        return [torch.cat(parts).cpu().numpy() for parts in zip(*chunks, strict=True)]


class LiteRTNetwork:
    """A network run by LiteRT on the CPU, with as many threads as torch has when it is built."""

    def __init__(self, name: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        model = (files("partfit_mediapipe") / "assets" / f"{name}.tflite").read_bytes()
        self._interpreter = Interpreter(model_content=model, num_threads=torch.get_num_threads())
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]

    def __call__(
        self, pictures: Float[torch.Tensor, "batch 3 size size"]
    ) -> list[Float[np.ndarray, "batch numbers"]]:
        """The outputs; see `Network`."""
        batch = pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        results = [self._run(picture[None]) for picture in batch]
        return [np.stack(rows) for rows in zip(*results, strict=True)]

    def _run(self, picture: Float[np.ndarray, "1 size size 3"]) -> list[Float[np.ndarray, " numbers"]]:
        self._interpreter.set_tensor(self._input, picture)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index).reshape(-1) for index in self._outputs]


def load_network(name: str, backend: Backend = "auto", device: str = "cpu") -> Network:
    """A network of this package by its asset name.

    Args:
        name: One of `partfit_mediapipe.convert.NETWORKS`.
        backend: `torch`, `litert`, or `auto`: LiteRT on the CPU where it is installed, else torch.
        device: Torch device; anything but the CPU needs torch.

    Raises:
        ConfigError: if the backend is unknown, not installed, or cannot use the device.
    """
    if backend not in ("auto", "torch", "litert"):
        raise ConfigError(f"backend must be 'auto', 'torch' or 'litert', found {backend!r}.")
    on_cpu = torch.device(device).type == "cpu"
    if backend == "torch" or (backend == "auto" and not (on_cpu and litert_installed())):
        return TorchNetwork(name, device)
    if not on_cpu:
        raise ConfigError(
            f"backend 'litert' runs on the CPU only, found device {device!r}; use backend 'torch'."
        )
    if not litert_installed():
        raise ConfigError(
            "backend 'litert' needs the package ai-edge-litert, which cannot be imported; "
            "run `pip install ai-edge-litert`, or use backend 'torch'."
        )
    return LiteRTNetwork(name)


def litert_installed() -> bool:
    """Whether the LiteRT runtime can be imported."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        return False
    return True
