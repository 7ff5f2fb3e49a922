//! Classified texts.

use nesa_model::{
    interpreter,
    manifest::{Activation, ClassesConfig, Head, Reading},
};

use super::*;
use crate::query::{TextInput, classify_text::committed, engine::TextEngine};

fn model(brought: bool) -> Model {
    let hidden = Some(Activation::Tanh);
    let classes = ClassesConfig { classes: 3, hidden, tanh_entries: 0, label_bytes: 0 };
    let head = Head { classes: Some(classes), ..Head::default() };
    let reading = Reading { separators: 1, segments: true, brought, ..Reading::default() };
    let artifact = toy::artifact_with(&ToyConfig::default(), head, reading).unwrap();
    Model::open(&artifact).unwrap()
}

/// A text, and a pair.
fn inputs() -> [TextInput; 2] {
    let [a, b] = [0, 1].map(|i| texts()[i].clone());
    [TextInput::single(a.clone()), TextInput { text: b, pair: Some(a) }]
}

fn classified() -> Fixture {
    classified_by(model(false), None)
}

fn classified_by(model: Model, engine: Option<&dyn TextEngine>) -> Fixture {
    let work = block_on(Work::classify_texts(&model, &inputs(), engine)).unwrap();
    let Work::Read { texts: tokens, plan } = &work else { panic!("texts") };
    let gather = Vectors::new(&model, tokens, plan);
    run(ExactModel::Encoder(model.clone()), committed(&inputs()), gather)
}

#[tokio::test]
async fn classes_verify_and_the_texts_are_part_of_them() {
    let (fixture, model) = (classified(), model(false));
    let report = fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
    assert_eq!((report.summary.classes.len(), report.summary.vectors.len()), (2, 0));
    let [single, pair] = inputs();
    let single = model.tokenizer().unwrap().encode(&single.text);
    let pair = model.tokenizer().unwrap().encode_pair(&pair.text, &pair.pair.unwrap()).unwrap();
    for (classified, tokens) in report.summary.classes.iter().zip([single, pair]) {
        let alone = interpreter::embed(&model, &tokens).unwrap();
        assert_eq!(classified.logits, alone.values);
        let greatest = alone.values.iter().max().unwrap();
        let class = alone.values.iter().position(|v| v == greatest).unwrap();
        assert_eq!(classified.class, class);
        assert_eq!(classified.label.as_deref(), Some(&*format!("class {class}")));
    }
    let changes: [fn(&mut OpenedReceipt); 9] = [
        |r| r.texts[0] = r.texts[0].replace('a', "e"),
        // The same words, as another pair.
        |r| r.texts[1] = r.texts[1].replace("it\",\"a", "it a\",\""),
        |r| r.texts[0].push(' '),
        |r| r.texts = texts(),
        |r| r.texts.swap(0, 1),
        |r| r.texts.truncate(1),
        |r| r.answer.0[0] ^= 1,
        |r| r.messages.truncate(r.messages.len() - 1),
        // The last message is of the head.
        |r| r.messages.last_mut().unwrap().seed.0[0] ^= 1,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut changed = fixture.receipt.clone();
        change(&mut changed);
        assert!(verdict(&fixture, &changed).await.is_err(), "change {i}");
    }
}

/// A tokenizer that the model brings reads the same words as tokens of its own; without an engine for it
/// nothing is claimed.
#[cfg(feature = "text")]
#[tokio::test]
async fn brought_tokenizers_read_what_was_committed_to() {
    let fixture = classified_by(model(true), Some(&crate::query::NativeText));
    let report = fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
    let model = model(true);
    // "a b c" is three words of the vocabulary.
    let alone = interpreter::embed(&model, &model.frame().single(&[4, 6, 8])).unwrap();
    assert_eq!(report.summary.classes[0].logits, alone.values);
    let without = fixture.receipt.verify_with(&fixture.chain, &fixture.model, None).await;
    assert!(without.unwrap_err().got.contains("no tokenizers"));
    let mut changed = fixture.receipt.clone();
    changed.texts[0] = changed.texts[0].replace('a', "b");
    assert!(verdict(&fixture, &changed).await.is_err());
}

/// Logits of a text are no vector to compare, and a class is none of an embedding.
#[tokio::test]
async fn another_family_does_not_fit() {
    let (classes, vectors) = (classified(), fixture());
    for (receipt, of) in [(&classes, &vectors), (&vectors, &classes)] {
        let failure = receipt.receipt.verify(&of.chain, &of.model).await.unwrap_err();
        assert_eq!(failure.what, "model");
    }
}
