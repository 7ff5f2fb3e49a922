"""Writes the small ONNX graphs that the float lane is tested with.

    python tools/float/models.py models/float

Weights are random with a fixed seed: what is tested is that graphs run, agree and are told apart, not
what they know. Needs torch and onnx (PyPI; BSD-3-Clause and Apache-2.0).
"""

import math
import sys
from pathlib import Path

import onnx
import torch
from torch import nn


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
        )


class Cnn(nn.Module):
    """Convolutions with a residual branch and a depthwise one, batch norm, pooling."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.last = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2), nn.SiLU())
        self.head = nn.Linear(32, 10)

    def forward(self, image):
        x = self.first(image)
        x = x + self.point(torch.relu(self.deep(x)))
        return self.head(self.last(x).mean((2, 3))).softmax(-1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.after = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x, bias):
        batch, tokens, width = x.shape
        split = lambda t: t.reshape(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
        q, k, v = (split(t) for t in self.qkv(self.before(x)).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads) + bias
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(mixed)
        return x + self.down(nn.functional.gelu(self.up(self.after(x))))


class Encoder(nn.Module):
    """Two layers of a transformer's encoder with a mask; mean of the tokens, normalised."""

    def __init__(self, vocabulary=97, width=40, tokens=64):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids) + self.place.weight[: input_ids.shape[1]]
        mask = attention_mask.to(x.dtype)
        bias = (1 - mask[:, None, None, :]) * -1e4
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x) * mask[:, :, None]
        mean = x.sum(1) / mask.sum(1, keepdim=True)
        return mean / mean.norm(dim=-1, keepdim=True)


def write(model, inputs, path, names, dynamic):
    model.eval()
    torch.onnx.export(
        model, inputs, path, input_names=names, output_names=["output"], dynamic_axes=dynamic,
        opset_version=17, dynamo=False,
    )
    graph = onnx.load(path)
    graph.producer_name, graph.producer_version = "tools/float/models.py", ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
    print(path, Path(path).stat().st_size, "bytes")


def main(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(20)
    write(Mlp(), torch.zeros(1, 32), folder / "mlp.onnx", ["x"], {"x": {0: "batch"}})
    cnn = Cnn()
    with torch.no_grad():
        for _ in range(8):  # gives the batch norm its statistics
            cnn.train()(torch.randn(16, 3, 16, 16))
    write(cnn, torch.zeros(1, 3, 16, 16), folder / "cnn.onnx", ["image"], {"image": {0: "batch"}})
    ids = torch.zeros(1, 8, dtype=torch.int64)
    axes = {0: "batch", 1: "tokens"}
    write(
        Encoder(), (ids, torch.ones_like(ids)), folder / "encoder.onnx",
        ["input_ids", "attention_mask"], {"input_ids": axes, "attention_mask": axes},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
