//! Tokenizers of the two usual kinds: text survives, streams never give half a character, limits hold.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_tokenizer::{Limits, TextStream, TextTokenizer, TokenizerError};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// `<s>`, then 256 byte tokens as GPT-2 writes them; no merges.
fn byte_level() -> Value {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut vocab: Map<String, Value> =
        alphabet.iter().enumerate().map(|(i, c)| (c.to_string(), json!(i + 1))).collect();
    vocab.insert("<s>".into(), json!(0));
    let level = |kind: &str| json!({"type": kind, "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    tokenizer(json!({
        "pre_tokenizer": level("ByteLevel"),
        "decoder": level("ByteLevel"),
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }))
}

/// `<s>`, some letters and `▁`, and byte tokens for the rest, as Llama 2 has them.
fn byte_fallback() -> Value {
    let bytes = (0..=255u8).map(|b| format!("<0x{b:02X}>"));
    let letters = ('a'..='z').chain(['▁']).map(String::from);
    let vocab: Map<String, Value> = std::iter::once("<s>".to_owned())
        .chain(bytes)
        .chain(letters)
        .enumerate()
        .map(|(i, token)| (token, json!(i)))
        .collect();
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    tokenizer(json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"),
        ]},
        "decoder": {"type": "Sequence", "decoders": [
            replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true},
    }))
}

/// The parts every tokenizer has, and these.
fn tokenizer(parts: Value) -> Value {
    let mut all = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 7}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"},
        "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "decoder": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
    });
    for (name, part) in parts.as_object().unwrap() {
        all[name] = part.clone();
    }
    all
}

fn open(json: &Value, vocab: u32) -> TextTokenizer {
    TextTokenizer::from_json(json.to_string().as_bytes(), vocab, Limits::default()).unwrap()
}

fn both() -> [TextTokenizer; 2] {
    [open(&byte_level(), 257), open(&byte_fallback(), 284)]
}

/// All that a stream gives for tokens, and whether anything but its end held a replacement.
fn stream(tokenizer: &TextTokenizer, before: &[u32], tokens: &[u32]) -> (Vec<String>, String) {
    let mut stream = TextStream::new(tokenizer.clone(), before);
    let pieces = tokens.iter().map(|&t| stream.push(t).unwrap()).collect();
    (pieces, stream.finish().unwrap())
}

#[test]
fn special_tokens_padding_and_truncation() {
    for tokenizer in both() {
        let plain = tokenizer.encode("hello there", false).unwrap();
        let special = tokenizer.encode("hello there", true).unwrap();
        assert!(plain.len() > 10, "cut to what tokenizer.json says: {}", plain.len());
        assert_eq!(special, [&[0], &plain[..]].concat());
        assert_eq!(tokenizer.decode(&special).unwrap(), "hello there");
        assert_eq!(tokenizer.name(0).as_deref(), Some("<s>"));
        assert_eq!(tokenizer.name(9999), None);
    }
}

#[test]
fn a_character_comes_whole_or_not_at_all() {
    for tokenizer in both() {
        let tokens = tokenizer.encode("a 🦀€é", false).unwrap();
        let (pieces, rest) = stream(&tokenizer, &[], &tokens);
        assert!(pieces.iter().all(|p| !p.contains(char::REPLACEMENT_CHARACTER)), "{pieces:?}");
        assert_eq!((pieces.concat() + &rest).trim_start(), "a 🦀€é");
        assert_eq!(rest, "");
        assert_eq!(pieces.iter().filter(|p| p.contains('🦀')).count(), 1);
    }
}

#[test]
fn a_text_that_stops_inside_a_character_says_so() {
    for tokenizer in both() {
        let tokens = tokenizer.encode("x🦀", false).unwrap();
        let (pieces, rest) = stream(&tokenizer, &[], &tokens[..tokens.len() - 1]);
        assert_eq!(pieces.concat().trim_start(), "x");
        assert!(rest.contains(char::REPLACEMENT_CHARACTER), "{rest:?}");
    }
}

/// A model may write continuation bytes for ever: text still comes, and what follows is whole again.
#[test]
fn endless_broken_bytes_are_not_held_for_ever() {
    for tokenizer in both() {
        let crab = tokenizer.encode("🦀", false).unwrap();
        let broken = crab[crab.len() - 2];
        let tokens = [&[broken; 40][..], &tokenizer.encode("a🦀", false).unwrap()].concat();
        let (pieces, rest) = stream(&tokenizer, &[], &tokens);
        assert!(pieces[..40].concat().chars().count() >= 32, "{pieces:?}");
        assert!(pieces.concat().ends_with('🦀'), "{pieces:?}");
        assert_eq!(rest, "");
    }
}

#[test]
fn limits_and_damage_are_named() {
    let json = byte_level().to_string();
    let limits = Limits { max_json_bytes: 100, ..Limits::default() };
    let long = TextTokenizer::from_json(json.as_bytes(), 257, limits).unwrap_err();
    let got = json.len();
    assert_eq!(long, TokenizerError::TooLong { what: "tokenizer.json", got, max: 100 });
    let damaged = TextTokenizer::from_json(&json.as_bytes()[1..], 257, Limits::default());
    assert!(matches!(damaged, Err(TokenizerError::Json(_))));
    let limits = Limits { max_text_bytes: 3, ..Limits::default() };
    let short = TextTokenizer::from_json(json.as_bytes(), 257, limits).unwrap();
    assert!(short.encode("abc", true).is_ok());
    let long = short.encode("abcd", true).unwrap_err();
    assert_eq!(long, TokenizerError::TooLong { what: "text", got: 4, max: 3 });
}

/// A stranger's `tokenizer.json`: nested without end, rules that refer to nothing, patterns that look back for
/// ever. Refused, or done in bounded time; never a crash.
#[test]
fn hostile_tokenizers_are_refused_or_bounded() {
    let open = |json: &str| TextTokenizer::from_json(json.as_bytes(), 257, Limits::default());
    for open_bracket in ["[", "{\"a\":"] {
        let deep = open_bracket.repeat(200_000);
        assert!(matches!(open(&deep), Err(TokenizerError::Json(_))), "{open_bracket}");
    }
    let with = |key: &str, value: serde_json::Value| {
        let mut json = byte_level();
        json[key] = value;
        open(&json.to_string())
    };
    let mut merges = byte_level()["model"].clone();
    merges["merges"] = serde_json::json!(["nowhere nothing"]);
    assert!(matches!(with("model", merges), Err(TokenizerError::Part(_))));
    assert!(matches!(
        with("model", serde_json::json!({"type": "None"})),
        Err(TokenizerError::Json(_))
    ));
    let mut ids = byte_level()["model"].clone();
    ids["vocab"]["x"] = serde_json::json!(u64::MAX);
    assert!(matches!(with("model", ids), Err(TokenizerError::Part(_))));

    let start = std::time::Instant::now();
    let nested = "(".repeat(3000) + "a" + &")".repeat(3000);
    let looking = format!("(?={nested})a");
    for pattern in [
        "(a+)+$",
        "(?=(a+)+$)a",
        "(?:a|aa)+(?!a)$",
        "(x+x+)+y(?<=y)",
        "(?:(?:a{1000}){1000}){1000}",
        "(?=(?:(?:(?:a{0,100}){0,100}){0,100}){0,100}b)a",
        &nested,
        &looking,
    ] {
        let split = serde_json::json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
        });
        let Ok(tokenizer) = with("pre_tokenizer", split) else { continue };
        let text = "a".repeat(3000) + "b";
        // Whatever comes out, it comes.
        let _ = tokenizer.encode(&text, false);
    }
    // Generous: without a bound this would not end in a lifetime.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn a_tokenizer_for_another_model_is_found_out() {
    let small = open(&byte_level(), 40);
    let refused = small.encode("zzz", false).unwrap_err();
    assert!(matches!(refused, TokenizerError::Vocabulary { vocab: 40, .. }), "{refused}");
}

proptest! {
    #[test]
    fn any_text_survives(text in "\\PC{0,40}") {
        let [bytes, _] = both();
        let tokens = bytes.encode(&text, false).unwrap();
        prop_assert_eq!(bytes.decode(&tokens).unwrap(), text);
    }

    /// What a stream gives in pieces is what the tokens mean together, also where the text itself
    /// has replacement characters.
    #[test]
    fn pieces_join_to_the_whole(text in "(\\PC|\u{FFFD}){0,30}", cut in 0usize..30) {
        for tokenizer in both() {
            let all = tokenizer.encode(&text, false).unwrap();
            // A prompt ends between characters.
            let prompt: String = text.chars().take(cut).collect();
            let at = tokenizer.encode(&prompt, false).unwrap().len();
            let whole = tokenizer.decode(&all[..at]).unwrap();
            let (pieces, rest) = stream(&tokenizer, &all[..at], &all[at..]);
            prop_assert_eq!(whole + &pieces.concat() + &rest, tokenizer.decode(&all).unwrap());
        }
    }

    #[test]
    fn any_tokens_stream_without_panic(tokens in prop::collection::vec(0u32..284, 0..60)) {
        for tokenizer in both() {
            let tokens: Vec<u32> = tokens.iter().map(|t| t % 257).collect();
            let (pieces, _) = stream(&tokenizer, &[], &tokens);
            prop_assert_eq!(pieces.len(), tokens.len());
        }
    }
}
