"""Writes full-node/compiler/tests/data/published/: for each of four published decoders a folder as transformers'
own `save_pretrained` writes it (config.json, weights in several files with their index), with the settings that
the model is published with and only layers, vocabulary and widths cut down, and the logits that transformers
computes from that folder.

    pip install torch transformers && python tools/conformance/llama_published.py

Heads keep their width and their number per key and value head; positions their base, stretching and window.
"""

import json
import pathlib
import shutil

import torch
from transformers import AutoConfig, AutoModelForCausalLM

OUT = pathlib.Path(__file__).parents[2] / "full-node/compiler/tests/data/published"
TOKENS = 160
ROWS = [0, 1, 80, 159]

# config.json as published, what has no part in the computation left out.
PUBLISHED = {
    "SmolLM-135M": dict(
        model_type="llama", attention_bias=False, attention_dropout=0.0, bos_token_id=0, eos_token_id=0,
        hidden_act="silu", hidden_size=576, initializer_range=0.02, intermediate_size=1536,
        max_position_embeddings=2048, mlp_bias=False, num_attention_heads=9, num_hidden_layers=30,
        num_key_value_heads=3, pretraining_tp=1, rms_norm_eps=1e-05, rope_scaling=None, rope_theta=10000.0,
        tie_word_embeddings=True, use_cache=True, vocab_size=49152),
    "Qwen2.5-0.5B": dict(
        model_type="qwen2", attention_dropout=0.0, bos_token_id=151643, eos_token_id=151643, hidden_act="silu",
        hidden_size=896, initializer_range=0.02, intermediate_size=4864, max_position_embeddings=32768,
        max_window_layers=24, num_attention_heads=14, num_hidden_layers=24, num_key_value_heads=2,
        rms_norm_eps=1e-06, rope_theta=1000000.0, sliding_window=32768, tie_word_embeddings=True, use_cache=True,
        use_mrope=False, use_sliding_window=False, vocab_size=151936),
    "Mistral-7B-v0.1": dict(
        model_type="mistral", bos_token_id=1, eos_token_id=2, hidden_act="silu", hidden_size=4096,
        initializer_range=0.02, intermediate_size=14336, max_position_embeddings=32768, num_attention_heads=32,
        num_hidden_layers=32, num_key_value_heads=8, rms_norm_eps=1e-05, rope_theta=10000.0, sliding_window=4096,
        tie_word_embeddings=False, use_cache=True, vocab_size=32000),
    "Llama-3.2-1B": dict(
        model_type="llama", attention_bias=False, attention_dropout=0.0, bos_token_id=128000, eos_token_id=128001,
        head_dim=64, hidden_act="silu", hidden_size=2048, initializer_range=0.02, intermediate_size=8192,
        max_position_embeddings=131072, mlp_bias=False, num_attention_heads=32, num_hidden_layers=16,
        num_key_value_heads=8, pretraining_tp=1, rms_norm_eps=1e-05,
        rope_scaling=dict(factor=32.0, high_freq_factor=4.0, low_freq_factor=1.0,
                          original_max_position_embeddings=8192, rope_type="llama3"),
        rope_theta=500000.0, tie_word_embeddings=True, use_cache=True, vocab_size=128256),
}


def cut(published: dict) -> dict:
    """The same settings for a model of a few thousand weights: one key and value head of the published width,
    with as many query heads as each has. transformers wants a width that these divide."""
    width = published.get("head_dim", published["hidden_size"] // published["num_attention_heads"])
    ratio = published["num_attention_heads"] // published["num_key_value_heads"]
    layers = 1 if width > 64 else 2
    return published | dict(
        hidden_size=ratio * (16 // ratio), intermediate_size=40, num_hidden_layers=layers, num_attention_heads=ratio,
        num_key_value_heads=1, head_dim=width, vocab_size=96, bos_token_id=0, eos_token_id=1)


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    total = 0
    for seed, (name, published) in enumerate(PUBLISHED.items()):
        folder = OUT / name
        settings = cut(published)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings)).to(torch.bfloat16)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter, tensor in model.named_parameters():
                values = torch.randn(tensor.shape, generator=generator) * 0.2
                tensor.copy_(1 + values if "norm" in parameter else values)
        model.save_pretrained(folder, max_shard_size="16KB")
        # Read back as anybody would, and computed in floats as this project's yardstick does.
        again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        tokens = torch.randint(0, settings["vocab_size"], (TOKENS,), generator=generator)
        with torch.no_grad():
            logits = again(tokens[None]).logits[0]
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "logits.json").write_text(json.dumps({
            "published": published,
            "tokens": tokens.tolist(),
            "logits": {str(row): [round(v, 5) for v in logits[row].tolist()] for row in ROWS},
        }, separators=(",", ":")) + "\n")
        size = sum(file.stat().st_size for file in folder.iterdir())
        total += size
        print(name, sorted(file.name for file in folder.iterdir()), size, "bytes")
    print(total, "bytes in all")


main()
