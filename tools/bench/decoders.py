#!/usr/bin/env python3
"""Writes Llama checkpoints with random weights, for benchmarks of decoding: Hugging Face's files and GGUF.

    python3 -m venv .venv && .venv/bin/pip install -r tools/bench/decoders.txt
    .venv/bin/python tools/bench/decoders.py OUT_DIR

Writes, for each shape, OUT_DIR/NAME with config.json, tokenizer.json, model.safetensors, f32.gguf, q8_0.gguf.
The same seed gives the same weights; llama.cpp itself quantises them to Q8_0.
"""
import ctypes
import json
import pathlib
import sys

import numpy as np

SEED = 20
# Names, and what differs between them: the second is the configuration of SmolLM-135M.
SHAPES = {
    "llama-8m": dict(
        hidden_size=288, intermediate_size=768, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=6, vocab_size=4096, max_position_embeddings=2048,
    ),
    "llama-135m": dict(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=49152, max_position_embeddings=2048,
    ),
}
COMMON = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", attention_bias=False,
    mlp_bias=False, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, bos_token_id=0,
    eos_token_id=0, initializer_range=0.02, torch_dtype="float32",
)


def weights(c: dict) -> dict[str, np.ndarray]:
    """Tensors by Hugging Face's names; `[out, in]` each, as PyTorch keeps them."""
    rng = np.random.default_rng(SEED)
    d, ff = c["hidden_size"], c["intermediate_size"]
    kv = d // c["num_attention_heads"] * c["num_key_value_heads"]
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32) * np.float32(c["initializer_range"])
    gain = lambda: (1 + rng.standard_normal(d, dtype=np.float32) * np.float32(0.1)).astype(np.float32)
    out = {"model.embed_tokens.weight": normal(c["vocab_size"], d), "model.norm.weight": gain()}
    for layer in range(c["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        out[p + "input_layernorm.weight"] = gain()
        out[p + "post_attention_layernorm.weight"] = gain()
        for name, rows in [("q", d), ("k", kv), ("v", kv), ("o", d)]:
            out[p + f"self_attn.{name}_proj.weight"] = normal(rows, d)
        out[p + "mlp.gate_proj.weight"] = normal(ff, d)
        out[p + "mlp.up_proj.weight"] = normal(ff, d)
        out[p + "mlp.down_proj.weight"] = normal(d, ff)
    return out


def tokenizer(vocab: int) -> dict:
    """A byte-level BPE without merges; tokens beyond the bytes only fill the vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    words = ["<|endoftext|>", *letters]
    words += [f"<{i}>" for i in range(len(words), vocab)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": 0, "content": words[0], **flags}],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {w: i for i, w in enumerate(words)}, "merges": [],
        },
    }


def write_gguf(c: dict, tensors: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """llama.cpp's names, and its order of the channels that rotate: neighbours form a pair."""
    import gguf

    heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    w = gguf.GGUFWriter(path, "llama")
    w.add_vocab_size(c["vocab_size"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(c["hidden_size"] // heads)
    w.add_rope_freq_base(c["rope_theta"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    # A vocabulary for programs that detokenise; tokens are given, so its one merge is never used.
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("default")
    words = list(tokenizer(c["vocab_size"])["model"]["vocab"])
    w.add_token_list(words)
    w.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(words) - 1))
    w.add_token_merges(["! !"])
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    for name, tensor in tensors.items():
        if name == "model.embed_tokens.weight":
            to = "token_embd.weight"
        elif name == "model.norm.weight":
            to = "output_norm.weight"
        else:
            _, _, layer, rest = name.split(".", 3)
            rest = rest.removesuffix(".weight")
            to = f"blk.{layer}.{names[rest]}.weight"
            rotated = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}.get(rest)
            if rotated:
                n, k = tensor.shape
                tensor = tensor.reshape(rotated, 2, n // rotated // 2, k).swapaxes(1, 2).reshape(n, k)
        w.add_tensor(to, np.ascontiguousarray(tensor))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def quantise(source: pathlib.Path, out: pathlib.Path) -> None:
    """f32 to Q8_0 by llama.cpp's own function."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    params.nthread = 1
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
    if code != 0:
        sys.exit(f"llama.cpp could not quantise {source}: {code}")


def main():
    out = pathlib.Path(sys.argv[1])
    from safetensors.numpy import save_file

    for name, shape in SHAPES.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        config = COMMON | shape
        tensors = weights(config)
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer(config["vocab_size"])))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        if "--hf-only" in sys.argv:
            continue
        write_gguf(config, tensors, folder / "f32.gguf")
        quantise(folder / "f32.gguf", folder / "q8_0.gguf")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
