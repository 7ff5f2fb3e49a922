//! The own WordPiece against the `tokenizers` crate: every character, then a varied corpus.
//!
//! With `NESA_WRITE_UNICODE_TABLES=1` the first test writes `shared/model/src/unicode_tables.rs`
//! from the oracle instead of comparing with it.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::collections::BTreeMap;
use std::fmt::Write as _;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

fn every_char() -> impl Iterator<Item = char> {
    (0..=0x10ffff).filter_map(char::from_u32)
}

fn normalized(text: &str) -> String {
    let mut s = NormalizedString::from(text);
    BertNormalizer::default().normalize(&mut s).unwrap();
    s.get().to_owned()
}

/// As cased models have it.
fn normalized_cased(text: &str) -> String {
    let mut s = NormalizedString::from(text);
    BertNormalizer::new(true, true, None, false).normalize(&mut s).unwrap();
    s.get().to_owned()
}

/// Whether the oracle splits around this (already folded) character.
fn punctuation(c: char) -> bool {
    let mut s = PreTokenizedString::from(format!("a{c}a"));
    BertPreTokenizer.pre_tokenize(&mut s).unwrap();
    s.get_splits(OffsetReferential::Normalized, OffsetType::Byte).len() == 3
}

#[derive(Default)]
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    fn add(&mut self, code: u32) {
        match self.0.last_mut() {
            // Surrogates are no characters; a range may run over them.
            Some(r) if r.1 + 1 == code || (r.1 == 0xd7ff && code == 0xe000) => r.1 = code,
            _ => self.0.push((code, code)),
        }
    }
}

fn tables() -> String {
    let (mut dropped, mut spaces, mut marks) = <(Ranges, Ranges, Ranges)>::default();
    let mut controls = Ranges::default();
    let mut mapped = Vec::new();
    let mut long: Vec<u32> = Vec::new();
    let mut seen: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
    for c in every_char() {
        let code = c as u32;
        if !c.is_ascii() && punctuation(c) {
            marks.add(code);
        }
        let cased = normalized_cased(&c.to_string());
        if cased.is_empty() {
            controls.add(code);
        }
        if (0xac00..0xac00 + 11_172).contains(&code) {
            continue;
        }
        let text = normalized(&c.to_string());
        let spaced = text.strip_prefix(' ').and_then(|t| t.strip_suffix(' '));
        let text = spaced.unwrap_or(&text);
        if text.is_empty() {
            dropped.add(code);
        } else if text == " " {
            assert_eq!(cased, " ", "{code:x}");
            spaces.add(code);
        } else if !c.is_ascii() && text.chars().ne([c]) {
            let codes: Vec<u32> = text.chars().map(|c| c as u32).collect();
            match codes[..] {
                [one] => mapped.push((code, one)),
                _ => {
                    let at = *seen.entry(codes.clone()).or_insert_with(|| {
                        long.extend(&codes);
                        long.len() - codes.len()
                    });
                    mapped.push((code, 1 << 31 | (codes.len() as u32) << 16 | at as u32));
                }
            }
        }
    }
    let mut out = String::from(
        "//! Generated character data; see `unicode.rs`.\n//!\n//! Written by the test \
         `full-node/compiler/tests/tokenizer.rs` with `NESA_WRITE_UNICODE_TABLES=1`.\n\n",
    );
    let mut pairs = |name: &str, doc: &str, rows: &[(u32, u32)]| {
        write!(out, "/// {doc}\n#[rustfmt::skip]\npub(crate) const {name}: &[(u32, u32)] = &[")
            .unwrap();
        for (i, (a, b)) in rows.iter().enumerate() {
            out.push_str(if i % 6 == 0 { "\n    " } else { " " });
            write!(out, "({a:#x}, {b:#x}),").unwrap();
        }
        out.push_str("\n];\n\n");
    };
    pairs("DROPPED", "Ranges of characters that fold to nothing.", &dropped.0);
    pairs(
        "CONTROLS",
        "Ranges of characters that fold to nothing in cased models too.",
        &controls.0,
    );
    pairs("SPACES", "Ranges of characters that fold to one space.", &spaces.0);
    pairs("PUNCTUATION", "Ranges of characters that stand alone, beyond ASCII.", &marks.0);
    pairs(
        "MAPPED",
        "A character and what it folds to: one character, or with bit 31 set a length (bits 16 to\n/// 22) and a place in `MAPPED_LONG`.",
        &mapped,
    );
    out.push_str(
        "/// Folded forms of several characters.\n#[rustfmt::skip]\npub(crate) const MAPPED_LONG: &[u32] = &[",
    );
    for (i, code) in long.iter().enumerate() {
        out.push_str(if i % 12 == 0 { "\n    " } else { " " });
        write!(out, "{code:#x},").unwrap();
    }
    out.push_str("\n];\n");
    out
}

#[test]
fn character_tables_are_the_oracles() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/model/src/unicode_tables.rs");
    let expected = tables();
    if std::env::var_os("NESA_WRITE_UNICODE_TABLES").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == expected, "the tables differ");
}

/// Every character as cased models read it.
#[test]
fn cased_characters_are_the_oracles() {
    let reading = nesa_model::manifest::Reading { cased: true, ..Default::default() };
    let config = nesa_model::manifest::TokenizerConfig {
        vocab_bytes: 0,
        unknown: 0,
        start: 1,
        end: 2,
        max_word_chars: 100,
    };
    // A word of any character but those that stand alone is what it is known by.
    for c in every_char().filter(|c| *c != '\n') {
        let folded = normalized_cased(&c.to_string());
        let word = folded.trim();
        let vocab = match word {
            "" | "u" | "s" | "e" => "u\ns\ne\n".to_owned(),
            word => format!("u\ns\ne\n{word}\n"),
        };
        let count = vocab.lines().count();
        let own =
            nesa_model::Tokenizer::new(&config, &reading, vocab.as_bytes(), count, 16).unwrap();
        let expected: &[u32] = match word {
            "" => &[1, 2],
            "u" => &[1, 0, 2],
            "s" => &[1, 1, 2],
            "e" => &[1, 2, 2],
            _ => &[1, 3, 2],
        };
        assert_eq!(own.encode(&c.to_string()).ids, expected, "{:x}", c as u32);
    }
}

/// The committed model's own tokenizer, and the oracle over the same vocabulary.
fn pair() -> (nesa_model::Tokenizer, tokenizers::Tokenizer) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/all-minilm-l6-v2.nesa");
    let file = std::fs::read(path).unwrap();
    let artifact = nesa_model::Artifact::open(file, &Default::default()).unwrap();
    let own = nesa_model::Model::open(&artifact).unwrap().tokenizer().unwrap().clone();
    let vocab: BTreeMap<&str, u32> =
        (0..own.vocab_size() as u32).map(|id| (own.token(id).unwrap(), id)).collect();
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                        "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": vocab },
    });
    (own, tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap())
}

fn assert_equal(own: &nesa_model::Tokenizer, oracle: &tokenizers::Tokenizer, text: &str) {
    let got = own.encode(text);
    let expected = oracle.encode(text, false).unwrap();
    let expected = expected.get_ids();
    let room = own.max_tokens() - 2;
    let kept = &expected[..expected.len().min(room)];
    assert_eq!(&got.ids[1..got.ids.len() - 1], kept, "{text:?}");
    assert_eq!(got.truncated, expected.len() > room, "{text:?}");
    assert_eq!((got.ids[0], got.ids[got.ids.len() - 1]), (101, 102));
}

#[test]
fn ids_equal_the_oracles_on_the_corpus() {
    let (own, oracle) = pair();
    for text in nesa_compiler::eval::CORPUS.lines() {
        assert_equal(&own, &oracle, text);
    }
    let long = nesa_compiler::eval::CORPUS.lines().take(40).collect::<Vec<_>>().join(" ");
    assert!(own.encode(&long).truncated);
    assert_equal(&own, &oracle, &long);
    for text in [
        "",
        " \t\r\n\u{b}\u{c}",
        "[CLS] [SEP] [MASK] are words here",
        "Ünïcödé ÉTÉ naïve façade Ångström ﬁ ǅ İstanbul ΣΊΣΥΦΟΣ",
        "東京タワーと北京烤鸭 한국어 각각 ไทย हिन्दी العربية עברית",
        "emoji 👩‍👩‍👧 🏳️‍🌈 \u{fffd}\u{0} zero\u{200b}width soft\u{ad}hyphen",
        "https://example.org/a_b?c=d&e=%20#f don't-can't 3.14159e-10 $5,00 «quotes» …",
    ] {
        assert_equal(&own, &oracle, text);
    }
    let word = "a".repeat(100);
    assert_equal(&own, &oracle, &format!("{word} {word}a {}", "é".repeat(100)));
}

#[test]
fn ids_equal_the_oracles_on_random_text() {
    let (own, oracle) = pair();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    // Blocks: ASCII, Latin, Greek and Cyrillic, marks and symbols, CJK, Hangul, anything.
    let blocks = [
        (0x20, 0x7f),
        (0x20, 0x7f),
        (0xa0, 0x250),
        (0x370, 0x530),
        (0x2000, 0x2c00),
        (0x3000, 0xa000),
        (0xac00, 0xd7a4),
        (0x1e00, 0x2000),
        (0, 0x11_0000),
    ];
    for _ in 0..4000 {
        let text: String = (0..next() % 60)
            .filter_map(|_| {
                let (from, to) = blocks[next() as usize % blocks.len()];
                char::from_u32(from + next() % (to - from))
            })
            // Canonical reordering moves these few marks, which are kept; see `unicode.rs`.
            .filter(|c| !reorders(*c))
            .collect();
        assert_equal(&own, &oracle, &text);
    }
}

/// Whether the oracle's decomposition can move a character that it then keeps.
fn reorders(c: char) -> bool {
    let after = normalized(&format!("{c}\u{1d165}\u{302e}"));
    let before = normalized(&format!("\u{1d165}{c}\u{302e}"));
    let kept = normalized(&c.to_string());
    let plain = normalized("\u{1d165}\u{302e}");
    after != format!("{kept}{plain}") || before != format!("\u{1d165}{kept}\u{302e}")
}

/// Texts far beyond the corpus, where the packages are installed.
#[test]
fn ids_equal_the_oracles_on_installed_texts() {
    let (own, oracle) = pair();
    for file in ["/usr/share/wordnet/data.adv", "/usr/share/games/fortunes/fortunes"] {
        let Ok(bytes) = std::fs::read(file) else { continue };
        for text in String::from_utf8_lossy(&bytes).split('\n').filter(|t| !t.is_empty()) {
            assert_equal(&own, &oracle, text);
        }
    }
}
