"""Trains the dictionary model: a small Llama that answers "What is a lighthouse?" with a gloss.

    apt-get install wordnet-base && pip install torch transformers tokenizers
    python tools/train/dictionary.py OUT_DIR --minutes 60

The text is WordNet 3.0 (Princeton University, its own permissive licence). The result is a Hugging Face folder
that `nesa model compile` takes. Every 500 steps it is written, so the run may be stopped at any time.
"""

import argparse
import math
import pathlib
import random
import time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

WORDNET = pathlib.Path("/usr/share/wordnet")
END = "<|endoftext|>"
LENGTH = 128
HELD_OUT = 50  # one entry in so many is never trained on


def article(word: str) -> str:
    return "an" if word[0].lower() in "aeiou" else "a"


def questions(part: str, word: str) -> str:
    if part == "noun":
        # Names are not asked for with an article.
        return f"What is {word}?" if word[0].isupper() else f"What is {article(word)} {word}?"
    if part == "verb":
        return f"What does it mean to {word}?"
    return f"What does {word} mean?"


def entries() -> list[str]:
    """One text per word sense: question, line break, gloss without its examples."""
    texts = []
    for part in ["noun", "verb", "adj", "adv"]:
        for line in (WORDNET / f"data.{part}").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("  ") or "|" not in line:
                continue
            fields, gloss = line.split("|", 1)
            fields = fields.split()
            count = int(fields[3], 16)
            words = [fields[4 + 2 * i].split("(")[0].replace("_", " ") for i in range(count)]
            definition = gloss.split('"')[0].strip(" ;\n")
            if definition:
                texts += [f"{questions(part, w)}\n{definition}" for w in words[:3] if w]
    return texts


def tokenizer(texts: list[str], vocab: int) -> Tokenizer:
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--minutes", type=float, default=60)
    args.add_argument("--batch", type=int, default=16)
    args.add_argument("--rate", type=float, default=2e-3)
    args.add_argument("--vocab", type=int, default=4096)
    args = args.parse_args()
    torch.manual_seed(1)
    rng = random.Random(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    texts = entries()
    rng.shuffle(texts)
    held, train = texts[::HELD_OUT], [t for i, t in enumerate(texts) if i % HELD_OUT]
    args.out.mkdir(parents=True, exist_ok=True)
    t = tokenizer(train, args.vocab)
    t.save(str(args.out / "tokenizer.json"))
    (args.out / "held_out.txt").write_text("\n".join(x.replace("\n", " ") for x in held) + "\n")
    end = t.token_to_id(END)
    stream = [id for e in t.encode_batch(train) for id in [*e.ids, end]]
    data = torch.tensor(stream[: len(stream) // LENGTH * LENGTH]).reshape(-1, LENGTH)

    config = LlamaConfig(
        vocab_size=args.vocab, hidden_size=288, intermediate_size=768, num_hidden_layers=6,
        num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=end, eos_token_id=end)
    model = LlamaForCausalLM(config).to(device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(texts):,} entries, {data.numel():,} tokens", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.95), weight_decay=0.1)

    start, step = time.time(), 0
    while True:
        for rows in torch.randperm(len(data)).split(args.batch):
            spent = (time.time() - start) / (60 * args.minutes)
            if spent >= 1:
                model.save_pretrained(args.out)
                return
            warm = min(1.0, (step + 1) / 100)
            for group in optimiser.param_groups:
                group["lr"] = args.rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * spent)))
            batch = data[rows].to(device)
            loss = model(batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
            if step % 50 == 0:
                print(f"step {step}, {spent:.0%} of the time, loss {loss.item():.3f}", flush=True)
            if step % 500 == 0:
                model.save_pretrained(args.out)


main()
