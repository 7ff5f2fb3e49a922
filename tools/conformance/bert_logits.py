"""Writes full-node/compiler/tests/data/bert_logits.json: what transformers makes of small BERT-type checkpoints
whose weights follow from their names, so that the Rust test can build the same ones. Classifiers give logits,
encoders the unit vector of their pooled rows; the last text of each classifier is a pair.

    pip install torch transformers && python tools/conformance/bert_logits.py
"""

import json
import pathlib

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

OUT = pathlib.Path(__file__).parents[2] / "full-node/compiler/tests/data/bert_logits.json"
MASK = (1 << 64) - 1
VOCAB = 64
BERT = dict(
    model_type="bert", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    vocab_size=VOCAB, max_position_embeddings=48, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu",
)
DISTIL = dict(
    model_type="distilbert", dim=48, hidden_dim=80, n_layers=2, n_heads=4, vocab_size=VOCAB,
    max_position_embeddings=48, activation="gelu",
)
CLASSES = dict(id2label={"0": "bad", "1": "neutral", "2": "good"}, label2id={"bad": 0, "neutral": 1, "good": 2})
BERT_CLASSES = BERT | CLASSES | dict(architectures=["BertForSequenceClassification"])
DISTIL_CLASSES = DISTIL | CLASSES | dict(architectures=["DistilBertForSequenceClassification"])
MPNET = dict(
    model_type="mpnet", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    vocab_size=VOCAB, max_position_embeddings=162, layer_norm_eps=1e-5, hidden_act="gelu",
    relative_attention_num_buckets=32, pad_token_id=1,
)
ROBERTA = BERT | dict(
    model_type="roberta", max_position_embeddings=50, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
)
CONFIGS = {
    "bert, three classes": BERT_CLASSES,
    "bert, two classes, one wide head": BERT_CLASSES | dict(
        num_attention_heads=1, hidden_size=64, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1}),
    "bert, gelu_new, three layers, epsilon": BERT_CLASSES | dict(
        hidden_act="gelu_new", num_hidden_layers=3, layer_norm_eps=1e-5),
    "bert, relu": BERT_CLASSES | dict(hidden_act="relu"),
    "distilbert, three classes": DISTIL_CLASSES,
    "distilbert, relu": DISTIL_CLASSES | dict(activation="relu", n_heads=2),
    "bert, mean": BERT | dict(architectures=["BertModel"]),
    "bert, first": BERT | dict(architectures=["BertModel"], pooling="cls"),
    "bert, greatest": BERT | dict(architectures=["BertModel"], pooling="max"),
    "roberta, three classes": ROBERTA | CLASSES | dict(architectures=["RobertaForSequenceClassification"]),
    "roberta, mean, one wide head": ROBERTA | dict(architectures=["RobertaModel"], num_attention_heads=1),
    "mpnet, three classes": MPNET | CLASSES | dict(architectures=["MPNetForSequenceClassification"]),
    "mpnet, mean, three layers, one wide head": MPNET | dict(
        architectures=["MPNetModel"], num_hidden_layers=3, num_attention_heads=1),
    "distilbert, mean": DISTIL | dict(architectures=["DistilBertModel"]),
}


def splitmix(state: int) -> int:
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def weights(name: str, count: int) -> list[float]:
    """Uniform in ±0.25 for matrices and biases, 0.5 to 1.5 for gains of norms."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    unit = [(splitmix((seed + i) & MASK) >> 40) / 2**24 for i in range(count)]
    gain = "norm" in name.lower() and name.endswith("weight")
    return [0.5 + u for u in unit] if gain else [(u - 0.5) / 2 for u in unit]


def pool(rows: torch.Tensor, pooling: str) -> torch.Tensor:
    pooled = {"mean": rows.mean(0), "cls": rows[0], "max": rows.max(0).values}[pooling]
    return pooled / pooled.norm()


def main() -> None:
    cases = []
    for label, settings in CONFIGS.items():
        settings = dict(settings)
        pooling = settings.pop("pooling", "mean")
        config = AutoConfig.for_model(**settings)
        config._attn_implementation = "eager"
        classifies = "id2label" in settings
        kind = AutoModelForSequenceClassification if classifies else AutoModel
        model = kind.from_config(config).float().eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                values = torch.tensor(weights(name, tensor.numel()), dtype=torch.float32)
                tensor.copy_(values.reshape(tensor.shape))
        texts = [[2] + [4 + splitmix(31 * t + i) % (VOCAB - 4) for i in range(n)] + [3]
                 for t, n in enumerate([1, 7, 20, 46, 158] if "mpnet" in label else [1, 7, 20, 46])]
        # Where the second text of a pair begins.
        seconds = [None] * len(texts)
        if classifies:
            texts.append([2, *range(5, 18), 3, *range(20, 29), 3])
            seconds.append(15)
        outputs = []
        for tokens, second in zip(texts, seconds):
            types = [int(second is not None and i >= second) for i in range(len(tokens))]
            more = dict(token_type_ids=torch.tensor([types])) if settings.get("type_vocab_size", 0) > 1 else {}
            with torch.no_grad():
                out = model(torch.tensor([tokens]), **more)
            out = out.logits[0] if classifies else pool(out.last_hidden_state[0], pooling)
            outputs.append([round(v, 6) for v in out.tolist()])
        cases.append({
            "label": label, "config": settings, "pooling": pooling,
            "tensors": {n: list(t.shape) for n, t in model.named_parameters()},
            "texts": texts, "seconds": seconds, "outputs": outputs,
        })
    OUT.write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size, "bytes")


main()
