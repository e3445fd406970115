"""The converter, on a network made here and against LiteRT as the independent implementation."""

import zipfile
from importlib.resources import files

import numpy as np
import pytest
import torch

from partfit.errors import InputError
from partfit_mediapipe.convert import NETWORKS, convert_tflite, convert_wheel
from partfit_mediapipe.graph import Graph, GraphModule

flatbuffers = pytest.importorskip("flatbuffers", reason="needs ai-edge-litert")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert")
interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")


class ModelBuilder:
    """Writes small .tflite files."""

    def __init__(self):
        self.tensors, self.operators, self.codes = [], [], []
        self.buffers = [schema.BufferT()]

    def tensor(self, shape, data=None, sparsity=None):
        tensor = schema.TensorT()
        tensor.name = f"tensor{len(self.tensors)}"
        tensor.shape = list(shape)
        kinds = {"float16": schema.TensorType.FLOAT16, "int32": schema.TensorType.INT32}
        tensor.type = schema.TensorType.FLOAT32 if data is None else kinds[str(data.dtype)]
        tensor.buffer, tensor.sparsity = 0, sparsity
        if data is not None:
            tensor.buffer = len(self.buffers)
            self.buffers.append(schema.BufferT())
            self.buffers[-1].data = np.frombuffer(data.tobytes(), np.uint8)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, name, inputs, shape, **options):
        """Append an operator; returns the index of its output."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 1
        self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.codes) - 1
        output = self.tensor(shape)
        operator.inputs, operator.outputs = list(inputs), [output]
        option_class = {
            "CONV_2D": "Conv2DOptions",
            "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
            "ADD": "AddOptions",
            "MAX_POOL_2D": "Pool2DOptions",
            "RESIZE_BILINEAR": "ResizeBilinearOptions",
            "DEPTH_TO_SPACE": "DepthToSpaceOptions",
            "CONCATENATION": "ConcatenationOptions",
            "MEAN": "ReducerOptions",
            "FULLY_CONNECTED": "FullyConnectedOptions",
        }.get(name)
        if option_class:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, option_class)
            operator.builtinOptions = getattr(schema, option_class + "T")()
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key)
                setattr(operator.builtinOptions, key, value)
        self.operators.append(operator)
        return output

    def half(self, values):
        """A float16 constant behind a DEQUANTIZE."""
        values = np.asarray(values, np.float16)
        return self.operator("DEQUANTIZE", [self.tensor(values.shape, values)], values.shape)

    def sparse_half(self, values):
        """A float16 constant stored as rows of its non-zeros, behind DENSIFY and DEQUANTIZE."""
        values = np.asarray(values, np.float16)
        rows = values.reshape(-1, values.shape[-1])
        sparsity = schema.SparsityParametersT()
        sparsity.traversalOrder = list(range(values.ndim))
        sparsity.dimMetadata = []
        for size in values.shape[:-1]:
            axis = schema.DimensionMetadataT()
            axis.format, axis.denseSize = schema.DimensionType.DENSE, size
            sparsity.dimMetadata.append(axis)
        last = schema.DimensionMetadataT()
        last.format = schema.DimensionType.SPARSE_CSR
        last.arraySegmentsType = last.arrayIndicesType = schema.SparseIndexVector.Uint8Vector
        last.arraySegments, last.arrayIndices = schema.Uint8VectorT(), schema.Uint8VectorT()
        counts = np.count_nonzero(rows, axis=1)
        last.arraySegments.values = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint8)
        last.arrayIndices.values = np.nonzero(rows)[1].astype(np.uint8)
        sparsity.dimMetadata.append(last)
        stored = self.tensor(values.shape, rows[rows != 0], sparsity)
        dense = self.operator("DENSIFY", [stored], values.shape)
        self.tensors[dense].type = schema.TensorType.FLOAT16
        return self.operator("DEQUANTIZE", [dense], values.shape)

    def integers(self, values):
        values = np.asarray(values, np.int32)
        return self.tensor(values.shape, values)

    def finish(self, inputs, outputs):
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self.tensors, self.operators
        subgraph.inputs, subgraph.outputs = inputs, outputs
        model = schema.ModelT()
        model.version, model.subgraphs = 3, [subgraph]
        model.operatorCodes, model.buffers = self.codes, self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU = schema.ActivationFunctionType.RELU
RELU6 = schema.ActivationFunctionType.RELU6


def small_network():
    """Every operation that the converter knows, on a picture of 9 x 12 pixels and 2 channels."""
    rng = np.random.default_rng(0)
    build = ModelBuilder()
    picture = build.tensor([1, 9, 12, 2])
    padded = build.operator(
        "PAD", [picture, build.integers([[0, 0], [1, 1], [2, 0], [0, 0]])], [1, 11, 14, 2]
    )
    x = build.operator(
        "CONV_2D",
        [padded, build.half(rng.normal(size=(4, 3, 3, 2))), build.half(rng.normal(size=4))],
        [1, 9, 12, 4],
        padding=VALID,
        strideW=1,
        strideH=1,
        fusedActivationFunction=RELU,
    )
    x = build.operator(
        "DEPTHWISE_CONV_2D",
        [x, build.half(rng.normal(size=(1, 3, 3, 4))), build.half(rng.normal(size=4))],
        [1, 5, 6, 4],
        padding=SAME,
        strideW=2,
        strideH=2,
        depthMultiplier=1,
    )
    x = build.operator("PRELU", [x, build.half(rng.normal(size=(1, 1, 4)))], [1, 5, 6, 4])
    kernel = rng.normal(size=(4, 1, 1, 4)) * (rng.random((4, 1, 1, 4)) < 0.6)
    y = build.operator(
        "CONV_2D",
        [x, build.sparse_half(kernel), build.half(rng.normal(size=4))],
        [1, 5, 6, 4],
        padding=SAME,
        strideW=1,
        strideH=1,
    )
    x = build.operator("ADD", [x, y], [1, 5, 6, 4], fusedActivationFunction=RELU)
    x = build.operator(
        "MAX_POOL_2D", [x], [1, 2, 3, 4], padding=VALID, strideW=2, strideH=2, filterWidth=2, filterHeight=2
    )
    x = build.operator("PAD", [x, build.integers([[0, 0], [0, 0], [0, 0], [0, 4]])], [1, 2, 3, 8])
    x = build.operator("RESIZE_BILINEAR", [x, build.integers([4, 6])], [1, 4, 6, 8], halfPixelCenters=True)
    spread = build.operator("DEPTH_TO_SPACE", [x], [1, 8, 12, 2], blockSize=2)
    flat = build.operator("RESHAPE", [spread, build.integers([1, 96, 2])], [1, 96, 2])
    pooled = build.operator(
        "MAX_POOL_2D", [x], [1, 2, 3, 8], padding=SAME, strideW=2, strideH=2, filterWidth=2, filterHeight=2
    )
    coarse = build.operator("RESHAPE", [pooled, build.integers([1, 24, 2])], [1, 24, 2])
    boxes = build.operator("CONCATENATION", [flat, coarse], [1, 120, 2], axis=1)
    clipped = build.operator(
        "CONV_2D",
        [x, build.half(4 * rng.normal(size=(5, 1, 1, 8))), build.half(rng.normal(size=5))],
        [1, 4, 6, 5],
        padding=SAME,
        strideW=1,
        strideH=1,
        fusedActivationFunction=RELU6,
    )
    mean = build.operator("MEAN", [clipped, build.integers([1, 2])], [1, 5])
    numbers = build.operator(
        "FULLY_CONNECTED", [mean, build.half(rng.normal(size=(3, 5))), build.half(rng.normal(size=3))], [1, 3]
    )
    chance = build.operator("LOGISTIC", [numbers], [1, 3])
    return build.finish([picture], [flat, y, boxes, clipped, numbers, chance])


def litert_outputs(flatbuffer, picture):
    runner = interpreter.Interpreter(model_content=flatbuffer)
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], picture)
    runner.invoke()
    return [runner.get_tensor(output["index"]).reshape(-1) for output in runner.get_output_details()]


def torch_outputs(graph, pictures):
    with torch.inference_mode():
        return [
            output.numpy() for output in GraphModule(graph)(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        ]


def test_a_converted_network_computes_what_litert_computes(tmp_path):
    flatbuffer = small_network()
    path = tmp_path / "small.npz"
    convert_tflite(flatbuffer).save(path)
    pictures = np.random.default_rng(1).normal(size=(3, 9, 12, 2)).astype(np.float32)

    found = torch_outputs(Graph.load(path), pictures)

    for picture, *rows in zip(pictures, *found, strict=True):
        for row, expected in zip(rows, litert_outputs(flatbuffer, picture[None]), strict=True):
            assert np.abs(expected).max() > 0.1
            np.testing.assert_allclose(row, expected, atol=1e-4)


def test_conversion_is_deterministic(tmp_path):
    for name in ("first.npz", "second.npz"):
        convert_tflite(small_network()).save(tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_unknown_operators_are_refused_by_name():
    build = ModelBuilder()
    picture = build.tensor([1, 4, 4, 3])
    flatbuffer = build.finish([picture], [build.operator("RELU6", [picture], [1, 4, 4, 3])])
    with pytest.raises(InputError, match="operator RELU6 is not supported"):
        convert_tflite(flatbuffer)


def test_legacy_resize_is_refused():
    build = ModelBuilder()
    picture = build.tensor([1, 4, 4, 3])
    larger = build.operator("RESIZE_BILINEAR", [picture, build.integers([8, 8])], [1, 8, 8, 3])
    with pytest.raises(InputError, match="half-pixel"):
        convert_tflite(build.finish([picture], [larger]))


def test_a_reshaped_picture_is_good_for_nothing_but_concatenation():
    build = ModelBuilder()
    picture = build.tensor([1, 4, 4, 3])
    flat = build.operator("RESHAPE", [picture, build.integers([1, 16, 3])], [1, 16, 3])
    flatbuffer = build.finish([picture], [build.operator("LOGISTIC", [flat], [1, 16, 3])])
    with pytest.raises(InputError, match="RESHAPE before sigmoid is not supported"):
        convert_tflite(flatbuffer)


def test_concatenations_of_channels_are_refused():
    build = ModelBuilder()
    picture = build.tensor([1, 4, 4, 3])
    doubled = build.operator("CONCATENATION", [picture, picture], [1, 4, 4, 6], axis=3)
    with pytest.raises(InputError, match="CONCATENATION of other than reshaped pictures along axis 1"):
        convert_tflite(build.finish([picture], [doubled]))


def test_a_mean_over_channels_is_refused():
    build = ModelBuilder()
    picture = build.tensor([1, 4, 4, 3])
    mean = build.operator("MEAN", [picture, build.integers([3])], [1, 4, 4])
    with pytest.raises(InputError, match="MEAN of other than all pixels"):
        convert_tflite(build.finish([picture], [mean]))


def test_pooling_windows_that_reach_outside_are_refused():
    build = ModelBuilder()
    picture = build.tensor([1, 5, 4, 3])
    pooled = build.operator(
        "MAX_POOL_2D",
        [picture],
        [1, 3, 2, 3],
        padding=SAME,
        strideW=2,
        strideH=2,
        filterWidth=2,
        filterHeight=2,
    )
    with pytest.raises(InputError, match="SAME pooling"):
        convert_tflite(build.finish([picture], [pooled]))


def test_a_wheel_without_the_networks_is_refused(tmp_path):
    wheel = tmp_path / "other-1.0.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(InputError, match=r"other-1\.0\.whl lacks .*face_landmark.*mediapipe 0\.10\.21"):
        convert_wheel(wheel, tmp_path)


def test_the_shipped_graphs_are_those_of_the_shipped_networks():
    assets = files("partfit_mediapipe") / "assets"
    for name in NETWORKS:
        converted = convert_tflite((assets / f"{name}.tflite").read_bytes())
        shipped = Graph.load(assets / f"{name}.npz")
        assert shipped.nodes == converted.nodes
        assert shipped.outputs == converted.outputs
        assert shipped.weights.keys() == converted.weights.keys()
        assert all(np.array_equal(shipped.weights[key], converted.weights[key]) for key in shipped.weights)
