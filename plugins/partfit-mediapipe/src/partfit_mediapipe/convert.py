"""Makes the network assets of this package from the mediapipe wheel.

    python -m partfit_mediapipe.convert mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl

For every network it copies the .tflite file, which the LiteRT runtime reads, and writes the graph file (see
`partfit_mediapipe.graph`) that the torch runtime reads. Running it again gives the same bytes. Reading
.tflite files needs the package ai-edge-litert; running the converted networks does not.

The networks' constants are float16, some of them stored sparsely; the graph keeps float16. TensorFlow's
'SAME' padding is resolved here to explicit numbers from the static shapes, and a spatial PAD before a
convolution becomes part of it.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from partfit.errors import InputError
from partfit_mediapipe.graph import Graph, Node

#: Asset name of each network, and where the wheel has it.
NETWORKS = {
    "face_detection": "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
    "face_landmark": "mediapipe/modules/face_landmark/face_landmark.tflite",
    "iris_landmark": "mediapipe/modules/iris_landmark/iris_landmark.tflite",
    "palm_detection": "mediapipe/modules/palm_detection/palm_detection_full.tflite",
    "hand_landmark_full": "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
    "hand_landmark_lite": "mediapipe/modules/hand_landmark/hand_landmark_lite.tflite",
}

ASSETS = Path(__file__).parent / "assets"


def convert_wheel(wheel: Path, folder: Path) -> list[Path]:
    """Extract and convert every network of a mediapipe wheel.

    Args:
        wheel: The wheel's file.
        folder: Where `NAME.tflite` and `NAME.npz` are written.

    Returns:
        The files written.

    Raises:
        InputError: if the wheel lacks a network or one of them cannot be converted.
    """
    written: list[Path] = []
    with zipfile.ZipFile(wheel) as archive:
        missing = set(NETWORKS.values()) - set(archive.namelist())
        if missing:
            raise InputError(f"{wheel.name} lacks {sorted(missing)}; use the wheel of mediapipe 0.10.21.")
        for name, member in NETWORKS.items():
            flatbuffer = archive.read(member)
            paths = folder / f"{name}.tflite", folder / f"{name}.npz"
            paths[0].write_bytes(flatbuffer)
            convert_tflite(flatbuffer).save(paths[1])
            written += paths
    return written


def convert_tflite(flatbuffer: bytes) -> Graph:
    """The graph of a .tflite file with one subgraph and one NHWC input.

    Outputs with four axes are flattened to (N, numbers), in the order (height, width, channels).

    Raises:
        InputError: if the network uses an operation or an option that graphs do not have.
    """
    return _Converter(flatbuffer).graph()


class _Converter:
    """Walks through the operators of one model and collects nodes and weights."""

    def __init__(self, flatbuffer: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
        self.subgraph = self.model.subgraphs[0]
        self.schema = schema
        self.constants: dict[int, np.ndarray] = {}
        self.paddings: dict[int, tuple[int, list[int]]] = {}  # of PAD: what is padded, and by how much
        self.rows: set[int] = set()  # tensors that a graph holds as one row of numbers a picture
        self.nodes: list[Node] = []
        self.weights: dict[str, np.ndarray] = {}

    def graph(self) -> Graph:
        names = {code: name for name, code in vars(self.schema.BuiltinOperator).items() if name.isupper()}
        converters: dict[str, Callable[[Any], None]] = {
            "DEQUANTIZE": self._forward_constant,
            "DENSIFY": self._forward_constant,
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._depthwise_conv,
            "PRELU": self._prelu,
            "ADD": self._add,
            "MAX_POOL_2D": self._max_pool,
            "PAD": self._pad,
            "RESIZE_BILINEAR": self._resize,
            "DEPTH_TO_SPACE": self._depth_to_space,
            "RESHAPE": self._reshape,
            "CONCATENATION": self._concatenation,
            "MEAN": self._mean,
            "FULLY_CONNECTED": self._dense_layer,
            "LOGISTIC": self._logistic,
        }
        for operator in self.subgraph.operators:
            code = self.model.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            _require(name in converters, f"operator {name}")
            converters[name](operator)
        outputs = tuple(self._flat_output(int(i)) for i in self.subgraph.outputs)
        return Graph(_name(self.subgraph.inputs[0]), outputs, tuple(self.nodes), self.weights)

    def _flat_output(self, index: int) -> str:
        if len(self._shape(index)) != 4:
            return _name(index)
        flat = f"{_name(index)}_rows"
        self.nodes.append(Node("rows", (_name(index),), flat))
        return flat

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self.subgraph.tensors[index].shape)

    def _constant(self, index: int) -> np.ndarray:
        """The value of a constant tensor, in its TensorFlow layout."""
        if index not in self.constants:
            tensor = self.subgraph.tensors[index]
            data = self.model.buffers[tensor.buffer].data
            _require(data is not None, f"operator argument {tensor.name.decode()} that is not a constant")
            types = {
                self.schema.TensorType.FLOAT32: "<f4",
                self.schema.TensorType.FLOAT16: "<f2",
                self.schema.TensorType.INT32: "<i4",
            }
            _require(tensor.type in types, f"constant type {tensor.type}")
            values = np.frombuffer(bytes(data), types[tensor.type])
            if tensor.sparsity is not None:
                values = self._dense(values, tensor.sparsity, self._shape(index))
            self.constants[index] = values.reshape(self._shape(index))
        return self.constants[index]

    def _dense(self, values: np.ndarray, sparsity: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Expand values whose last axis is compressed (CSR) and whose other axes are dense."""
        *dense_axes, last = sparsity.dimMetadata
        compressed = self.schema.DimensionType.SPARSE_CSR
        supported = (
            list(sparsity.traversalOrder) == list(range(len(shape)))
            and not len(sparsity.blockMap if sparsity.blockMap is not None else ())
            and last.format == compressed
            and all(axis.format != compressed for axis in dense_axes)
        )
        _require(supported, "sparse layout")
        segments = np.asarray(last.arraySegments.values, dtype=int)
        columns = np.asarray(last.arrayIndices.values, dtype=int)
        dense = np.zeros((len(segments) - 1, shape[-1]), values.dtype)
        dense[np.repeat(np.arange(len(dense)), np.diff(segments)), columns] = values
        return dense

    def _weight(self, index: int, value: np.ndarray) -> str:
        name = f"w{index}"
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def _append(self, op: str, operator: Any, weights: list[str], **options: Any) -> None:
        source = int(operator.inputs[0])
        _require(source not in self.paddings, f"PAD before {op}")
        _require(source not in self.rows, f"RESHAPE before {op}")
        self.nodes.append(Node(op, (_name(source), *weights), _name(operator.outputs[0]), options))

    def _forward_constant(self, operator: Any) -> None:
        self.constants[int(operator.outputs[0])] = self._constant(int(operator.inputs[0]))

    def _conv(self, operator: Any) -> None:
        self._convolution(operator, self._constant(int(operator.inputs[1])).transpose(0, 3, 1, 2), groups=1)

    def _depthwise_conv(self, operator: Any) -> None:
        kernel = self._constant(int(operator.inputs[1])).transpose(3, 0, 1, 2)
        _require(operator.builtinOptions.depthMultiplier == 1, "depth multiplier")
        self._convolution(operator, kernel, groups=len(kernel))

    def _convolution(self, operator: Any, kernel: np.ndarray, groups: int) -> None:
        """A convolution with an OIHW kernel."""
        options = operator.builtinOptions
        _require(options.dilationHFactor == options.dilationWFactor == 1, "dilation")
        source, kernel_index, bias_index = (int(i) for i in operator.inputs)
        stride = [options.strideH, options.strideW]
        if options.padding == self.schema.Padding.SAME:
            _require(source not in self.paddings, "PAD before a SAME convolution")
            padding = _same_padding(self._shape(source)[1:3], kernel.shape[2:], stride)
        else:
            source, padding = self.paddings.get(source, (source, [0, 0, 0, 0]))
        weights = [
            self._weight(kernel_index, kernel),
            self._weight(bias_index, self._constant(bias_index)),
        ]
        output = _name(operator.outputs[0])
        clipped = options.fusedActivationFunction == self.schema.ActivationFunctionType.RELU6
        result = f"{output}_unclipped" if clipped else output
        relu = not clipped and self._relu(options)
        attributes = {"stride": stride, "padding": padding, "groups": groups, "relu": relu}
        self.nodes.append(Node("conv", (_name(source), *weights), result, attributes))
        if clipped:
            self.nodes.append(Node("relu6", (result,), output))

    def _prelu(self, operator: Any) -> None:
        index = int(operator.inputs[1])
        slope = self._constant(index)
        _require(slope.size == slope.shape[-1], "PReLU with a slope a pixel")
        self._append("prelu", operator, [self._weight(index, slope.reshape(-1))])

    def _add(self, operator: Any) -> None:
        other = int(operator.inputs[1])
        _require(other not in self.paddings and other not in self.constants, "ADD of a PAD or a constant")
        self._append("add", operator, [_name(other)], relu=self._relu(operator.builtinOptions))

    def _max_pool(self, operator: Any) -> None:
        options = operator.builtinOptions
        size, stride = [options.filterHeight, options.filterWidth], [options.strideH, options.strideW]
        if options.padding == self.schema.Padding.SAME:
            padding = _same_padding(self._shape(int(operator.inputs[0]))[1:3], tuple(size), stride)
            _require(not any(padding), "SAME pooling of a size that its stride does not divide")
        _require(not self._relu(options), "pooling with an activation")
        self._append("max_pool", operator, [], size=size, stride=stride)

    def _pad(self, operator: Any) -> None:
        source, amounts, output = int(operator.inputs[0]), int(operator.inputs[1]), int(operator.outputs[0])
        batch, vertical, horizontal, channels = self._constant(amounts).tolist()
        _require(batch == [0, 0], "PAD of the batch")
        if channels == [0, 0]:
            self.paddings[output] = source, [*horizontal, *vertical]
        else:
            _require(vertical == horizontal == [0, 0], "PAD of pixels and channels at once")
            self._append("pad_channels", operator, [], before=channels[0], after=channels[1])

    def _resize(self, operator: Any) -> None:
        options = operator.builtinOptions
        _require(options.halfPixelCenters and not options.alignCorners, "resize without half-pixel centres")
        self._append("resize", operator, [], size=self._constant(int(operator.inputs[1])).tolist())

    def _depth_to_space(self, operator: Any) -> None:
        self._append("depth_to_space", operator, [], block=operator.builtinOptions.blockSize)

    def _reshape(self, operator: Any) -> None:
        source, output = int(operator.inputs[0]), int(operator.outputs[0])
        kept = len(self._shape(source)) == 4 and self._shape(output)[0] == 1
        _require(kept, "RESHAPE of other than a picture to one row of numbers")
        self._append("rows", operator, [])
        self.rows.add(output)

    def _concatenation(self, operator: Any) -> None:
        """Rows of numbers one after another, as a concatenation along the first axis of a picture's is."""
        sources = [int(i) for i in operator.inputs]
        options = operator.builtinOptions
        supported = self.rows.issuperset(sources) and options.axis == 1 and not self._relu(options)
        _require(supported, "CONCATENATION of other than reshaped pictures along axis 1")
        output = int(operator.outputs[0])
        self.nodes.append(Node("concatenate", tuple(map(_name, sources)), _name(output)))
        self.rows.add(output)

    def _mean(self, operator: Any) -> None:
        axes = self._constant(int(operator.inputs[1])).ravel().tolist()
        _require(axes == [1, 2] and not operator.builtinOptions.keepDims, "MEAN of other than all pixels")
        self._append("mean", operator, [])

    def _dense_layer(self, operator: Any) -> None:
        source, weight, bias = (int(i) for i in operator.inputs)
        _require(len(self._shape(source)) == 2, "FULLY_CONNECTED of other than one row a picture")
        _require(not self._relu(operator.builtinOptions), "FULLY_CONNECTED with an activation")
        weights = [self._weight(index, self._constant(index)) for index in (weight, bias)]
        self._append("dense", operator, weights)

    def _logistic(self, operator: Any) -> None:
        self._append("sigmoid", operator, [])

    def _relu(self, options: Any) -> bool:
        activation = self.schema.ActivationFunctionType
        known = (activation.NONE, activation.RELU)
        _require(options.fusedActivationFunction in known, f"activation {options.fusedActivationFunction}")
        return bool(options.fusedActivationFunction == activation.RELU)


def _same_padding(shape: tuple[int, ...], kernel: tuple[int, ...], stride: list[int]) -> list[int]:
    """TensorFlow's 'SAME' padding (left, right, top, bottom): ceil(n / stride) outputs, the odd zero last."""
    totals = [
        max((-(-n // step) - 1) * step + width - n, 0)
        for n, width, step in zip(shape, kernel, stride, strict=True)
    ]
    vertical, horizontal = ((total // 2, total - total // 2) for total in totals)
    return [*horizontal, *vertical]


def _name(index: int) -> str:
    return f"t{int(index)}"


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise InputError(
            f"Cannot convert this network: {what} is not supported; extend partfit_mediapipe.convert."
        )


def main() -> None:
    """Command line: convert the networks of the wheel given as the argument."""
    parser = argparse.ArgumentParser(description="Make the network assets from a mediapipe wheel.")
    parser.add_argument("wheel", type=Path, help="mediapipe-0.10.21-*.whl")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder of the assets")
    arguments = parser.parse_args()
    for path in convert_wheel(arguments.wheel, arguments.out):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
