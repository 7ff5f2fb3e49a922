//! The example questions do what the page promises, on the very model that the network runs.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_model::{Artifact, Embedding, EncoderRun, Model, ModelLimits, PlainEngine};
use nesa_page::sample::{NOTES, QUESTIONS};

fn model() -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/all-minilm-l6-v2.nesa");
    let artifact = Artifact::open(std::fs::read(path).unwrap(), &ModelLimits::default()).unwrap();
    Model::open(&artifact).unwrap()
}

fn embed(model: &Model, text: &str) -> Embedding {
    let tokens = model.tokenizer().unwrap().encode(text);
    assert!(!tokens.truncated && tokens.len() <= 128, "{} tokens: {text}", tokens.len());
    let run = EncoderRun::start(model, &[tokens]).unwrap();
    run.run(&PlainEngine(model)).unwrap().remove(0)
}

#[test]
fn each_question_finds_its_note_first() {
    let model = model();
    let notes: Vec<_> = NOTES.iter().map(|(title, text)| (title, embed(&model, text))).collect();
    for (question, expected) in QUESTIONS {
        let asked = embed(&model, question);
        let mut ranked: Vec<_> = notes.iter().map(|(t, v)| (asked.similarity(v), *t)).collect();
        ranked.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        assert_eq!(*ranked[0].1, expected, "{question}: {:?}", &ranked[..4]);
        let note = NOTES.iter().find(|(title, _)| *title == expected).unwrap().1;
        // Otherwise a search for words would do as well.
        let repeated = question.split_whitespace().filter(|word| {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric());
            word.len() > 4 && note.to_lowercase().contains(&word.to_lowercase())
        });
        assert_eq!(repeated.collect::<Vec<_>>(), [""; 0], "{question}");
    }
}
