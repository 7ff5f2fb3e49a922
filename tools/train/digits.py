"""Trains the demo classifier on scikit-learn's bundled digits, and writes what `nesa model compile` and
`nesa model eval` need: models/digits/{digits.onnx, calibration.npy, held_out.npy, held_out_labels.npy}, and logits
that onnxruntime computes, which a test compares with.

    pip install torch scikit-learn onnx onnxruntime && python tools/train/digits.py
    nesa model compile models/digits/digits.onnx --samples models/digits/calibration.npy --max-value 16 --out models/digits.nesa

The split is stratified by a fixed seed: a fifth of the 1,797 images is held out, 256 of the others calibrate.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

ROOT = pathlib.Path(__file__).parents[2]
OUT = ROOT / "models/digits"
LOGITS = ROOT / "full-node/compiler/tests/data/digits_logits.json"
SEED = 7
EPOCHS = 120
MAX_VALUE = 16


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10),
    )


def train(images: np.ndarray, labels: np.ndarray) -> nn.Sequential:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = network()
    x = torch.tensor(images, dtype=torch.float32)[:, None] / MAX_VALUE
    y = torch.tensor(labels, dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def export(model: nn.Sequential) -> bytes:
    """The network by hand, so that the file depends on nothing but the weights."""
    nodes, tensors, last = [], [], "image"

    def add(op: str, inputs: list[str], **attributes) -> str:
        name = f"{op.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def parameter(name: str, value: torch.Tensor) -> str:
        tensors.append(numpy_helper.from_array(value.detach().numpy(), name))
        return name

    for i, layer in enumerate(model):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            inputs = [last, parameter(f"{i}.weight", layer.weight), parameter(f"{i}.bias", layer.bias)]
            if isinstance(layer, nn.Linear):
                last = add("Gemm", inputs, transB=1)
            else:
                last = add("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        elif isinstance(layer, nn.ReLU):
            last = add("Relu", [last])
        elif isinstance(layer, nn.MaxPool2d):
            last = add("MaxPool", [last], kernel_shape=[2, 2], strides=[2, 2])
        else:
            last = add("Flatten", [last], axis=1)
    last = add("Softmax", [last], axis=1)
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 10])], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def main() -> None:
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    rest, held_out, rest_labels, held_out_labels = train_test_split(
        images, labels, test_size=0.2, random_state=SEED, stratify=labels)
    model = train(rest, rest_labels)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "digits.onnx").write_bytes(export(model))
    np.save(OUT / "calibration.npy", rest[:256])
    np.save(OUT / "held_out.npy", held_out)
    np.save(OUT / "held_out_labels.npy", held_out_labels)

    session = onnxruntime.InferenceSession(str(OUT / "digits.onnx"))
    x = held_out.astype(np.float32)[:, None] / MAX_VALUE
    probabilities = session.run(None, {"image": x})[0]
    accuracy = (probabilities.argmax(1) == held_out_labels).mean()
    with torch.no_grad():
        logits = model(torch.tensor(x)).numpy()
    assert (logits.argmax(1) == probabilities.argmax(1)).all()
    LOGITS.write_text(json.dumps({"probabilities": [[round(float(v), 6) for v in row] for row in probabilities[:40]]}) + "\n")
    print(f"{len(rest)} to train, {len(held_out)} held out, accuracy {accuracy:.4f}")


main()
