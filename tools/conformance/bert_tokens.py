"""Writes full-node/compiler/tests/data/bert_tokens.json: what the tokenizers of transformers make of texts and pairs,
cut to the models' limits, over a made-up vocabulary with capitals and accents.

    pip install transformers && python tools/conformance/bert_tokens.py
"""

import json
import pathlib

from transformers import BertTokenizerFast, MPNetTokenizerFast, RobertaTokenizerFast

OUT = pathlib.Path(__file__).parents[2] / "full-node/compiler/tests/data/bert_tokens.json"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789éÉüßñœ東京한글"
WORDS = ["the", "The", "THE", "##ing", "##ING", "lig", "##ht", "house", "##house", "Street", "street", "café", "cafe", "##é",
         "Straße", "strasse", "un", "Un", "##un", ".", ",", "!", "?", "'", "-", "(", ")", "«", "»", "…", "¿", "e", "##e"]
TEXTS = [
    "", " \t\r\n", "The lighthouse", "the LIGHTHOUSE, and THE Street!", "Café CAFE cafe\u0301 É é e\u0301", "Straße STRASSE ß ẞ",
    "İstanbul ǅ ﬁ Ångström naïve Ünïcödé", "東京タワー 한글 각각 हिन्दी", "zero\u200bwidth soft\u00adhyphen \ufffd nul\u0000 bell\u0007",
    "[CLS] [SEP] [MASK] <s> </s>", "don't-can't (un)lighting… «¿e?»", "a\u00a0b\u2003c\u3000d", "x" * 100 + " " + "x" * 101,
    "the house un lighting " * 12, "e " * 40,
]
PAIRS = [
    ("The lighthouse", "a house"), ("", ""), ("The", ""), ("", "the"), ("Café.", "É!"),
    ("the house " * 12, "e"), ("e", "the house " * 12), ("the house " * 12, "un " * 30), ("un " * 31, "the house " * 12),
    ("e " * 8, "un " * 9), ("e " * 9, "un " * 8), ("e " * 40, "un " * 41), ("e " * 41, "un " * 40), ("e " * 40, "un " * 40),
    ("[SEP]", "[CLS] </s>"),
]


def roberta():
    """Byte-level BPE with a few merges."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    stand_in = {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(others)}
    space = stand_in[0x20]
    merges = [("t", "h"), ("th", "e"), (space, "the"), (space, "h"), ("o", "u"), ("ou", "s"), ("h", "ous"), ("i", "n"),
              (space + "h", "ous"), (space + "hous", "e"), ("u", "n"), (space, "un"), ("in", "g"), (space, "e"), ("<", "/"), ("</", "s")]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *stand_in.values(), *(a + b for a, b in merges), "<mask>"]
    return RobertaTokenizerFast(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)


def tokenizers():
    letters = [c for c in LETTERS] + [f"##{c}" for c in LETTERS]
    tokens = list(dict.fromkeys(letters + WORDS))
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tokens]
    mpnet = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", *tokens, "<mask>"]
    index = lambda names: {name: i for i, name in enumerate(names)}
    yield "bert, uncased", "bert", BertTokenizerFast(vocab=index(bert)), 24
    yield "bert, cased", "bert", BertTokenizerFast(vocab=index(bert), do_lower_case=False), 24
    yield "bert, cased, odd room", "bert", BertTokenizerFast(vocab=index(bert), do_lower_case=False), 21
    yield "roberta", "roberta", roberta(), 24
    yield "roberta, odd room", "roberta", roberta(), 25
    yield "mpnet, uncased", "mpnet", MPNetTokenizerFast(vocab=index(mpnet), unk_token="[UNK]"), 24


def main() -> None:
    cases = []
    for label, kind, tokenizer, limit in tokenizers():
        described = json.loads(tokenizer.backend_tokenizer.to_str())
        # Text is never read as special tokens here; transformers does so unless it is told.
        read = lambda *texts: tokenizer(*texts, truncation=True, max_length=limit, split_special_tokens=True)
        texts = []
        for given in [*[(t,) for t in TEXTS], *PAIRS]:
            encoded = read(*given)
            texts.append({"texts": given, "ids": encoded["input_ids"], "types": encoded.get("token_type_ids")})
        cases.append({"label": label, "kind": kind, "tokenizer": described, "maxTokens": limit, "read": texts})
    OUT.write_text(json.dumps(cases, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size, "bytes")


main()
