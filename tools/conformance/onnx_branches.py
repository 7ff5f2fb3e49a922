"""Writes full-node/compiler/tests/data/branches.{onnx,json}: a small classifier with residual sums, joined channels,
groups, dilations, padding by name and normalisations (some that follow a convolution and some that do not), and the
logits that onnxruntime gives for some images.

    pip install onnx onnxruntime numpy && python tools/conformance/onnx_branches.py
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).parents[2] / "full-node/compiler/tests/data"
RANDOM = np.random.default_rng(7)
NODES, TENSORS = [], []


def constant(name, values):
    TENSORS.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
    return name


def node(operator, inputs, **attributes):
    name = f"{operator}{len(NODES)}"
    NODES.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
    return name


def conv(x, outputs, inputs, kernel, groups=1, **attributes):
    shape = (outputs, inputs // groups, *kernel)
    scale = (2 / np.prod(shape[1:])) ** 0.5
    weight = constant(f"w{len(NODES)}", RANDOM.normal(0, scale, shape))
    bias = constant(f"b{len(NODES)}", RANDOM.normal(0, 0.1, outputs))
    return node("Conv", [x, weight, bias], group=groups, kernel_shape=kernel, **attributes)


def norm(x, channels):
    n = len(NODES)
    parts = [constant(f"s{n}", RANDOM.uniform(0.5, 1.5, channels)), constant(f"t{n}", RANDOM.normal(0, 0.1, channels)),
             constant(f"m{n}", RANDOM.normal(0, 0.1, channels)), constant(f"v{n}", RANDOM.uniform(0.5, 1.5, channels))]
    return node("BatchNormalization", [x, *parts], epsilon=1e-3)


def main():
    x = node("Relu", [norm(conv("image", 8, 3, (3, 3), pads=[1, 1, 1, 1]), 8)])
    # A residual block with groups.
    y = node("Relu", [norm(conv(x, 8, 8, (3, 3), groups=4, auto_pad="SAME_UPPER"), 8)])
    y = norm(conv(y, 8, 8, (3, 3), groups=8, pads=[1, 1, 1, 1]), 8)
    x = node("Relu", [node("Add", [x, y])])
    # Three ways that are joined, one dilated, one strided and padded below.
    a = conv(x, 4, 8, (1, 1))
    b = conv(x, 5, 8, (3, 2), dilations=[2, 3], pads=[2, 1, 2, 2])
    c = node("MaxPool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = node("Concat", [a, b, c], axis=1)
    # A normalisation that follows no convolution, and one whose convolution is looked at twice.
    x = node("Relu", [norm(x, 17)])
    down = conv(x, 12, 17, (3, 3), strides=[2, 2], auto_pad="SAME_LOWER")
    x = node("Sum", [node("Relu", [norm(down, 12)]), down, conv(x, 12, 17, (1, 1), strides=[2, 2])])
    x = node("AveragePool", [x], kernel_shape=[2, 2])
    x = node("Flatten", [node("GlobalAveragePool", [x])])
    x = node("MatMul", [x, constant("dense", RANDOM.normal(0, 0.5, (12, 10)))])
    x = node("Add", [constant("bias", RANDOM.normal(0, 0.1, 10)), x])
    # Two dense layers with a sum around them.
    y = node("Gemm", [node("Relu", [x]), constant("g", RANDOM.normal(0, 0.3, (10, 10))), constant("h", RANDOM.normal(0, 0.1, 10))])
    x = node("Add", [y, x])
    x = node("Gemm", [x, constant("last", RANDOM.normal(0, 0.5, (6, 10)))], transB=1)
    graph = helper.make_graph(
        NODES, "branches", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 10, 9])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", 6])], TENSORS)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    images = RANDOM.integers(0, 256, (24, 3, 10, 9), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": images.astype(np.float32) / 255})[0]
    onnx.save(model, OUT / "branches.onnx")
    case = {"images": images.reshape(len(images), -1).tolist(), "logits": [[round(float(v), 6) for v in row] for row in logits]}
    (OUT / "branches.json").write_text(json.dumps(case, separators=(",", ":")) + "\n")
    print(len(NODES), "nodes", (OUT / "branches.onnx").stat().st_size, "bytes")


main()
