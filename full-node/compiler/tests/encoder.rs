//! Small BERT-type checkpoints: the f32 original equals transformers, the exact form stays close to it, and
//! what cannot be compiled is named.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_compiler::source::Bert;
use nesa_compiler::{Options, Reader, compile, compile_with, yardstick};
use nesa_model::manifest::WeightForm;
use nesa_model::{Artifact, EncoderRun, Model, ModelLimits, PlainEngine, TokenIds, interpreter};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Made by `tools/conformance/bert_logits.py`.
const CASES: &str = include_str!("data/bert_logits.json");

#[derive(Deserialize)]
struct Case {
    label: String,
    config: Value,
    pooling: String,
    tensors: BTreeMap<String, Vec<usize>>,
    texts: Vec<Vec<u32>>,
    /// Where the second text of a pair begins.
    seconds: Vec<Option<usize>>,
    outputs: Vec<Vec<f32>>,
}

impl Case {
    fn tokens(&self) -> Vec<TokenIds> {
        let both = self.texts.iter().zip(&self.seconds);
        both.map(|(ids, &second)| TokenIds { ids: ids.clone(), second, truncated: false }).collect()
    }
}

fn cases() -> Vec<Case> {
    serde_json::from_str(CASES).unwrap()
}

fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// As `weights` in the script.
fn weights(name: &str, count: usize) -> Vec<f32> {
    let fold = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, fold);
    let unit = |i: usize| (splitmix(seed.wrapping_add(i as u64)) >> 40) as f64 / f64::from(1 << 24);
    let gain = name.to_lowercase().contains("norm") && name.ends_with("weight");
    let value = |u: f64| if gain { 0.5 + u } else { (u - 0.5) / 2.0 };
    (0..count).map(|i| value(unit(i)) as f32).collect()
}

/// Letters, digits and specials: the 64 tokens of every case.
fn tokenizer() -> Value {
    specials_of(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
}

/// The same under other names for the specials.
fn specials_of(specials: [&str; 4]) -> Value {
    let specials = specials.map(String::from);
    let letters = ('a'..='z').flat_map(|c| [c.to_string(), format!("##{c}")]);
    let digits = (0..8).map(|d| d.to_string());
    let tokens: Vec<String> = specials.into_iter().chain(letters).chain(digits).collect();
    let vocab: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(i, t)| (&**t, i)).collect();
    json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

/// As many tokens of byte-level BPE.
fn byte_level() -> Value {
    let specials = ["<unk>", "<pad>", "<s>", "</s>"].map(String::from);
    let letters = ('A'..='Z').chain('a'..='z').chain('0'..='7').map(String::from);
    let vocab: BTreeMap<String, usize> =
        specials.into_iter().chain(letters).enumerate().map(|(i, t)| (t, i)).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 2, "content": "<s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true},
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 3], "cls": ["<s>", 2],
            "trim_offsets": true, "add_prefix_space": false},
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "vocab": vocab, "merges": []},
    })
}

/// Writes a case as a Hugging Face folder.
fn write(case: &Case, change: impl Fn(&str, &mut Vec<f32>)) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("checkpoint");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("config.json"), case.config.to_string()).unwrap();
    let described = match case.config["model_type"].as_str() {
        Some("mpnet") => specials_of(["<pad>", "[UNK]", "<s>", "</s>"]),
        Some("roberta") => byte_level(),
        _ => tokenizer(),
    };
    std::fs::write(dir.join("tokenizer.json"), described.to_string()).unwrap();
    if case.pooling != "mean" {
        std::fs::create_dir(dir.join("1_Pooling")).unwrap();
        let mode = format!(
            "pooling_mode_{}_token{}",
            case.pooling,
            if case.pooling == "max" { "s" } else { "" }
        );
        std::fs::write(dir.join("1_Pooling/config.json"), json!({ mode: true }).to_string())
            .unwrap();
    }
    let data: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = case
        .tensors
        .iter()
        .map(|(name, shape)| {
            let mut values = weights(name, shape.iter().product());
            change(name, &mut values);
            (name, (shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        })
        .collect();
    let views: BTreeMap<&String, TensorView<'_>> = data
        .iter()
        .map(|(name, (shape, bytes))| {
            (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        })
        .collect();
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
    (parent, dir)
}

fn exact(model: &Model, text: &TokenIds) -> Vec<f32> {
    let run = EncoderRun::start(model, std::slice::from_ref(text)).unwrap();
    let fast = run.run(&PlainEngine(model)).unwrap().remove(0);
    assert_eq!(fast, interpreter::embed(model, text).unwrap());
    fast.to_f32()
}

#[test]
fn the_original_equals_transformers() {
    for case in cases() {
        let (_parent, dir) = write(&case, |_, _| ());
        let bert = Bert::load(&dir).unwrap();
        for (got, expected) in
            yardstick::run(&bert, &case.tokens()).unwrap().iter().zip(&case.outputs)
        {
            assert_eq!(got.len(), expected.len(), "{}", case.label);
            for (got, expected) in got.iter().zip(expected) {
                let error = (got - expected).abs();
                assert!(error < 1e-5, "{}: {got}, expected {expected}", case.label);
            }
        }
    }
}

#[test]
fn the_exact_form_stays_close_to_transformers() {
    for case in cases() {
        let (_parent, dir) = write(&case, |_, _| ());
        let bert = Bert::load(&dir).unwrap();
        let artifact = compile_with(&bert, &Options::default(), &mut |_| ()).unwrap();
        let model = Model::open(&artifact).unwrap();
        let labels = bert.classes.as_ref().map_or(0, |c| c.labels.len());
        assert_eq!(model.labels().len(), labels, "{}", case.label);
        let (mut error, mut size) = (0.0, 0.0);
        for (text, expected) in case.tokens().iter().zip(&case.outputs) {
            for (got, expected) in exact(&model, text).iter().zip(expected) {
                error += f64::from(got - expected).powi(2);
                size += f64::from(*expected).powi(2);
            }
        }
        let relative = (error / size).sqrt();
        println!("{}: relative error {relative:.5}", case.label);
        assert!(relative < 0.03, "{}: {relative}", case.label);
    }
}

/// Four bits lose more, but not the model; and the same file comes out whole or a tensor at a time.
#[test]
fn four_bits_stay_near() {
    for case in cases() {
        let (parent, dir) = write(&case, |_, _| ());
        let bert = Bert::load(&dir).unwrap();
        let options = Options { weights: WeightForm::Nibbles, ..Options::default() };
        let artifact = compile_with(&bert, &options, &mut |_| ()).unwrap();
        assert_eq!(artifact.header().manifest().version(), 7, "{}", case.label);
        let out = parent.path().join("four.nesa");
        compile(&dir, &out, &options, |_| ()).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), artifact.to_file());
        let model = Model::open(&artifact).unwrap();
        let (mut error, mut size) = (0.0, 0.0);
        for (text, expected) in case.tokens().iter().zip(&case.outputs) {
            for (got, expected) in exact(&model, text).iter().zip(expected) {
                error += f64::from(got - expected).powi(2);
                size += f64::from(*expected).powi(2);
            }
        }
        let relative = (error / size).sqrt();
        println!("{}: relative error {relative:.5}", case.label);
        assert!(relative < 0.3, "{}: {relative}", case.label);
    }
}

/// The file that is written a tensor at a time is the one that memory would have held.
#[test]
fn files_equal_artifacts() {
    for case in [cases().remove(0), cases().remove(6), cases().remove(7)] {
        let (parent, dir) = write(&case, |_, _| ());
        let out = parent.path().join("model.nesa");
        let summary = compile(&dir, &out, &Options::default(), |_| ()).unwrap();
        let file = std::fs::read(&out).unwrap();
        let bert = Bert::load(&dir).unwrap();
        let artifact = compile_with(&bert, &Options::default(), &mut |_| ()).unwrap();
        assert_eq!(file, artifact.to_file());
        assert_eq!((summary.digest, summary.bytes), (artifact.digest(), file.len()));
        let version = artifact.header().manifest().version();
        let expected = match &*case.label {
            "bert, mean" => 1,
            "bert, first" => 4,
            _ => 6,
        };
        assert_eq!(version, expected);
        Artifact::open(file, &ModelLimits::default()).unwrap();
    }
}

/// What transformers' own tokenizers make of texts and pairs.
#[derive(Deserialize)]
struct Read {
    label: String,
    tokenizer: Value,
    #[serde(rename = "maxTokens")]
    max_tokens: usize,
    read: Vec<ReadText>,
}

#[derive(Deserialize)]
struct ReadText {
    texts: Vec<String>,
    ids: Vec<u32>,
    types: Option<Vec<usize>>,
}

/// Made by `tools/conformance/bert_tokens.py`.
const READ: &str = include_str!("data/bert_tokens.json");

/// A case with the tokenizer and the limit of another checkpoint.
fn write_with(case: &mut Case, read: &Read) -> (tempfile::TempDir, PathBuf) {
    let vocab = read.tokenizer["model"]["vocab"].as_object().unwrap().len();
    case.config["vocab_size"] = vocab.into();
    for (name, shape) in &mut case.tensors {
        if name.ends_with("word_embeddings.weight") {
            shape[0] = vocab;
        }
    }
    let (parent, dir) = write(case, |_, _| ());
    std::fs::write(dir.join("tokenizer.json"), read.tokenizer.to_string()).unwrap();
    let settings = json!({ "model_max_length": read.max_tokens });
    std::fs::write(dir.join("tokenizer_config.json"), settings.to_string()).unwrap();
    (parent, dir)
}

#[test]
fn texts_and_pairs_are_read_as_transformers_reads_them() {
    let all: Vec<Read> = serde_json::from_str(READ).unwrap();
    for read in &all {
        let kind = read.label.split(',').next().unwrap();
        let mut like = cases().into_iter().find(|case| case.label.starts_with(kind)).unwrap();
        let (_parent, dir) = write_with(&mut like, read);
        let bert = Bert::load(&dir).unwrap();
        let artifact = compile_with(&bert, &Options::default(), &mut |_| ()).unwrap();
        let model = Model::open(&artifact).unwrap();
        let reader = Reader::of(&model).unwrap();
        assert_eq!(model.reading().cased, read.label.contains(", cased"));
        assert_eq!(model.reading().brought, kind == "roberta");
        for ReadText { texts, ids, types } in &read.read {
            let got = match &texts[..] {
                [text] => reader.encode(text).unwrap(),
                [text, pair] => reader.encode_pair(text, pair).unwrap().unwrap(),
                other => panic!("{other:?}"),
            };
            assert_eq!(&got.ids, ids, "{}: {texts:?}", read.label);
            // Models without segments do not tell types.
            if let Some(types) = types {
                let second = types.iter().position(|&of| of == 1);
                assert_eq!(got.second, second, "{}: {texts:?}", read.label);
            }
        }
    }
}

/// An encoder that embeds reads no pairs, and says so.
#[test]
fn embeddings_are_of_single_texts() {
    let case = cases().remove(6);
    let (_parent, dir) = write(&case, |_, _| ());
    let bert = Bert::load(&dir).unwrap();
    let artifact = compile_with(&bert, &Options::default(), &mut |_| ()).unwrap();
    let model = Model::open(&artifact).unwrap();
    assert!(model.tokenizer().unwrap().encode_pair("a", "b").is_none());
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let case = cases().remove(0);
    let compile_in = |dir: &Path| {
        let out = dir.join("out.nesa");
        let error = compile(dir, &out, &Options::default(), |_| ()).unwrap_err().to_string();
        let left: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        let stray = |name: &std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.ends_with(".nesa") || name.ends_with(".part")
        };
        assert!(!left.iter().any(stray), "{left:?}");
        error
    };
    let fails = |change: &dyn Fn(&mut Value)| {
        let (_parent, dir) = write(&case, |_, _| ());
        let mut config = case.config.clone();
        change(&mut config);
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        compile_in(&dir)
    };
    let contains = |error: String, words: &[&str]| {
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    };
    contains(
        fails(&|c| c["model_type"] = "electra".into()),
        &["model_type", "electra", "distilbert", "roberta", "mpnet"],
    );
    // A RoBERTa with the tokenizer of a BERT.
    let like = cases().into_iter().find(|case| case.label.starts_with("roberta")).unwrap();
    let (_parent, dir) = write(&like, |_, _| ());
    std::fs::write(dir.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    contains(compile_in(&dir), &["tokenizer model", "WordPiece", "BPE"]);
    let mut described = byte_level();
    described["model"]["vocab"].as_object_mut().unwrap().remove("</s>");
    std::fs::write(dir.join("tokenizer.json"), described.to_string()).unwrap();
    contains(compile_in(&dir), &["vocabulary", "without </s>"]);
    let mpnet = |change: &dyn Fn(&mut Value)| {
        let case = cases().into_iter().find(|case| case.label.starts_with("mpnet")).unwrap();
        let (_parent, dir) = write(&case, |_, _| ());
        let mut config = case.config.clone();
        change(&mut config);
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        compile_in(&dir)
    };
    contains(
        mpnet(&|c| c["relative_attention_num_buckets"] = 16.into()),
        &["relative_attention_num_buckets", "16", "32"],
    );
    contains(
        mpnet(&|c| c["pad_token_id"] = 400.into()),
        &["max_position_embeddings", "162", "padding"],
    );
    contains(
        mpnet(&|c| c["num_attention_heads"] = 8.into()),
        &["encoder.relative_attention_bias.weight", "[32, 4]", "[32, 8]"],
    );
    contains(fails(&|c| c["hidden_act"] = "mish".into()), &["hidden_act", "mish", "gelu"]);
    contains(
        fails(&|c| c["position_embedding_type"] = "relative_key".into()),
        &["position_embedding_type", "relative_key", "absolute"],
    );
    contains(
        fails(&|c| c["architectures"] = json!(["BertForTokenClassification"])),
        &["architecture", "BertForTokenClassification", "ForSequenceClassification"],
    );
    contains(fails(&|c| c["id2label"] = json!({"0": "a", "2": "b"})), &["id2label"]);
    for other in ["regression", "multi_label_classification"] {
        let single = "single_label_classification";
        contains(fails(&|c| c["problem_type"] = other.into()), &["problem_type", other, single]);
    }
    contains(fails(&|c| c["num_attention_heads"] = 5.into()), &["heads", "5 of 48"]);
    contains(fails(&|c| c["num_hidden_layers"] = 0.into()), &["num_hidden_layers", "0"]);
    for size in [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
        "max_position_embeddings",
    ] {
        for got in [(1 << 20) + 1, 1 << 60, u64::MAX] {
            contains(fails(&|c| c[size] = got.into()), &[size, &got.to_string(), "1 to 2^20"]);
        }
    }
    // Sizes that are read, of tensors that are not there.
    contains(
        fails(&|c| c["type_vocab_size"] = u64::MAX.into()),
        &["token_type_embeddings", "1048576"],
    );
    contains(fails(&|c| c["num_hidden_layers"] = (1 << 20).into()), &["layers of 1048576"]);
    contains(
        fails(&|c| c["intermediate_size"] = 81.into()),
        &["bert.encoder.layer.0.intermediate.dense.weight", "[80, 48]", "[81, 48]"],
    );

    let (_parent, dir) = write(&case, |name, values| {
        if name == "bert.encoder.layer.1.output.dense.weight" {
            values[7] = f32::NAN;
        }
    });
    contains(compile_in(&dir), &["bert.encoder.layer.1.output.dense.weight", "value 7 is NaN"]);

    // A file cut short, and one whose bytes are another file's.
    let file = dir.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 4]).unwrap();
    contains(compile_in(&dir), &["model.safetensors", "bytes of tensors, its header names"]);
    std::fs::write(&file, b"PK\x03\x04 is no safetensors file").unwrap();
    contains(compile_in(&dir), &["model.safetensors", "a header of"]);
    std::fs::remove_file(&file).unwrap();
    contains(compile_in(&dir), &["model.safetensors", "No such file"]);

    // Hostile vocabularies.
    let (_parent, dir) = write(&case, |_, _| ());
    let vocabulary = |change: &dyn Fn(&mut Value)| {
        let mut tokenizer = tokenizer();
        change(&mut tokenizer);
        std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        compile_in(&dir)
    };
    contains(
        vocabulary(&|t| t["model"]["vocab"]["x"] = 99_999_999.into()),
        &["vocabulary entry", "99999999"],
    );
    contains(vocabulary(&|t| t["model"]["vocab"]["x\ny"] = 5.into()), &["vocabulary entry"]);
    contains(
        vocabulary(&|t| t["normalizer"]["strip_accents"] = false.into()),
        &["tokenizer settings", "lowercase true", "strip_accents Some(false)", "uncased"],
    );
    contains(
        vocabulary(&|t| t["normalizer"]["clean_text"] = false.into()),
        &["tokenizer settings", "clean_text false"],
    );
    contains(vocabulary(&|t| t["model"] = json!({"type": "BPE"})), &["tokenizer.json"]);
    contains(vocabulary(&|t| *t = json!([[[[]]]])), &["tokenizer.json"]);
    std::fs::write(dir.join("tokenizer.json"), r#"{"x":"#.repeat(100_000)).unwrap();
    contains(compile_in(&dir), &["tokenizer.json"]);
}
