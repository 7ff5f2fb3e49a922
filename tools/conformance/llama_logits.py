"""Writes full-node/compiler/tests/data/llama_logits.json: logits that transformers computes for small
checkpoints whose weights follow from their names, so that the Rust test can build the same ones.

    pip install torch transformers && python tools/conformance/llama_logits.py
"""

import json
import pathlib

import torch
from transformers import AutoConfig, AutoModelForCausalLM

OUT = pathlib.Path(__file__).parents[2] / "full-node/compiler/tests/data/llama_logits.json"
MASK = (1 << 64) - 1
BASE = dict(
    hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, vocab_size=64, max_position_embeddings=256, rms_norm_eps=1e-5,
    tie_word_embeddings=False, hidden_act="silu",
)
CONFIGS = {
    "llama": dict(model_type="llama", rope_theta=10000.0),
    "llama, tied, wide heads": dict(model_type="llama", head_dim=16, tie_word_embeddings=True, rope_theta=500000.0),
    "llama, biased": dict(model_type="llama", attention_bias=True, num_key_value_heads=4, rope_theta=10000.0),
    "llama 3.1 scaling": dict(
        model_type="llama", num_key_value_heads=1, rope_theta=500000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=32)),
    "llama, linear scaling": dict(model_type="llama", rope_theta=10000.0, rope_scaling=dict(rope_type="linear", factor=4.0)),
    "llama, yarn": dict(
        model_type="llama", rope_theta=10000.0,
        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)),
    "mistral, window": dict(model_type="mistral", sliding_window=8, rope_theta=10000.0),
    "qwen2": dict(model_type="qwen2", rope_theta=1000000.0, use_sliding_window=False),
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
    return [0.5 + u for u in unit] if "norm" in name else [(u - 0.5) / 2 for u in unit]


def main() -> None:
    cases = []
    for label, overrides in CONFIGS.items():
        settings = BASE | overrides
        config = AutoConfig.for_model(**settings)
        config._attn_implementation = "eager"
        model = AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                values = torch.tensor(weights(name, tensor.numel()), dtype=torch.float32)
                tensor.copy_(values.reshape(tensor.shape))
        tokens = [splitmix(7 * i) % config.vocab_size for i in range(40)]
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
        rows = [0, 1, 17, 39]
        cases.append({
            "label": label,
            "config": settings,
            "tensors": {n: list(t.shape) for n, t in model.named_parameters()},
            "tokens": tokens,
            "logits": {str(r): [round(v, 5) for v in logits[r].tolist()] for r in rows},
        })
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size, "bytes")


main()
