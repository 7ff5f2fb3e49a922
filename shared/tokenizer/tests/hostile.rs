//! A stranger's `tokenizer.json`: what the models that are served bring is read as before, all else is refused
//! by name, and whatever is read neither panics nor goes on for ever.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_tokenizer::{Limits, PartError, TextStream, TextTokenizer, TokenizerError};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const VOCAB: u32 = 1000;

/// A tokenizer of letters and some merges, with these parts.
fn with(parts: &Value) -> Value {
    let letters = ["<s>", "[UNK]", "a", "b", "c", " ", "▁", "Ġ", "##a", "##b", "é", "<0x61>", "."];
    let words = ["ab", "abc", "aaa", "▁a", "▁ab", "aa"];
    let tokens = letters.iter().chain(&words).enumerate();
    let vocab: serde_json::Map<String, Value> =
        tokens.map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let mut all = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "[UNK]",
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocab,
            "merges": [["a", "b"], ["ab", "c"], ["▁", "a"]]},
    });
    for (name, part) in parts.as_object().unwrap() {
        all[name] = part.clone();
    }
    all
}

fn word_piece() -> Value {
    let mut all = with(&json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
    }));
    let vocab = all["model"]["vocab"].take();
    // Old files do not name the kind.
    all["model"] = json!({"unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": vocab});
    all
}

fn replace(from: &str, to: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": from}, "content": to})
}

fn template() -> Value {
    let piece = |id| json!({"Sequence": {"id": id, "type_id": 0}});
    let start = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    json!({"type": "TemplateProcessing", "single": [start, piece("A")],
        "pair": [start, piece("A"), start, piece("B")],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}})
}

fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

/// What models of each family bring, their vocabularies aside.
fn families() -> Vec<(&'static str, Value)> {
    let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let split = json!({"type": "Split", "pattern": {"Regex": llama3}, "behavior": "Isolated",
        "invert": false});
    let cut = |first: Value| json!({"type": "Sequence", "pretokenizers": [first, byte_level()]});
    let llama2_decoder = json!({"type": "Sequence", "decoders": [replace("▁", " "),
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    let cls = json!(["<s>", 0]);
    vec![
        (
            "llama 2",
            with(&json!({
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]},
            "post_processor": template(), "decoder": llama2_decoder})),
        ),
        (
            "mistral",
            with(&json!({
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                "split": false},
            "post_processor": template(), "decoder": llama2_decoder})),
        ),
        (
            "llama 3",
            with(&json!({
            "pre_tokenizer": cut(split.clone()), "decoder": byte_level(),
            "post_processor": {"type": "Sequence", "processors": [byte_level(), template()]}})),
        ),
        (
            "qwen 2",
            with(&json!({"normalizer": {"type": "NFC"}, "pre_tokenizer": cut(split),
            "post_processor": byte_level(), "decoder": byte_level()})),
        ),
        (
            "smollm",
            with(&json!({
            "pre_tokenizer": cut(json!({"type": "Digits", "individual_digits": true})),
            "post_processor": null, "decoder": byte_level()})),
        ),
        (
            "roberta",
            with(&json!({"pre_tokenizer": byte_level(), "decoder": byte_level(),
            "post_processor": {"type": "RobertaProcessing", "sep": cls, "cls": cls,
                "trim_offsets": true, "add_prefix_space": false}})),
        ),
        ("bert", word_piece()),
    ]
}

fn open(json: &Value) -> Result<TextTokenizer, TokenizerError> {
    TextTokenizer::from_json(json.to_string().as_bytes(), VOCAB, Limits::default())
}

/// All that is done with a tokenizer, on texts of every kind; whatever comes, nothing may break down.
fn exercise(tokenizer: &TextTokenizer) {
    let texts =
        ["", "a", "aaa", "   ", "a    b", "abc ab é ", "ﷺÅ\u{301}", "\u{0}\n<s> a<s>  ", "中a文"];
    for text in texts {
        for special in [false, true] {
            let tokens = tokenizer.encode(text, special);
            assert!(!matches!(tokens, Err(TokenizerError::Broken(_))), "{text:?}: {tokens:?}");
            let Ok(tokens) = tokens else { continue };
            let whole = tokenizer.decode(&tokens);
            assert!(!matches!(whole, Err(TokenizerError::Broken(_))), "{tokens:?}: {whole:?}");
        }
    }
    for tokens in [&[][..], &[2], &[14], &[5, 5], &[16, 6, 6], &[11, 11, 999, 7]] {
        let whole = tokenizer.decode(tokens);
        assert!(!matches!(whole, Err(TokenizerError::Broken(_))), "{tokens:?}: {whole:?}");
        let mut stream = TextStream::new(tokenizer.clone(), &[]);
        for &token in tokens {
            let piece = stream.push(token);
            assert!(!matches!(piece, Err(TokenizerError::Broken(_))), "{tokens:?}: {piece:?}");
        }
    }
}

#[test]
fn what_the_families_bring_is_the_crates_own_reading_of_it() {
    for (name, json) in families() {
        let ours = open(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
        exercise(&ours);
        let theirs: tokenizers::Tokenizer = json.to_string().parse().unwrap();
        for text in ["abc ab a", "<s> abc", "a\n b.  c", "AB é", " a <s>"] {
            let expected = theirs.encode_fast(text, true).unwrap();
            let tokens = ours.encode(text, true).unwrap();
            assert_eq!(tokens, expected.get_ids(), "{name}, {text:?}");
            let text = theirs.decode(&tokens, true).unwrap();
            assert_eq!(ours.decode(&tokens).unwrap(), text, "{name}");
        }
    }
}

/// Whether the crate by itself panics on a document that it reads.
fn crate_panics(json: &Value) -> bool {
    let use_it = || {
        let Ok(tokenizer) = json.to_string().parse::<tokenizers::Tokenizer>() else { return };
        for text in ["", "a", "aaa", "a    b", "abc ab é "] {
            let _ = tokenizer.encode_fast(text, true);
        }
        for tokens in [&[][..], &[2], &[15]] {
            let _ = tokenizer.decode(tokens, true);
        }
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(use_it)).is_err()
}

#[test]
fn parts_that_break_the_crate_are_refused_by_name() {
    let strip = |start: u64, stop: u64| json!({"type": "Strip", "content": "a", "start": start, "stop": stop});
    let cases = [
        ("stop of Strip", with(&json!({"decoder": strip(3, 3)}))),
        ("stop of Strip", with(&json!({"decoder": strip(0, u64::MAX)}))),
        (
            "Precompiled",
            with(&json!({"normalizer":
            {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}})),
        ),
        ("BPEDecoder", with(&json!({"decoder": {"type": "BPEDecoder", "suffix": "</w>"}}))),
        ("FixedLength", with(&json!({"pre_tokenizer": {"type": "FixedLength", "length": 0}}))),
    ];
    for (name, json) in cases {
        assert!(crate_panics(&json), "{name}: not what it is refused for");
        let refused = open(&json).unwrap_err();
        assert!(refused.to_string().contains(name), "{name}: {refused}");
        assert!(!matches!(refused, TokenizerError::Broken(_)), "{refused}");
    }
    let unigram = with(&json!({"model": {"type": "Unigram", "unk_id": 0, "vocab": {"a": 0}}}));
    assert!(open(&unigram).unwrap_err().to_string().contains("Unigram"));
}

/// Of the settings below, those over which the crate panics by itself. The others write other tokens each time, or
/// take memory or time without end, or panic in a chat alone.
const PANIC: [&str; 7] = [
    "bytes of a merge",
    "continuing_subword_prefix",
    "piece of a template",
    "texts of a template",
    "added token that strips",
    "added token of nothing",
    "order of parts",
];

#[test]
fn settings_that_break_the_crate_are_refused_by_name() {
    let model = |key: &str, value: Value| {
        let mut json = with(&json!({}));
        json["model"][key] = value;
        json
    };
    let mut post = template();
    post["single"][0]["SpecialToken"]["id"] = json!("nowhere");
    let missing = with(&json!({"post_processor": post}));
    let mut post = template();
    post["single"][1]["Sequence"]["id"] = json!("B");
    let other_text = with(&json!({"post_processor": post}));
    let mut post = template();
    post["special_tokens"]["<s>"]["tokens"] = json!([]);
    let nameless = with(&json!({"post_processor": post}));
    let twice = json!({"type": "Sequence", "processors": [template(), template()]});
    let added = |content: &str, lstrip: bool, rstrip: bool, normalized: bool| {
        json!({"id": 30, "content": content, "single_word": false, "lstrip": lstrip,
            "rstrip": rstrip, "normalized": normalized, "special": false})
    };
    let (word, space) = (added("a", true, true, false), added(" ", true, false, false));
    let gone = added("a", false, false, true);
    let doubled = vec![replace("a", "aa"); 20];
    let mut long_word = word_piece();
    long_word["model"]["max_input_chars_per_word"] = json!(1_000_000);
    let mut far = with(&json!({}));
    far["model"]["vocab"]["far"] = json!(u32::MAX);
    let cases = [
        ("bytes of a merge", model("merges", json!([["abc", "<0x61>"]]))),
        ("bytes of a merge", model("merges", json!(["abc <0x61>"]))),
        ("continuing_subword_prefix", model("continuing_subword_prefix", json!("▁▁"))),
        ("dropout", model("dropout", json!(0.5))),
        ("greatest token", far),
        ("characters of a word", long_word),
        ("piece of a template", missing),
        ("texts of a template", other_text),
        ("names of a piece's tokens", nameless),
        ("TemplateProcessing", with(&json!({"post_processor": twice}))),
        ("added token that strips", with(&json!({"added_tokens": [word, space]}))),
        ("lengthened", with(&json!({"normalizer": {"type": "Sequence", "normalizers": doubled}}))),
        ("lengthened", with(&json!({"normalizer": replace("", &"a".repeat(1000))}))),
        ("Prepend", with(&json!({"normalizer": {"type": "Prepend", "prepend": ""}}))),
        (
            "order of parts",
            with(&json!({"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"Regex": "b?"}, "content": " "},
            {"type": "Strip", "strip_left": true, "strip_right": false}]}})),
        ),
        (
            "added token of nothing",
            with(&json!({"normalizer": replace("a", ""), "added_tokens": [gone]})),
        ),
        ("version", with(&json!({"version": "2.0"}))),
    ];
    for (name, json) in cases {
        assert_eq!(crate_panics(&json), PANIC.contains(&name), "{name}");
        let refused = open(&json).unwrap_err();
        assert!(matches!(refused, TokenizerError::Part(_)), "{name}: {refused}");
        assert!(refused.to_string().contains(name), "{name}: {refused}");
    }
    let refused = open(&model("dropout", json!(0.5))).unwrap_err();
    let (part, got) = ("dropout", "0.5".to_owned());
    let expected = TokenizerError::Part(PartError::Unexpected { part, got, expected: "none" });
    assert_eq!(refused, expected);
}

/// Of two values of one key the crate would take the last: neither is taken.
#[test]
fn keys_that_are_there_twice_are_refused() {
    let json = with(&json!({"decoder": {"type": "Fuse"}})).to_string();
    for (from, to) in [
        ("\"decoder\":", "\"decoder\":{\"type\":\"Fuse\"},\"decoder\":"),
        ("\"merges\":", "\"merges\":[],\"merges\":"),
        ("{\"type\":\"Fuse\"}", "{\"type\":\"Fuse\",\"type\":\"BPEDecoder\",\"suffix\":\"\"}"),
        // Broken off inside the decoder, where the crate expects none.
        ("{\"type\":\"Fuse\"}", "{\"type\":\"Fuse\",\"x\":1e999}"),
    ] {
        let twice = json.replacen(from, to, 1);
        assert_ne!(twice, json);
        let refused = TextTokenizer::from_json(twice.as_bytes(), VOCAB, Limits::default());
        match refused {
            // What is not known is passed over, before the crate sees it.
            Ok(tokenizer) => assert!(to.contains("1e999"), "{to}: {tokenizer:?}"),
            Err(refused) => assert!(matches!(refused, TokenizerError::Json(_)), "{to}: {refused}"),
        }
    }
}

/// Any value that a part may have somewhere.
fn value() -> impl Strategy<Value = Value> {
    let words = [
        "",
        "a",
        " ",
        "▁",
        "é",
        "##",
        "aaa",
        "<s>",
        "[UNK]",
        "A",
        "B",
        "ab",
        "a*",
        "(",
        "\\s*",
        "(?=a)",
        "$",
        "first",
        "never",
        "Isolated",
        "MergedWithNext",
        "Contiguous",
        "Removed",
    ];
    let kinds = [
        "Strip",
        "Replace",
        "Fuse",
        "ByteFallback",
        "ByteLevel",
        "Metaspace",
        "WordPiece",
        "Sequence",
        "BPE",
        "Precompiled",
        "NFKC",
        "Prepend",
        "Split",
        "Digits",
        "Punctuation",
        "Whitespace",
        "Lowercase",
        "StripAccents",
        "BertPreTokenizer",
        "CTC",
        "FixedLength",
    ];
    let numbers = [0, 1, 2, 3, 7, 255, 256, 999, u64::from(u32::MAX), u64::MAX];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(numbers.to_vec()).prop_map(Value::from),
        select(words.to_vec()).prop_map(Value::from),
        select(kinds.to_vec()).prop_map(Value::from),
        select(words.to_vec()).prop_map(|word| json!({"Regex": word})),
        select(words.to_vec()).prop_map(|word| json!({"String": word})),
        (select(words.to_vec()), select(words.to_vec())).prop_map(|(a, b)| json!([a, b])),
    ]
}

/// Where in a document something else is put: the path by turns, each turn taken modulo what there is.
fn put(at: &mut Value, path: &[usize], value: Value) {
    let next = match (path.first(), at) {
        (Some(turn), Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(turn % map.len()).unwrap().clone();
            &mut map[&key]
        }
        (Some(turn), Value::Array(list)) if !list.is_empty() => {
            let index = turn % list.len();
            &mut list[index]
        }
        (_, at) => {
            *at = value;
            return;
        }
    };
    put(next, &path[1..], value);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Random values anywhere in what a family brings, the place chosen so that whole parts, settings and
    /// single merges are all hit.
    #[test]
    fn no_change_of_a_document_breaks_it(
        family in 0usize..7,
        changes in prop::collection::vec((prop::collection::vec(0usize..60, 1..7), value()), 1..4),
    ) {
        let (_, mut json) = families().swap_remove(family);
        for (path, value) in changes {
            put(&mut json, &path, value);
        }
        match open(&json) {
            Err(TokenizerError::Broken(over)) => prop_assert!(false, "{over}: {json}"),
            Err(_) => {}
            Ok(tokenizer) => exercise(&tokenizer),
        }
    }

    /// Random settings of accepted parts, which are read more often than not.
    #[test]
    fn no_settings_of_accepted_parts_break_them(
        words in prop::collection::vec(select(vec!["", "a", " ", "▁", "aa", "\\s", "a*", "é", "b?"]), 6),
        flags in prop::collection::vec(any::<bool>(), 8),
        start in 0u64..5,
        behavior in select(vec!["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]),
        scheme in select(vec!["first", "never", "always"]),
    ) {
        let regex = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"Regex": from}, "content": to});
        let kinds = ["NFC", "NFD", "NFKC", "NFKD"];
        let json = with(&json!({
            "added_tokens": [{"id": 30, "content": words[0], "single_word": flags[0], "lstrip": flags[1],
                "rstrip": flags[2], "normalized": flags[3], "special": flags[4]},
                {"id": 31, "content": words[1], "single_word": flags[5], "lstrip": false,
                "rstrip": flags[6], "normalized": flags[7], "special": flags[0]}],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": kinds[start as usize % 4]}, {"type": "Prepend", "prepend": words[2]},
                regex(words[3], words[4]), replace(words[5], words[0]),
                {"type": "Strip", "strip_left": flags[1], "strip_right": flags[2]}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": words[1]}, "behavior": behavior, "invert": flags[3]},
                {"type": "Punctuation", "behavior": behavior},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": flags[4]}]},
            "post_processor": {"type": "Sequence", "processors": [byte_level(), template()]},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Strip", "content": "a", "start": start, "stop": 0},
                regex(words[2], words[3]), {"type": "ByteFallback"}, {"type": "Fuse"}]},
        }));
        match open(&json) {
            Err(TokenizerError::Broken(over)) => prop_assert!(false, "{over}: {json}"),
            Err(_) => {}
            Ok(tokenizer) => exercise(&tokenizer),
        }
    }
}
