#!/usr/bin/env python3
"""Writes all-MiniLM-L6-v2 as ONNX, in f32 and with int8 weights, for benchmarks against our engine.

The same safetensors file the exact model is compiled from; no framework needed.

    python3 -m venv .venv && .venv/bin/pip install numpy onnx onnxruntime safetensors
    .venv/bin/python tools/bench/minilm_onnx.py MODEL_DIR OUT_DIR

Writes OUT_DIR/minilm-f32.onnx and OUT_DIR/minilm-int8.onnx (dynamic quantisation, per channel).
Inputs: `input_ids` [batch, tokens] int64, `attention_mask` [batch, tokens] int64.
Output: `embedding` [batch, 384] f32, mean-pooled and of unit length.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


def build(folder: pathlib.Path) -> onnx.ModelProto:
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head = hidden // heads
    nodes, constants = [], []

    def const(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(kind, *inputs, **attributes):
        out = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def weight(name):
        return const(name, weights[name].astype(np.float32))

    def linear(x, name):
        w = const(f"{name}.weight.T", weights[f"{name}.weight"].astype(np.float32).T)
        return op("Add", op("MatMul", x, w), weight(f"{name}.bias"))

    def norm(x, name):
        return op("LayerNormalization", x, weight(f"{name}.weight"), weight(f"{name}.bias"),
                  axis=-1, epsilon=config["layer_norm_eps"])

    i64 = lambda name, values: const(name, np.array(values, dtype=np.int64))
    f32 = lambda name, value: const(name, np.array(value, dtype=np.float32))
    last, split, merge = i64("axis_last", [-1]), i64("split", [0, 0, heads, head]), i64("merge", [0, 0, hidden])

    tokens = op("Shape", "input_ids", start=1, end=2)
    x = op("Gather", weight("embeddings.word_embeddings.weight"), "input_ids")
    positions = weight("embeddings.position_embeddings.weight")
    x = op("Add", x, op("Slice", positions, i64("first", [0]), tokens, i64("axis_0", [0])))
    x = op("Add", x, const("type0", weights["embeddings.token_type_embeddings.weight"][0].astype(np.float32)))
    x = norm(x, "embeddings.LayerNorm")

    mask = op("Cast", "attention_mask", to=TensorProto.FLOAT)
    bias = op("Mul", op("Sub", f32("f_one", 1.0), mask), f32("f_low", -1e9))
    bias = op("Unsqueeze", bias, i64("axes_12", [1, 2]))

    for layer in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{layer}"
        q, k, v = (op("Reshape", linear(x, f"{p}.attention.self.{n}"), split) for n in ("query", "key", "value"))
        q = op("Transpose", q, perm=[0, 2, 1, 3])
        k = op("Transpose", k, perm=[0, 2, 3, 1])
        v = op("Transpose", v, perm=[0, 2, 1, 3])
        scores = op("Add", op("Mul", op("MatMul", q, k), f32(f"scale_{layer}", head ** -0.5)), bias)
        mixed = op("MatMul", op("Softmax", scores, axis=-1), v)
        mixed = op("Reshape", op("Transpose", mixed, perm=[0, 2, 1, 3]), merge)
        x = norm(op("Add", linear(mixed, f"{p}.attention.output.dense"), x), f"{p}.attention.output.LayerNorm")
        h = linear(x, f"{p}.intermediate.dense")
        erf = op("Erf", op("Mul", h, f32(f"rsqrt2_{layer}", 0.5 ** 0.5)))
        h = op("Mul", op("Mul", h, op("Add", erf, "f_one")), f32(f"half_{layer}", 0.5))
        x = norm(op("Add", linear(h, f"{p}.output.dense"), x), f"{p}.output.LayerNorm")

    m = op("Unsqueeze", mask, last)
    pooled = op("Div", op("ReduceSum", op("Mul", x, m), i64("axis_1", [1]), keepdims=0),
                op("ReduceSum", m, "axis_1", keepdims=0))
    nodes.append(helper.make_node("LpNormalization", [pooled], ["embedding"], axis=-1, p=2))

    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        nodes, "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", hidden])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def main():
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    path = out / "minilm-f32.onnx"
    onnx.save(build(folder), path)
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(path, out / "minilm-int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    for p in sorted(out.glob("minilm-*.onnx")):
        print(p.name, p.stat().st_size)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
