"""A small convolutional network as data, and the torch module that runs it.

A graph file is an .npz without pickles: the entry `graph` holds JSON (UTF-8 bytes), every other entry one
array of weights. `partfit_mediapipe.convert` writes such files; their semantics are those of the functions
below, which carry the name that a node gives in `op`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partfit.errors import InputError


@attrs.frozen
class Node:
    """One operation of a graph.

    Attributes:
        op: Name of the operation, a key of `OPERATIONS`.
        inputs: Names of its arguments: the graph's input, weights, or outputs of earlier nodes.
        output: Name of its result.
        options: Keyword arguments of the operation.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Graph:
    """A network: nodes in an order in which they can run.

    Attributes:
        input: Name of the input, a (N, C, H, W) picture batch.
        outputs: Names of the results.
        nodes: The operations.
        weights: The constants by name.
    """

    input: str
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: dict[str, np.ndarray]

    def save(self, path: Path) -> None:
        """Write the graph file; equal graphs give equal bytes."""
        description = {
            "input": self.input,
            "outputs": self.outputs,
            "nodes": [attrs.asdict(node) for node in self.nodes],
        }
        text = json.dumps(description, separators=(",", ":")).encode()
        arrays: dict[str, Any] = {"graph": np.frombuffer(text, dtype=np.uint8), **self.weights}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path | Traversable) -> Graph:
        """Read a graph file.

        Raises:
            InputError: if the file is not a graph.
        """
        with path.open("rb") as file, np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if "graph" not in arrays:
            raise InputError(
                f"{path} is not a network graph: it has no entry 'graph', only {sorted(arrays)}."
            )
        description = json.loads(arrays.pop("graph").tobytes())
        nodes = tuple(
            Node(node["op"], tuple(node["inputs"]), node["output"], node["options"])
            for node in description["nodes"]
        )
        return cls(description["input"], tuple(description["outputs"]), nodes, arrays)


class GraphModule(nn.Module):
    """Runs a graph in torch, in float32 and channels-last memory."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        for name, array in graph.weights.items():
            weight = torch.from_numpy(array.astype(np.float32))
            layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
            self.register_buffer(name, weight.contiguous(memory_format=layout))

    def forward(self, pictures: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """The outputs of the graph for a batch of pictures."""
        values: dict[str, Tensor] = dict(self.named_buffers())
        values[self._graph.input] = pictures.contiguous(memory_format=torch.channels_last)
        for node in self._graph.nodes:
            arguments = [values[name] for name in node.inputs]
            values[node.output] = OPERATIONS[node.op](*arguments, **node.options)
        return [values[name] for name in self._graph.outputs]


def conv(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "filters group rows columns"],
    bias: Float[Tensor, " filters"],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int,
    relu: bool,
) -> Float[Tensor, "batch filters out_height out_width"]:
    """Convolution; `stride` (y, x), zero `padding` (left, right, top, bottom), an optional ReLU."""
    left, right, top, bottom = padding
    if left == right and top == bottom:
        y = F.conv2d(x, weight, bias, tuple(stride), (top, left), groups=groups)
    else:
        y = F.conv2d(F.pad(x, list(padding)), weight, bias, tuple(stride), groups=groups)
    return y.relu_() if relu else y


def relu6(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Clips to [0, 6]."""
    return F.relu6(x)


def prelu(
    x: Float[Tensor, "batch channels height width"], slope: Float[Tensor, " channels"]
) -> Float[Tensor, "batch channels height width"]:
    """max(x, 0) + slope * min(x, 0), one slope a channel."""
    return F.prelu(x, slope)


def add(x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"], *, relu: bool) -> Float[Tensor, "*shape"]:
    """Sum, with an optional ReLU."""
    total = x + y
    return total.relu_() if relu else total


def max_pool(
    x: Float[Tensor, "batch channels height width"], *, size: Sequence[int], stride: Sequence[int]
) -> Float[Tensor, "batch channels out_height out_width"]:
    """Maximum over windows that lie wholly inside; `size` and `stride` are (y, x)."""
    return F.max_pool2d(x, tuple(size), tuple(stride))


def pad_channels(
    x: Float[Tensor, "batch channels height width"], *, before: int, after: int
) -> Float[Tensor, "batch more height width"]:
    """Adds channels of zeros."""
    return F.pad(x, [0, 0, 0, 0, before, after])


def resize(
    x: Float[Tensor, "batch channels height width"], *, size: Sequence[int]
) -> Float[Tensor, "batch channels out_height out_width"]:
    """Bilinear resize to (height, width); pixel centres map by x' = (x + 0.5) s - 0.5."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def depth_to_space(
    x: Float[Tensor, "batch depth height width"], *, block: int
) -> Float[Tensor, "batch channels tall wide"]:
    """Channel (row * block + column) * C + c of a pixel becomes channel c of its sub-pixel (row, column).

    This is TensorFlow's order; `torch.pixel_shuffle` has c as the slowest index.
    """
    batch, depth, height, width = x.shape
    parts = x.reshape(batch, block, block, depth // block**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, depth // block**2, height * block, width * block)


def rows(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch numbers"]:
    """All numbers of a picture in the order (height, width, channels)."""
    return x.permute(0, 2, 3, 1).flatten(1)


def concatenate(*x: Float[Tensor, "batch _"]) -> Float[Tensor, "batch numbers"]:
    """Rows of numbers, one after another."""
    return torch.cat(x, dim=1)


def mean(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels"]:
    """Mean over the pixels."""
    return x.mean(dim=(2, 3))


def dense(
    x: Float[Tensor, "batch channels"],
    weight: Float[Tensor, "numbers channels"],
    bias: Float[Tensor, " numbers"],
) -> Float[Tensor, "batch numbers"]:
    """A fully connected layer: weight x + bias."""
    return F.linear(x, weight, bias)


def sigmoid(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


#: What a node's `op` may name.
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    operation.__name__: operation
    for operation in (
        conv,
        relu6,
        prelu,
        add,
        max_pool,
        pad_channels,
        resize,
        depth_to_space,
        rows,
        concatenate,
        mean,
        dense,
        sigmoid,
    )
}
