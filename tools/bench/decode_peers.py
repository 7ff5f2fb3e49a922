#!/usr/bin/env python3
"""Times a peer at reading a prompt and at writing after it; prints one JSON object.

    decode_peers.py (llama.cpp|torch) FOLDER PROMPT WRITTEN ROUNDS THREADS

FOLDER is one that decoders.py wrote. Tokens are given, not sampled: both peers and the exact engine
compute the logits of the last token of the prompt and of each token written, and nothing else.
"""
import json
import pathlib
import sys
import time


def token(i: int, vocab: int) -> int:
    return i * 7919 % vocab


def llama_cpp(folder: pathlib.Path, prompt: int, written: int, threads: int):
    import ctypes

    import llama_cpp as c

    quiet = c.llama_log_callback(lambda *_: None)
    c.llama_log_set(quiet, ctypes.c_void_p(0))
    c.llama_backend_init()
    load = c.llama_model_default_params()
    # On processors with AMX, Q8_0 in AMX buffers crashes in llama-cpp-python 0.3.36: its other kernels serve there.
    cpu = pathlib.Path("/proc/cpuinfo")
    load.use_extra_bufts = not (cpu.exists() and "amx_int8" in cpu.read_text())
    model = c.llama_model_load_from_file(str(folder / "q8_0.gguf").encode(), load)
    vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    params = c.llama_context_default_params()
    params.n_ctx = prompt + written
    params.n_batch = params.n_ubatch = max(prompt, 32)
    params.n_threads = params.n_threads_batch = threads
    context = c.llama_init_from_model(model, params)

    def feed(first: int, count: int):
        tokens = (c.llama_token * count)(*(token(first + i, vocab) for i in range(count)))
        if c.llama_decode(context, c.llama_batch_get_one(tokens, count)) != 0:
            sys.exit("llama_decode failed")
        # Waits for the result, wherever it is computed.
        assert c.llama_get_logits_ith(context, -1)

    def reset():
        c.llama_memory_clear(c.llama_get_memory(context), True)

    read = lambda: feed(0, prompt)
    write = lambda i: feed(prompt + i, 1)
    return reset, read, write, quiet


def torch(folder: pathlib.Path, prompt: int, written: int, threads: int):
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    vocab, state = model.config.vocab_size, {}

    def feed(first: int, count: int):
        ids = torch.tensor([[token(first + i, vocab) for i in range(count)]])
        out = model(ids, past_key_values=state.get("cache"), use_cache=True, logits_to_keep=1)
        state["cache"] = out.past_key_values

    return state.clear, lambda: feed(0, prompt), lambda i: feed(prompt + i, 1), None


def main():
    peer, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    prompt, written, rounds, threads = map(int, sys.argv[3:7])
    make = {"llama.cpp": llama_cpp, "torch": torch}[peer]
    reset, read, write, _alive = make(folder, prompt, written, threads)
    reading, writing = [], []
    for _ in range(rounds):
        reset()
        start = time.perf_counter()
        read()
        reading.append(time.perf_counter() - start)
        start = time.perf_counter()
        for i in range(written):
            write(i)
        writing.append(time.perf_counter() - start)
    print(json.dumps({
        "prompt": prompt, "written": written, "threads": threads,
        "prefill_tokens_per_second": prompt / min(reading),
        "decode_tokens_per_second": written / min(writing),
    }))


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main()
