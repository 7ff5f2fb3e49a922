//! An opened receipt made over two servers in memory, and every way to bend it.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::{collections::BTreeMap, sync::Arc};

use futures::executor::block_on;
use nesa_chain::{
    action::{Lane as ChainLane, PayForQuery, Side, Verification},
    tx::Tx,
};
use nesa_crypto::SecretKey;
use nesa_masked::{
    client::{self, Candidate, Committee, Config},
    preparation::Preparation,
    server,
    spec::Lane,
};
use nesa_model::{
    ExactModel, Model,
    toy::{self, ToyConfig},
};
use nesa_primitives::{Amount, Denom};
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::query::{
    commitment,
    work::{Gather, Vectors, Work},
};
use nesa_verify::receipt::Failure;

struct Fixture {
    chain: Hash,
    model: ExactModel,
    receipt: OpenedReceipt,
}

fn texts() -> Vec<String> {
    vec!["a b c".into(), "the quick brown fox jumps over it".into()]
}

/// Two texts embedded.
fn fixture() -> Fixture {
    let model = Model::open(&toy::artifact(&ToyConfig::default()).unwrap()).unwrap();
    let work = block_on(Work::embed(&model, &texts(), None)).unwrap();
    let Work::Read { texts: tokens, plan } = &work else { panic!("vectors") };
    let gather = Vectors::new(&model, tokens, plan);
    run(ExactModel::Encoder(model.clone()), texts(), gather)
}

/// Runs one query through the lane in memory; nothing is skipped but the chain and the links.
fn run<G: Gather>(model: ExactModel, texts: Vec<String>, mut gather: G) -> Fixture {
    let mut rng = StdRng::seed_from_u64(5);
    let chain = Hash([9; 32]);
    let (payer, client_key) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
    let nodes: Vec<SecretKey> = (0..2).map(|_| SecretKey::generate(&mut rng)).collect();
    let (salt, digest) = (Hash([4; 32]), model.digest());
    let signed = Tx {
        chain,
        sender: payer.public(),
        nonce: 0,
        fee: Amount(10),
        action: Action::PayForQuery(PayForQuery {
            model: digest,
            lane: ChainLane::Masked,
            verification: Verification::Freivalds,
            max_fee: Amount(100_000),
            denom: Denom::NES,
            commitment: commitment(&chain, &salt, &digest, &texts),
            client_key: client_key.public(),
            deadline_ms: 1,
            max_tokens: 2000,
            named: None,
            terms: None,
        }),
    }
    .sign(&payer);
    let query = signed.id();
    let lane = Lane::of_model(model.served_stages()).unwrap();
    let preparation = Preparation::from_weights(
        digest,
        &lane,
        |stage| model.weights(nesa_model::StageId(stage)),
        &mut rng,
    )
    .unwrap();
    let seat = |key: &SecretKey| vec![Candidate { node: key.public(), operator: key.public() }];
    let mut session = client::Session::new(
        Config {
            chain,
            query,
            model: digest,
            price_per_token: Amount(1),
            client_key: client_key.clone(),
            ahead: 2,
            open_receipt: true,
        },
        lane.clone(),
        Committee { a: seat(&nodes[0]), b: seat(&nodes[1]) },
        Arc::new(preparation),
        gather.passes().unwrap(),
        StdRng::seed_from_u64(6),
    )
    .unwrap();
    let mut servers: BTreeMap<Side, server::Session> = [(Side::A, &nodes[0]), (Side::B, &nodes[1])]
        .into_iter()
        .map(|(side, key)| {
            let terms = server::Terms {
                chain,
                query,
                model: digest,
                client_key: client_key.public(),
                side,
                attempt: 0,
                price_per_token: Amount(1),
                budget: Amount(50_000),
                max_tokens: 2000,
            };
            (side, server::Session::new(terms, lane.clone(), key.clone()))
        })
        .collect();

    let mut actions: std::collections::VecDeque<_> = session.start().into();
    let mut transcript = None;
    while let Some(action) = actions.pop_front() {
        match action {
            client::Action::Send { link, message } => {
                let server = servers.get_mut(&link.side).unwrap();
                let reply = match server.receive(&message).unwrap() {
                    server::Received::Reply(bytes) => Some(bytes),
                    server::Received::Work(job) => {
                        let done = job.run(&model).unwrap();
                        Some(server.complete(done))
                    }
                    server::Received::Quiet => None,
                    server::Received::Finished { reply, .. } => Some(reply),
                };
                if let Some(reply) = reply {
                    actions.extend(session.received(link, &reply));
                }
            }
            client::Action::PassDone { pass, output } => gather.take(pass, output).unwrap(),
            client::Action::Done(done) => transcript = Some(done),
            client::Action::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    let guesses = gather.guesses();
    let answer = gather.answer(&digest).unwrap().digest;
    let receipt =
        OpenedReceipt::new(chain, signed, salt, texts, guesses, &transcript.unwrap(), answer);
    Fixture { chain, model, receipt }
}

async fn verdict(fixture: &Fixture, receipt: &OpenedReceipt) -> Result<(), Failure> {
    receipt.verify(&fixture.chain, &fixture.model).await.map(|_| ())
}

#[tokio::test]
async fn an_honest_opening_verifies_and_survives_its_file() {
    let fixture = fixture();
    let report = fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
    assert_eq!(report.summary.vectors.len(), 2);
    assert!(report.summary.products > 0);
    let file = fixture.receipt.to_json().unwrap();
    let again = OpenedReceipt::from_json(&file).unwrap();
    assert!(again == fixture.receipt);
    assert_eq!(again.model(), Some(fixture.model.digest()));
}

#[tokio::test]
async fn neither_r_nor_s_nor_the_prompt_prints() {
    let fixture = fixture();
    let shown = format!("{:?}", fixture.receipt);
    assert!(!shown.contains("quick"), "{shown}");
    let file = fixture.receipt.to_json().unwrap();
    let fields: serde_json::Value = serde_json::from_str(&file).unwrap();
    let mut names: Vec<&String> = fields.as_object().unwrap().keys().collect();
    names.sort();
    let expected = ["answer", "chain", "format", "messages", "payment", "salt", "servers", "texts"];
    assert_eq!(names, expected, "a new field needs a thought about secrets");
}

#[tokio::test]
async fn whatever_is_changed_is_noticed() {
    type Change = fn(&mut OpenedReceipt);
    let changes: [(&str, Change); 16] = [
        ("chain", |r| r.chain.0[0] ^= 1),
        ("payment", |r| r.payment.0[40] ^= 1),
        ("payment's signature", |r| {
            let last = r.payment.0.len() - 1;
            r.payment.0[last] ^= 1;
        }),
        ("salt", |r| r.salt.0[31] ^= 1),
        ("a word", |r| r.texts[0] = "a b d".into()),
        ("a space", |r| r.texts[0].push(' ')),
        ("order of texts", |r| r.texts.swap(0, 1)),
        ("answer", |r| r.answer.0[5] ^= 1),
        ("a node", |r| r.servers[0].node.0[0] ^= 1),
        ("a blind", |r| r.servers[1].blind.0[0] ^= 1),
        ("a leaf", |r| r.servers[0].leaves[0].0[0] ^= 1),
        ("a missing leaf", |r| {
            r.servers[1].leaves.pop();
        }),
        ("a seed", |r| r.messages[0].seed.0[0] ^= 1),
        ("a slot", |r| r.messages[0].slot.0[3] ^= 1),
        ("A's signature", |r| r.messages[1].a.1.0[0] ^= 1),
        ("B's attempt", |r| r.messages[1].b.0 = 1),
    ];
    let fixture = fixture();
    for (name, change) in changes {
        let mut changed = fixture.receipt.clone();
        change(&mut changed);
        assert!(verdict(&fixture, &changed).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn messages_cannot_be_dropped_doubled_or_exchanged() {
    let fixture = fixture();
    let mut fewer = fixture.receipt.clone();
    fewer.messages.pop();
    assert!(verdict(&fixture, &fewer).await.is_err());
    let mut more = fixture.receipt.clone();
    more.messages.push(more.messages[0].clone());
    assert!(verdict(&fixture, &more).await.is_err());
    let mut exchanged = fixture.receipt.clone();
    exchanged.messages.swap(0, 1);
    assert!(verdict(&fixture, &exchanged).await.is_err());
    let mut crossed = fixture.receipt.clone();
    let (a, b) = (crossed.messages[0].a, crossed.messages[0].b);
    (crossed.messages[0].a, crossed.messages[0].b) = (b, a);
    assert!(verdict(&fixture, &crossed).await.is_err());
    let mut twice = fixture.receipt.clone();
    twice.servers.push(twice.servers[0].clone());
    assert!(verdict(&fixture, &twice).await.is_err());
}

#[tokio::test]
async fn another_model_does_not_fit() {
    let fixture = fixture();
    let other = toy::artifact(&ToyConfig { seed: 2, ..ToyConfig::default() }).unwrap();
    let other = ExactModel::open(&other).unwrap();
    let failure = fixture.receipt.verify(&fixture.chain, &other).await.unwrap_err();
    assert_eq!(failure.what, "model");
}

#[test]
fn files_are_bounded_and_have_no_room() {
    let file = fixture().receipt.to_json().unwrap();
    let more = file.replacen('{', "{\"note\":\"trust me\",", 1);
    assert!(matches!(OpenedReceipt::from_json(&more), Err(OpenedError::Json(_))));
    let other = file.replace(OPENED_FORMAT, "nesa-opened-receipt/2");
    assert!(matches!(OpenedReceipt::from_json(&other), Err(OpenedError::Format { .. })));
    assert!(OpenedReceipt::from_json("").is_err());
}

mod images {
    use nesa_model::classifier::{self, ClassifierModel, best, toy::ToyClassifier};

    use super::*;
    use crate::query::classify::{Classes, committed};

    /// Ten images, in two passes.
    fn images(model: &ClassifierModel) -> Vec<Vec<u8>> {
        (0..10)
            .map(|n| (0..model.image_len()).map(|i| (i * 7 + n * 13) as u8 % 200).collect())
            .collect()
    }

    fn classified() -> (Fixture, ClassifierModel) {
        let artifact = classifier::toy::artifact(&ToyClassifier::default()).unwrap();
        let model = ClassifierModel::open(&artifact).unwrap();
        let work = Work::classify(&model, &images(&model)).unwrap();
        let Work::Classify { images, plan } = &work else { panic!("images") };
        let gather = Classes::new(&model, images, plan);
        (run(ExactModel::Classifier(model.clone()), committed(images), gather), model)
    }

    #[tokio::test]
    async fn classes_verify_and_the_images_are_part_of_them() {
        let (fixture, model) = classified();
        let report = fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
        assert_eq!(report.summary.classes.len(), 10);
        for (classified, image) in report.summary.classes.iter().zip(images(&model)) {
            let alone = classifier::interpreter::logits(&model, &image).unwrap();
            assert_eq!(classified.logits, alone);
            assert_eq!(Some(classified.class), best(&alone));
        }
        let changes: [fn(&mut OpenedReceipt); 7] = [
            |r| r.texts[3].replace_range(0..1, "f"),
            |r| r.texts[3] = r.texts[3].to_uppercase(),
            |r| r.texts[3].push('0'),
            |r| r.texts.swap(1, 2),
            |r| r.texts.truncate(9),
            |r| r.answer.0[0] ^= 1,
            |r| r.messages.truncate(r.messages.len() - 1),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut changed = fixture.receipt.clone();
            change(&mut changed);
            assert!(verdict(&fixture, &changed).await.is_err(), "change {i}");
        }
    }

    /// The same receipt beside a model of another family is no answer of that model.
    #[tokio::test]
    async fn another_family_does_not_fit() {
        let failure = classified().0;
        let other = fixture();
        let failure = failure.receipt.verify(&other.chain, &other.model).await.unwrap_err();
        assert_eq!(failure.what, "model");
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_paid() {
        let artifact = classifier::toy::artifact(&ToyClassifier::default()).unwrap();
        let model = ClassifierModel::open(&artifact).unwrap();
        let refused = |images: &[Vec<u8>]| match Work::classify(&model, images) {
            Ok(_) => panic!("taken"),
            Err(error) => error.to_string(),
        };
        let good = images(&model);
        assert_eq!(refused(&[]), "0 images; one query takes 1 to 256");
        let with = |bad| [&good[..3], &[bad]].concat();
        assert_eq!(refused(&with(vec![0; 5])), "image 3 has 5 values, expected 126");
        assert_eq!(refused(&with(vec![201; 126])), "image 3 holds 201, at most 200 allowed");
        let mut wide = ToyClassifier { input_bits: 8, ..ToyClassifier::default() };
        (wide.image.height, wide.image.width) = (129, 129);
        let wide = ClassifierModel::open(&classifier::toy::artifact(&wide).unwrap()).unwrap();
        let error = Work::classify(&wide, &[vec![0; wide.image_len()]]).err().unwrap();
        assert_eq!(
            error.to_string(),
            "a layer of the model has 16641 windows; 16384 can be sent masked"
        );
    }
}

mod classified_texts {
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
}

#[cfg(feature = "text")]
mod written_texts {
    use nesa_kernels::sample::Sampling;
    use nesa_model::decoder::{self, DecoderModel, toy::ToyDecoder};

    use super::*;
    use crate::query::{
        Message, NativeText, Prompt, Role, Said, drafts::Drafts, report::Listener, text::Text,
    };

    fn words() -> &'static [u8] {
        let vocab: serde_json::Map<_, _> =
            (0..50).map(|i| (format!("w{i}"), serde_json::json!(i))).collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
            "decoder": null, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
        });
        json.to_string().leak().as_bytes()
    }

    fn prompt() -> Prompt {
        let sampling = Sampling { temperature: 1 << 16, top_k: 0, top_p: 1 << 16 };
        let said = Said::Text("w7 w8 w9".into());
        Prompt { said, tokens: 5, sampling, seed: [6; 32], draft: 0 }
    }

    /// A chat as a model without a template reads it: of the same tokens as [`prompt`].
    fn chat() -> Prompt {
        let turns = [(Role::System, "w1"), (Role::User, "w7 w8 w9")];
        let turns = turns.map(|(role, text)| Message::new(role, text));
        Prompt { said: Said::Chat(turns.to_vec()), ..prompt() }
    }

    /// A prompt continued; the model's head is tied or not.
    async fn written(tied: bool, prompt: Prompt) -> Fixture {
        drafted(tied, prompt, None).await
    }

    /// The same with the guesses of a model of as many layers.
    async fn drafted(tied: bool, prompt: Prompt, layers: Option<u16>) -> Fixture {
        let toy = ToyDecoder { tokenizer: words(), tied, ..ToyDecoder::default() };
        let model = DecoderModel::open(&decoder::toy::artifact(&toy).unwrap()).unwrap();
        let work = Work::write(&model, &prompt, Some(&NativeText)).await.unwrap();
        let Work::Write { request, codec } = &work else { panic!("a text") };
        let draft = layers.map(|layers| {
            let toy = ToyDecoder { tokenizer: words(), tied, layers, ..ToyDecoder::default() };
            DecoderModel::open(&decoder::toy::artifact(&toy).unwrap()).unwrap()
        });
        let drafts = Drafts::of(draft.as_ref());
        let gather = Text::new(&model, codec, request, drafts, Listener::none());
        run(ExactModel::Decoder(model.clone()), prompt.committed(), gather)
    }

    /// A draft is part of what was paid for, and of no text.
    #[tokio::test]
    async fn a_drafted_text_verifies_and_is_the_same() {
        let drafted = Prompt { draft: 2, ..prompt() };
        assert_eq!(Prompt::from_committed(&drafted.committed()), Some(drafted.clone()));
        assert!(!prompt().committed()[1].contains("draft"), "as before there were drafts");
        let (plain, drafted) = (written(true, prompt()).await, written(true, drafted).await);
        let text = |fixture: &Fixture| fixture.receipt.answer;
        assert_eq!(text(&plain), text(&drafted));
        drafted.receipt.verify(&drafted.chain, &drafted.model).await.unwrap();
        let mut changed = drafted.receipt.clone();
        changed.texts[1] = changed.texts[1].replace("\"draft\":2", "\"draft\":1");
        assert!(verdict(&drafted, &changed).await.is_err());
    }

    /// What a model guessed is replayed from the receipt, without that model.
    #[tokio::test]
    async fn guesses_of_a_model_are_kept_and_bound() {
        let asked = Prompt { draft: 2, tokens: 9, ..prompt() };
        let plain = written(true, Prompt { tokens: 9, ..prompt() }).await;
        for layers in [1, ToyDecoder::default().layers] {
            let fixture = drafted(true, asked.clone(), Some(layers)).await;
            assert_eq!(fixture.receipt.answer, plain.receipt.answer);
            let guesses = fixture.receipt.guesses.clone().unwrap();
            assert!(!guesses.is_empty() && guesses.len().is_multiple_of(2));
            let again = OpenedReceipt::from_json(&fixture.receipt.to_json().unwrap()).unwrap();
            verdict(&fixture, &again).await.unwrap();
            let changes: [fn(&mut OpenedReceipt); 6] = [
                |r| r.guesses = None,
                |r| r.guesses.as_mut().unwrap()[0] ^= 1,
                |r| *r.guesses.as_mut().unwrap().last_mut().unwrap() ^= 1,
                |r| _ = r.guesses.as_mut().unwrap().pop(),
                |r| r.guesses.as_mut().unwrap().push(0),
                |r| r.guesses.as_mut().unwrap()[0] = u32::MAX,
            ];
            for (i, change) in changes.into_iter().enumerate() {
                let mut changed = fixture.receipt.clone();
                change(&mut changed);
                assert!(verdict(&fixture, &changed).await.is_err(), "{layers} layers, change {i}");
            }
        }
        let mut none = plain.receipt.clone();
        none.guesses = Some(Vec::new());
        assert_eq!(verdict(&plain, &none).await.unwrap_err().what, "guesses");
    }

    #[tokio::test]
    async fn a_written_text_verifies_and_its_parameters_are_part_of_it() {
        for tied in [false, true] {
            let fixture = written(tied, prompt()).await;
            let report = fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
            let text = report.summary.text.unwrap();
            assert!((1..=5).contains(&text.split_whitespace().count()), "{text:?}");
            assert_eq!(report.summary.vectors.len(), 0);
            assert_eq!(Prompt::from_committed(&fixture.receipt.texts), Some(prompt()));

            let changes: [fn(&mut OpenedReceipt); 5] = [
                |r| r.texts[0].push_str(" w9"),
                |r| r.texts[1] = r.texts[1].replace("\"tokens\":5", "\"tokens\":4"),
                |r| r.texts.truncate(1),
                |r| r.answer.0[0] ^= 1,
                |r| r.messages.truncate(r.messages.len() - 1),
            ];
            for (i, change) in changes.into_iter().enumerate() {
                let mut changed = fixture.receipt.clone();
                change(&mut changed);
                assert!(verdict(&fixture, &changed).await.is_err(), "change {i}");
            }
        }
    }

    /// A chat's receipt opens to the turns that were committed to; who said what cannot be changed.
    #[tokio::test]
    async fn a_chat_verifies_and_its_turns_are_part_of_it() {
        let (fixture, alone) = (written(false, chat()).await, written(false, prompt()).await);
        assert_eq!(fixture.receipt.answer, alone.receipt.answer, "the last question alone is read");
        fixture.receipt.verify(&fixture.chain, &fixture.model).await.unwrap();
        assert_eq!(fixture.receipt.texts[..2], ["w1", "w7 w8 w9"]);
        assert_eq!(Prompt::from_committed(&fixture.receipt.texts), Some(chat()));
        let changes: [fn(&mut OpenedReceipt); 4] = [
            |r| r.texts[0] = "w2".into(),
            |r| r.texts[2] = r.texts[2].replace("system", "assistant"),
            |r| drop(r.texts.remove(0)),
            |r| r.texts = prompt().committed(),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut changed = fixture.receipt.clone();
            change(&mut changed);
            assert!(verdict(&fixture, &changed).await.is_err(), "change {i}");
        }
    }

    /// A program without an engine says so instead of guessing.
    #[tokio::test]
    async fn without_an_engine_nothing_is_claimed() {
        let fixture = written(false, prompt()).await;
        let verdict = fixture.receipt.verify_with(&fixture.chain, &fixture.model, None).await;
        assert!(verdict.unwrap_err().got.contains("no tokenizers"));
    }
}
