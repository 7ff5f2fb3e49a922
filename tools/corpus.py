#!/usr/bin/env python3
"""Draws the text collections that calibration and evaluation use.

Sources, both in Debian: WordNet 3.0 glosses and examples (package wordnet-base, WordNet licence) and
the Jargon File 4.4.7 (package jargon-text, public domain). The choice is by a fixed pseudo-random
order, so the same packages give the same files:

    python3 tools/corpus.py full-node/compiler/data
"""

import gzip
import hashlib
import re
import sys

out = sys.argv[1]


def order(items, salt):
    return sorted(items, key=lambda s: hashlib.sha256((salt + s).encode()).digest())


glosses, examples, by_file = [], [], {}
for part in ("noun", "verb", "adj", "adv"):
    for line in open(f"/usr/share/wordnet/data.{part}", encoding="utf-8"):
        if line.startswith("  ") or "|" not in line:
            continue
        head, gloss = line.split("|", 1)
        fields = head.split()
        word = fields[4].replace("_", " ")
        gloss = " ".join(gloss.split())
        quoted = re.findall(r'"([^"]{25,})"', gloss)
        plain = re.sub(r';?\s*"[^"]*"', "", gloss).strip(" ;")
        if plain:
            glosses.append(f"{word}: {plain}")
            by_file.setdefault(fields[1], []).append(f"{word.capitalize()} is {plain}.")
        examples += [q for q in quoted if q[0].isalpha()]

paragraphs = []
with gzip.open("/usr/share/doc/jargon-text/jargon.txt.gz", "rt", encoding="utf-8") as jargon:
    for p in jargon.read().split("\n\n"):
        p = " ".join(p.split())
        if 80 < len(p) < 1400 and p.count(" ") > 12 and "__" not in p:
            paragraphs.append(p)

passages = []
for name in sorted(by_file):
    rows = order(by_file[name], "passage")
    for size in (4, 7, 10, 14):
        rows, take = rows[size:], rows[:size]
        if len(take) == size:
            passages.append(" ".join(take))

eval_set = order(glosses, "eval")[:800] + order(examples, "eval")[:800] \
    + order(paragraphs, "eval")[:650] + order(passages, "eval")[:150]
calibration = order(glosses, "cal")[:140] + order(examples, "cal")[:140] \
    + order(paragraphs, "cal")[:130] + order(passages, "cal")[:20]
chosen = set(eval_set)
calibration = [c for c in calibration if c not in chosen]
for name, items in (("corpus.txt", order(set(eval_set), "mix")), ("calibration.txt", order(set(calibration), "mix"))):
    with open(f"{out}/{name}", "w", encoding="utf-8", newline="\n") as f:
        f.write("\n".join(items) + "\n")
    print(name, len(items), "lines")
