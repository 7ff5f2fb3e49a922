"""Trains the dictionary model: a small Llama that answers "What is a lighthouse?" with a gloss.

    apt-get install wordnet-base && pip install torch transformers tokenizers
    python tools/train/dictionary.py OUT_DIR --minutes 60
    python tools/train/dictionary.py OUT_DIR --minutes 30 --resume --only common --rate 1.5e-3
    python tools/train/dictionary.py OUT_DIR --minutes 20 --resume --only things --rate 1e-3 --batch 32

The text is WordNet 3.0 (Princeton University, its own permissive licence): of each word, as each part of speech, the
first sense; of names and phrases those that occur in WordNet's tagged texts. The first run learns the language of
definitions from all of them, the second the common words (those that WordNet's own definitions use), the third what so
small a model can keep: common nouns for things, such as animals and tools. The result is a Hugging Face folder that `nesa model compile` takes. It is written every 500 steps, so
the run may be stopped at any time, and goes on where it stopped with `--resume`.
"""

import argparse
import collections
import json
import math
import pathlib
import random
import re
import time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

WORDNET = pathlib.Path("/usr/share/wordnet")
END = "<|endoftext|>"
LENGTH = 64  # tokens of an entry at most; longer glosses are cut
HELD_OUT = 50  # one entry in so many is never trained on
COMMON = 6  # glosses that use a common word
# WordNet's files of nouns for animals, artefacts, body, food, natural objects, plants and substances (lexnames(5)).
THINGS = {"05", "06", "08", "13", "17", "20", "27"}
# Each question stands alone: the last message is asked, what came before it is not seen.
TEMPLATE = "{{ bos_token }}{{ messages[-1]['content'] | trim }}{{ '\\n' }}"


def article(word: str) -> str:
    return "an" if word[0].lower() in "aeiou" else "a"


def questions(part: str, word: str) -> str:
    if part == "noun":
        # Names are not asked for with an article.
        return f"What is {word}?" if word[0].isupper() else f"What is {article(word)} {word}?"
    if part == "verb":
        return f"What does it mean to {word}?"
    return f"What does {word} mean?"


def entries() -> list[tuple[str, str, set[str]]]:
    """Question, gloss without its examples, and which of the smaller sets the word is in."""
    uses = collections.Counter()
    for part in ["noun", "verb", "adj", "adv"]:
        for line in (WORDNET / f"data.{part}").read_text(encoding="utf-8", errors="replace").splitlines():
            if not line.startswith("  ") and "|" in line:
                uses.update(set(re.findall("[a-z]+", line.split("|", 1)[1].lower())))
    texts = []
    for part in ["noun", "verb", "adj", "adv"]:
        glosses = {}
        for line in (WORDNET / f"data.{part}").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("  ") or "|" not in line:
                continue
            fields, gloss = line.split("|", 1)
            fields = fields.split()
            written = {}
            for i in range(int(fields[3], 16)):
                word = fields[4 + 2 * i].split("(")[0].replace("_", " ")
                written[word.lower()] = word
            glosses[fields[0]] = (gloss.split('"')[0].strip(" ;\n"), written, fields[1])
        for line in (WORDNET / f"index.{part}").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("  "):
                continue
            fields = line.split()
            word = fields[0].replace("_", " ")
            senses = int(fields[2])
            tagged = int(fields[-senses - 1])
            gloss, written, topic = glosses[fields[-senses]]
            word = written.get(word, word)
            # Single words, and the names and phrases that texts use: as much as so small a model can keep.
            if gloss and word[0].isalpha() and (tagged or (word.islower() and " " not in word)):
                common = {"common"} if uses[word] >= COMMON else set()
                things = {"things"} if common and topic in THINGS else set()
                texts.append((questions(part, word), gloss, common | things))
    return texts


def tokenizer(texts: list[str], vocab: int) -> Tokenizer:
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    end = t.token_to_id(END)
    t.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, end)])
    return t


def batches(encoded: list[tuple[list[int], int]], size: int, rng: random.Random):
    """Entries of about one length together, padded to one of a few; only glosses are learnt."""
    order = list(range(len(encoded)))
    rng.shuffle(order)
    groups = []
    for start in range(0, len(order), 64 * size):
        some = sorted(order[start : start + 64 * size], key=lambda i: len(encoded[i][0]))
        # Whole groups only: the rest of this epoch's order comes with the next.
        groups += [some[i : i + size] for i in range(0, len(some) - size + 1, size)]
    rng.shuffle(groups)
    for group in groups:
        longest = -(-max(len(encoded[i][0]) for i in group) // 16) * 16
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        labels = torch.full((len(group), longest), -100)
        for row, i in enumerate(group):
            tokens, gloss = encoded[i]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, gloss : len(tokens)] = torch.tensor(tokens[gloss:])
        yield ids, labels


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--minutes", type=float, default=90)
    args.add_argument("--batch", type=int, default=96, help="entries a step")
    args.add_argument("--rate", type=float, default=3e-3)
    args.add_argument("--vocab", type=int, default=4096)
    args.add_argument("--compile", action="store_true", help="twice the rate, after some minutes of compiling")
    args.add_argument("--only", choices=["common", "things"], help="a smaller set of words alone")
    args.add_argument("--resume", action="store_true", help="go on from OUT_DIR, with the rate falling anew")
    args = args.parse_args()
    torch.manual_seed(1)
    rng = random.Random(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    texts = entries()
    rng.shuffle(texts)
    held, train = texts[::HELD_OUT], [t for i, t in enumerate(texts) if i % HELD_OUT]
    args.out.mkdir(parents=True, exist_ok=True)
    t = tokenizer([f"{q}\n{g}" for q, g, _ in train], args.vocab)
    t.save(str(args.out / "tokenizer.json"))
    settings = {"bos_token": END, "eos_token": END, "chat_template": TEMPLATE}
    (args.out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    (args.out / "held_out.txt").write_text("\n".join(f"{q} {g}" for q, g, _ in held) + "\n")
    end = t.token_to_id(END)
    encoded = []
    for question, gloss, sets in train:
        if args.only and args.only not in sets:
            continue
        ask = t.encode(f"{question}\n").ids
        tokens = [*ask, *t.encode(gloss, add_special_tokens=False).ids, end][:LENGTH]
        if len(tokens) > len(ask):
            encoded.append((tokens, len(ask)))

    if args.resume:
        model = LlamaForCausalLM.from_pretrained(
            args.out, dtype=torch.float32, attn_implementation="eager").to(device)
    else:
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=args.vocab, hidden_size=288, intermediate_size=768, num_hidden_layers=6,
            num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5,
            tie_word_embeddings=True, bos_token_id=end, eos_token_id=end,
            attn_implementation="eager")).to(device)  # of short sequences the fastest
    body = torch.compile(model.model, dynamic=False) if args.compile else model.model
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(texts):,} entries, "
          f"{sum(len(e) for e, _ in encoded):,} tokens an epoch", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)

    start, step, seen, mean = time.time(), 0, 0, None
    while True:
        for ids, labels in batches(encoded, args.batch, rng):
            spent = (time.time() - start) / (60 * args.minutes)
            if spent >= 1:
                model.save_pretrained(args.out)
                return
            warm = min(1.0, (step + 1) / 200)
            for group in optimiser.param_groups:
                group["lr"] = args.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * spent)))
            with torch.autocast(device, dtype=torch.bfloat16):
                hidden = body(ids.to(device), use_cache=False).last_hidden_state[:, :-1]
                next = labels[:, 1:].to(device)
                logits = model.lm_head(hidden[next != -100])
            loss = torch.nn.functional.cross_entropy(logits.float(), next[next != -100])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step, seen = step + 1, seen + ids.numel()
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
            if step % 50 == 0:
                rate = seen / (time.time() - start)
                print(f"step {step}, {spent:.0%} of the time, {rate:,.0f} tokens/s, loss {mean:.3f}", flush=True)
            if step % 500 == 0:
                model.save_pretrained(args.out)


main()
