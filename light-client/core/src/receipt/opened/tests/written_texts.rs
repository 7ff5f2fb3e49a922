//! Written texts.

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
